<?php

// A store of Symfony's Lock, Debian's package: symfony.php STORE NAME [ARGUMENT of the store]…
// A store that cannot wait is asked again and again, as Symfony's own Lock does.

declare(strict_types=1);

use Symfony\Component\Lock\BlockingStoreInterface;
use Symfony\Component\Lock\LockFactory;
use Symfony\Component\Lock\Store\CombinedStore;
use Symfony\Component\Lock\Store\FlockStore;
use Symfony\Component\Lock\Store\MemcachedStore;
use Symfony\Component\Lock\Store\PdoStore;
use Symfony\Component\Lock\Store\PostgreSqlStore;
use Symfony\Component\Lock\Store\RedisStore;
use Symfony\Component\Lock\Store\SemaphoreStore;
use Symfony\Component\Lock\Strategy\ConsensusStrategy;

require 'Symfony/Component/Lock/autoload.php';
require __DIR__ . '/turns.php';

function redisAt(int $port): Redis
{
    $redis = new Redis();
    $redis->connect('127.0.0.1', $port);

    return $redis;
}

function memcached(int $port): Memcached
{
    $client = new Memcached();
    $client->addServer('127.0.0.1', $port);

    return $client;
}

[, $kind, $name] = $argv;
$rest = array_slice($argv, 3);
$store = match ($kind) {
    'flock' => new FlockStore(...$rest),
    'semaphore' => new SemaphoreStore(),
    'redis' => new RedisStore(redisAt((int) $rest[0])),
    'memcached' => new MemcachedStore(memcached((int) $rest[0])),
    'pgsql' => new PostgreSqlStore($rest[0], ['db_username' => $rest[1]]),
    'combined' => new CombinedStore(
        array_map(static fn (string $port): RedisStore => new RedisStore(redisAt((int) $port)), $rest),
        new ConsensusStrategy(),
    ),
    'pdo' => new PdoStore($rest[0], ['db_username' => $rest[1]]),
};
$lock = (new LockFactory($store))->createLock($name, lease());
serve(
    static fn (): bool => $lock->acquire(true),
    static fn (): bool => $lock->acquire(),
    static function () use ($lock): bool {
        $lock->release();

        return true;
    },
);
