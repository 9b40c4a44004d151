<?php

declare(strict_types=1);

namespace Synlock\Semaphore\Bundle;

use Synlock\Semaphore\Exception\SemaphoreException;
use Synlock\Store;

/**
 * From the bundle's `adapter` to a store.
 *
 * @internal called by the container
 */
final class Adapter
{
    /**
     * @param Store|string $adapter  a store, its URL, or an adapter of the original
     * @param object|null  $client   whose server is meant
     * @param string       $cacheDir where the original's flock adapter keeps its files
     */
    public static function open(Store|string $adapter, ?object $client, string $cacheDir): Store
    {
        if ($adapter instanceof Store) {
            return $adapter;
        }

        return match ($adapter) {
            // Its keys, so that the original and we exclude each other.
            'avtonom_semaphore.adapter.redis', 'millwright_semaphore.adapter.redis' => self::redis($client),
            'millwright_semaphore.adapter.memcached' => self::memcached($client),
            'millwright_semaphore.adapter.sem' => Store::open('sysv:'),
            'millwright_semaphore.adapter.flock' => Store::open('flock:' . \implode('/', \array_map('rawurlencode', \explode('/', $cacheDir))) . '/semaphore'),
            // APC never excluded anybody; shared memory does.
            'millwright_semaphore.adapter.apc' => Store::open('shm:avtonom-semaphore'),
            default => Store::open($adapter),
        };
    }

    private static function redis(?object $client): Store
    {
        if ($client === null) {
            throw new SemaphoreException('The adapter redis needs the service of a client: avtonom_semaphore.adapter_redis_client. Or give a URL: adapter: "redis://localhost/2?dialect=plain".');
        }
        [$host, $port, $options] = match (true) {
            $client instanceof \Predis\ClientInterface => self::predis($client),
            \is_callable([$client, 'getHost']) => self::phpredis($client),
            default => throw new SemaphoreException('The adapter redis takes a Redis or Predis client, not ' . $client::class . '.'),
        };
        $host = \preg_replace('~^(?:tcp|unix)://~', '', $host, 1);
        [$scheme, $host] = \preg_match('~^(?:tls|ssl|rediss)://(.*)$~', $host, $found) === 1 ? ['rediss', $found[1]] : ['redis', $host];
        $place = $host[0] === '/'
            ? 'redis+unix://' . \implode('/', \array_map('rawurlencode', \explode('/', $host)))
            : "{$scheme}://" . (\str_contains($host, ':') && $host[0] !== '[' ? "[{$host}]" : $host) . ':' . ($port ?: 6379);

        return Store::open($place, ['dialect' => 'plain'] + $options);
    }

    /**
     * @param \Redis $client or a lazy proxy of one
     *
     * @return array{string, int, array<string, string|int|null>}
     */
    private static function phpredis(object $client): array
    {
        $auth = $client->getAuth();
        [$user, $password] = \is_array($auth) ? \array_slice([null, ...\array_values($auth)], -2) : [null, \is_string($auth) ? $auth : null];

        return [(string) $client->getHost(), (int) $client->getPort(), [
            'db' => (int) $client->getDbNum() ?: null,
            'username' => $user,
            'password' => $password ?: null,
            'prefix' => (string) $client->getOption(\Redis::OPT_PREFIX) ?: null,
        ]];
    }

    /** @return array{string, int, array<string, string|int|null>} */
    private static function predis(\Predis\ClientInterface $client): array
    {
        $connection = $client->getConnection();
        if (!\method_exists($connection, 'getParameters')) {
            throw new SemaphoreException('The adapter redis takes a client of one server. For sentinels or a cluster give a URL: adapter: "redis+sentinel://…?dialect=plain".');
        }
        $at = $connection->getParameters();
        $prefix = $client->getOptions()->prefix;
        $secure = \in_array($at->scheme, ['tls', 'rediss'], true) ? 'tls://' : '';

        return [$at->scheme === 'unix' ? $at->path : $secure . $at->host, (int) $at->port, [
            'db' => (int) $at->database ?: null,
            'username' => $at->username,
            'password' => $at->password,
            'prefix' => (\is_object($prefix) ? $prefix->getPrefix() : (string) $prefix) ?: null,
        ]];
    }

    private static function memcached(?object $client): Store
    {
        if (!$client instanceof \Memcached || \count($servers = $client->getServerList()) !== 1) {
            throw new SemaphoreException('The adapter memcached needs the service of a Memcached client with one server: avtonom_semaphore.adapter_memcached_client.');
        }
        ['host' => $host, 'port' => $port] = $servers[0];

        return Store::open($port === 0 ? "memcached:{$host}" : "memcached://{$host}:{$port}");
    }
}
