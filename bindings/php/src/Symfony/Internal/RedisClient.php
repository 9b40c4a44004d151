<?php

declare(strict_types=1);

namespace Synlock\Symfony\Internal;

use Synlock\Symfony\Exception\InvalidArgumentException;
use Synlock\Symfony\Exception\LockStorageException;

/**
 * Where a Redis client is connected to, as URL and options.
 *
 * @internal
 */
final class RedisClient
{
    private const DIALECT = ['dialect' => 'symfony'];
    /** @var \WeakMap<object, array{string, array<string, string|null>}>|null client of a Cluster => its place */
    private static ?\WeakMap $clusters = null;

    public static function check(object $client): void
    {
        $name = $client::class;
        $known = $client instanceof \Redis || $client instanceof \RedisArray || $client instanceof \RedisCluster
            || $client instanceof \Predis\ClientInterface || \is_callable([$client, 'getHost']);
        if (!$known) {
            throw new InvalidArgumentException("A Redis store takes a Redis, RedisArray, RedisCluster or Predis\\ClientInterface, not {$name}.");
        }
    }

    /** @return array{string, array<string, string|int|null>} */
    public static function place(object $client, string $name): array
    {
        self::$clusters ??= new \WeakMap();

        return self::$clusters[$client] ?? match (true) {
            $client instanceof \RedisArray => self::phpredis($client->_instance($client->_target($name))),
            $client instanceof \RedisCluster, $client instanceof \Symfony\Component\Cache\Traits\RedisClusterProxy => self::cluster($client),
            $client instanceof \Predis\ClientInterface => self::predis($client, $name),
            default => self::phpredis($client), // and lazy proxies of it
        };
    }

    /** @param \Redis $client */
    private static function phpredis(object $client): array
    {
        $host = $client->getHost();
        if (!\is_string($host) || $host === '') {
            throw new LockStorageException('The Redis client is not connected.');
        }
        [$user, $password] = self::login($client->getAuth());

        // A RedisArray's clients tell ports beyond 32767 as negative numbers.
        $port = (int) $client->getPort() & 0xFFFF;

        return self::server($host, $port, (int) $client->getDbNum(), $user, $password, (string) $client->getOption(\Redis::OPT_PREFIX));
    }

    /** @param \RedisCluster $client or a lazy proxy of it */
    private static function cluster(object $client): array
    {
        $ask = [];
        foreach ($client->_masters() as $at) {
            $ask[self::host($at[0]) . ":{$at[1]}"] = static fn (): mixed => $client->rawCommand($at, 'CLUSTER', 'NODES');
        }

        return self::nodesOf($client, $ask, ['prefix' => $client->getOption(\RedisCluster::OPT_PREFIX) ?: null]);
    }

    /**
     * All nodes of a Cluster, whatever they are at present: a key remembers where its hold is, and must find it again
     * when another node has become the master.
     *
     * @return list<string>
     */
    private static function nodes(string $table, string $asked): array
    {
        $nodes = [];
        foreach (\explode("\n", $table) as $line) {
            if (\preg_match('/^\S+ (\S*):(\d+)(?:@\S*)? (\S+) /', $line, $found) && $found[2] !== '0' && !\preg_match('/handshake|noaddr/', $found[3])) {
                // One that nobody has met does not know its own address.
                $nodes[] = self::host($found[1] === '' ? $asked : $found[1]) . ":{$found[2]}";
            }
        }
        \sort($nodes);

        return $nodes;
    }

    /**
     * @param array<string, \Closure(): mixed> $ask     address of a node that the client knows => what asks it for all
     * @param array<string, string|null>       $options
     */
    private static function nodesOf(object $client, array $ask, array $options): array
    {
        $place = static fn (array $nodes): array => ['redis+cluster://' . \implode(',', $nodes), self::DIALECT + $options];
        foreach ($ask as $address => $question) {
            try {
                $nodes = self::nodes((string) $question(), \preg_replace('/:\d+$/', '', $address));
            } catch (\RedisClusterException | \RedisException | \Predis\PredisException) {
                continue; // it is down, or may not be asked
            }
            if ($nodes !== []) {
                return self::$clusters[$client] = $place($nodes);
            }
        }

        return $place(\array_keys($ask));
    }

    private static function predis(\Predis\ClientInterface $client, string $name): array
    {
        $connection = $client->getConnection();
        // The options' classes moved between its versions; their names did not.
        $kind = \substr((string) \strrchr('\\' . $connection::class, '\\'), 1);
        $prefix = $client->getOptions()->prefix;
        $prefix = \is_object($prefix) ? $prefix->getPrefix() : (string) $prefix;
        if ($kind === 'RedisCluster') {
            $ask = [];
            foreach ($connection as $node) {
                $at = $node->getParameters();
                $ask[self::host($at->host) . ":{$at->port}"] = static fn (): mixed => $node->executeCommand(\Predis\Command\RawCommand::create('CLUSTER', 'NODES'));
            }

            return self::nodesOf($client, $ask, [
                'prefix' => $prefix ?: null, 'username' => $at->username ?? null, 'password' => $at->password ?? null,
            ]);
        }
        $node = match ($kind) {
            'PredisCluster' => $connection->getConnectionByKey($prefix . $name),
            'MasterSlaveReplication' => $connection->getMaster(),
            'SentinelReplication' => throw new InvalidArgumentException(
                'Behind sentinels, give their URL: new SynlockStore("redis+sentinel://HOST,HOST/MASTER?dialect=symfony").',
            ),
            default => $connection,
        };
        $at = $node->getParameters();
        $isSocket = $at->scheme === 'unix';
        $host = $isSocket ? $at->path : (\in_array($at->scheme, ['tls', 'rediss'], true) ? 'tls://' : '') . $at->host;

        return self::server($host, $isSocket ? 0 : (int) $at->port, (int) $at->database, $at->username, $at->password, $prefix);
    }

    private static function server(string $host, int $port, int $database, ?string $user, ?string $password, string $prefix): array
    {
        $options = self::DIALECT + ['db' => $database ?: null, 'username' => $user, 'password' => $password, 'prefix' => $prefix ?: null];
        $path = \preg_replace('~^unix://~', '', $host);
        if ($path[0] === '/') {
            return ['redis:' . Url::path($path), $options];
        }
        [$scheme, $host] = \preg_match('~^(?:tls|ssl|rediss)://(.*)$~', $host, $found) ? ['rediss', $found[1]] : ['redis', \preg_replace('~^tcp://~', '', $host)];

        return ["{$scheme}://" . self::host($host) . ':' . ($port ?: 6379), $options];
    }

    private static function host(string $host): string
    {
        return \str_contains($host, ':') && $host[0] !== '[' ? "[{$host}]" : $host;
    }

    /** @return array{?string, ?string} */
    private static function login(mixed $auth): array
    {
        if (\is_array($auth)) {
            $auth = \array_values($auth);

            return \count($auth) > 1 ? [$auth[0], $auth[1]] : [null, $auth[0] ?? null];
        }

        return [null, \is_string($auth) && $auth !== '' ? $auth : null];
    }
}
