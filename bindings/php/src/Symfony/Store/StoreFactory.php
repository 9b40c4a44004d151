<?php

declare(strict_types=1);

namespace Synlock\Symfony\Store;

use Doctrine\DBAL\Connection;
use Symfony\Component\Cache\Adapter\AbstractAdapter;
use Synlock\Symfony\Exception\InvalidArgumentException;
use Synlock\Symfony\PersistingStoreInterface;
use Synlock\Symfony\SynlockStore;

require_once __DIR__ . '/../Internal/types.php';

/** Stores out of what Symfony's class of this name takes, and keeping locks where its stores keep them. */
class StoreFactory
{
    /** Options of Redis' DSN that are heeded, or say nothing about the place of a lock. */
    private const OPTIONS = ['timeout', 'read_timeout', 'retry_interval', 'persistent', 'persistent_id', 'lazy', 'tcp_keepalive', 'dbindex'];

    /**
     * @param object|string $connection a client, or a DSN as in Symfony
     *
     * @throws InvalidArgumentException
     */
    public static function createStore(#[\SensitiveParameter] object|string $connection): PersistingStoreInterface
    {
        return \is_string($connection) ? self::byName($connection) : self::byClient($connection);
    }

    private static function byClient(object $client): PersistingStoreInterface
    {
        return match (true) {
            $client instanceof \Memcached => new MemcachedStore($client),
            $client instanceof \PDO => new PdoStore($client),
            $client instanceof Connection => new DoctrineDbalStore($client),
            $client instanceof \Zookeeper => new ZookeeperStore($client),
            $client instanceof \Redis, $client instanceof \RedisArray, $client instanceof \RedisCluster,
            $client instanceof \Predis\ClientInterface, \is_callable([$client, 'getDbNum']) => new RedisStore($client),
            default => throw self::unsupported($client::class),
        };
    }

    private static function byName(string $dsn): PersistingStoreInterface
    {
        [$scheme, $rest] = \explode(':', $dsn, 2) + [1 => ''];
        $isUrl = \str_starts_with($rest, '//');

        return match (true) {
            $dsn === 'flock' => new FlockStore(),
            $dsn === 'flock+remove' => new FlockStore(null, true),
            $scheme === 'flock' && $isUrl => new FlockStore(\substr($rest, 2)),
            $dsn === 'semaphore' => new SemaphoreStore(),
            $dsn === 'in-memory' => new InMemoryStore(),
            $dsn === 'null' => new SynlockStore('null:'),
            \in_array($scheme, ['redis', 'rediss', 'valkey', 'valkeys'], true) => self::redis($dsn),
            $scheme === 'memcached' && \preg_match('~^//([^@,/?]+:\d+|[^@,/?:]+|/[^?]+)$~', $rest) === 1 => self::memcached(\substr($rest, 2)),
            $scheme === 'memcached' => self::bySymfony($dsn),
            \in_array($scheme, ['pgsql+advisory', 'postgres+advisory', 'postgresql+advisory'], true) => $isUrl ? new DoctrineDbalPostgreSqlStore($dsn) : new PostgreSqlStore($dsn),
            $isUrl && \in_array($scheme, ['mysql', 'mysql2', 'pgsql', 'postgres', 'postgresql', 'sqlite', 'sqlite3'], true) => new DoctrineDbalStore($dsn),
            \in_array($scheme, ['mysql', 'pgsql', 'sqlite'], true) => new PdoStore($dsn),
            $scheme === 'zookeeper' && $isUrl => new SynlockStore($dsn, ['dialect' => 'symfony']),
            default => throw self::unsupported($scheme === $dsn ? $dsn : "{$scheme}:…"),
        };
    }

    /** `redis://[[user:]password@]HOST[:PORT][/DATABASE][?OPTIONS]` or `redis:///PATH[/DATABASE][?OPTIONS]` */
    private static function redis(#[\SensitiveParameter] string $dsn): PersistingStoreInterface
    {
        $pattern = '~^(?<scheme>redis|valkey)(?<tls>s?)://(?:(?:(?<user>[^:@/]*):)?(?<password>[^@/]*)@)?(?:(?<host>[^/?:,]+|\[[^]]+\])(?::(?<port>\d+))?(?:/(?<db>\d+))?/?|(?<path>/[^?]+?)(?:/(?<pathdb>\d+))?)(?:\?(?<query>.*))?$~';
        if (!\preg_match($pattern, $dsn, $found, \PREG_UNMATCHED_AS_NULL)) {
            return self::bySymfony($dsn);
        }
        \parse_str($found['query'] ?? '', $options);
        $time = static fn (string $which): ?int => ($options[$which] ?? 0) > 0 ? (int) \ceil($options[$which] * 1000) : null;
        $database = $found['db'] ?? $found['pathdb'] ?? $options['dbindex'] ?? null;
        if (\array_diff_key($options, \array_flip(self::OPTIONS)) !== [] || $database !== ($options['dbindex'] ?? $database)) {
            return self::bySymfony($dsn);
        }
        $decode = static fn (?string $text): ?string => $text === null || $text === '' ? null : \rawurldecode($text);
        $at = $found['path'] !== null ? "redis:{$found['path']}" : "redis{$found['tls']}://{$found['host']}:" . ($found['port'] ?? 6379);

        return new SynlockStore($at, [
            'dialect' => 'symfony', 'username' => $decode($found['user']), 'password' => $decode($found['password']), 'db' => $database,
            'connect_timeout' => $time('timeout'), 'io_timeout' => $time('read_timeout'),
        ]);
    }

    /** What only the component's own way to its clients understands: several servers, and more options. */
    private static function bySymfony(#[\SensitiveParameter] string $dsn): PersistingStoreInterface
    {
        if (!\class_exists(AbstractAdapter::class)) {
            throw self::unsupported(\strtok($dsn, ':') . ':… with several servers or such options; install symfony/cache, or give the client object');
        }

        return self::byClient(AbstractAdapter::createConnection($dsn, ['lazy' => true]));
    }

    private static function memcached(string $at): SynlockStore
    {
        return new SynlockStore($at[0] === '/' ? "memcached:{$at}" : "memcached://{$at}", ['dialect' => 'symfony']);
    }

    private static function unsupported(string $what): InvalidArgumentException
    {
        return new InvalidArgumentException("Unsupported Connection: \"{$what}\".");
    }
}
