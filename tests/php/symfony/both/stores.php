<?php

// The stores with the names and constructors of the component's.

declare(strict_types=1);

namespace Synlock\Tests;

use Synlock\Symfony\Store as S;
use Synlock\Symfony\Strategy\ConsensusStrategy;
use Synlock\Symfony\Strategy\UnanimousStrategy;

return static function (Runner $t, Setup $setup): void {
    $clients = new Clients($setup);
    // Waiting for the end of a lease once is enough.
    $leased = $setup->mode === 'with' ? ['ttl', 'serializable'] : ['ttl', 'ends', 'serializable'];
    $combined = static fn (object $strategy, int $initialTtl = 300): object => new S\CombinedStore(array_map(
        static fn (string $n) => new S\PdoStore("sqlite:{$setup->folder('combined')}/{$n}.db", initialTtl: $initialTtl),
        ['a', 'b', 'c'],
    ), $strategy);
    $redis = $clients->redis();
    $stores = [
        'FlockStore' => [static fn () => new S\FlockStore("{$setup->temp}/new/locks"), ['shared', 'promote']],
        'FlockStore that removes' => [static fn () => new S\FlockStore("{$setup->temp}/new/removed", true), ['shared', 'promote']],
        'SemaphoreStore' => [static fn () => new S\SemaphoreStore(), []],
        'RedisStore of Redis' => [static fn () => new S\RedisStore($redis), ['shared', 'promote', ...$leased]],
        'RedisStore of RedisArray' => [static fn () => new S\RedisStore($clients->redisArray()), ['shared', 'promote', ...$leased]],
        'RedisStore of Predis' => [static fn () => new S\RedisStore($clients->predis('predis:')), ['shared', 'promote', ...$leased]],
        'MemcachedStore' => [static fn () => new S\MemcachedStore($clients->memcached(), 20), ['whole', ...$leased]],
        'InMemoryStore' => [static fn () => new S\InMemoryStore(), ['shared', 'promote', 'ttl', 'ends', 'alone']],
        'ZookeeperStore' => [static fn () => new S\ZookeeperStore($clients->zookeeper()), ['alone']],
        'PostgreSqlStore of a PDO' => [static fn () => new S\PostgreSqlStore($clients->pdo('pgsql')), ['shared', 'promote', 'alone']],
        'PostgreSqlStore of a DSN' => [static fn () => new S\PostgreSqlStore($clients->dsn('pgsql'), ['db_username' => 'postgres']), ['shared', 'promote']],
        'DoctrineDbalPostgreSqlStore' => [static fn () => new S\DoctrineDbalPostgreSqlStore($clients->dbal('pgsql')), ['shared', 'promote', 'alone']],
        'DoctrineDbalPostgreSqlStore of a URL' => [static fn () => new S\DoctrineDbalPostgreSqlStore($clients->url('pgsql')), ['shared', 'promote']],
        'CombinedStore, most' => [static fn (int ...$lease) => $combined(new ConsensusStrategy(), ...$lease), [...$leased, 'brief']],
        'CombinedStore, all' => [static fn (int ...$lease) => $combined(new UnanimousStrategy(), ...$lease), [...$leased, 'brief']],
        'RetryTillSaveStore' => [static fn () => new S\RetryTillSaveStore(new S\RedisStore($redis)), $leased],
        'RetryTillSaveStore of what cannot wait' => [static fn () => new S\RetryTillSaveStore($combined(new ConsensusStrategy()), 10), $leased],
    ];
    foreach (['sqlite', 'mysql', 'pgsql'] as $engine) {
        $login = ['db_username' => $clients->user($engine), 'db_password' => ''];
        $stores["PdoStore of {$engine}'s DSN"] = [static fn () => new S\PdoStore($clients->dsn($engine), $login), ['whole', ...$leased]];
        $stores["PdoStore of {$engine}"] = [static fn () => new S\PdoStore($clients->pdo($engine)), ['alone', 'whole', ...$leased]];
        $stores["DoctrineDbalStore of {$engine}"] = [static fn () => new S\DoctrineDbalStore($clients->dbal($engine)), ['alone', 'whole', ...$leased]];
        $stores["DoctrineDbalStore of {$engine}'s URL"] = [static fn () => new S\DoctrineDbalStore($clients->url($engine)), ['whole', ...$leased]];
    }
    foreach ($stores as $name => [$make, $kinds]) {
        // Tables and memcached count in whole seconds.
        behaviours($t, $setup, $name, $make, $kinds, 0.11);
    }
};
