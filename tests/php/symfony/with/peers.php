<?php

// Each store of the package and the component's of the same name keep each other out.

declare(strict_types=1);

namespace Synlock\Tests;

use Symfony\Component\Lock\LockFactory;
use Symfony\Component\Lock\Store as T;
use Synlock\Symfony\LockFactory as OurFactory;
use Synlock\Symfony\Store as S;

return static function (Runner $t, Setup $setup): void {
    $clients = new Clients($setup);
    $folder = $setup->folder('flock');
    $redis = $clients->redis(3);
    $redis->setOption(\Redis::OPT_PREFIX, 'app:');
    $memcached = $clients->memcached();
    $memcached->setOption(\Memcached::OPT_PREFIX_KEY, 'app-');
    $server = $clients->cluster();
    $clients->pdo('pgsql')->exec('CREATE SCHEMA IF NOT EXISTS app');
    $pairs = [
        'RedisStore of RedisCluster' => [new T\RedisStore($clients->redisCluster()), new S\RedisStore($clients->redisCluster())],
        'RedisStore of RedisCluster and of Predis\'' => [new T\RedisStore($clients->redisCluster()), new S\RedisStore($clients->predisCluster())],
        'FlockStore' => [new T\FlockStore($folder), new S\FlockStore($folder)],
        'FlockStore by the factory' => [T\StoreFactory::createStore("flock://{$folder}"), S\StoreFactory::createStore("flock://{$folder}")],
        // Debian's hashes as up to 6.2.
        'SemaphoreStore' => [new T\SemaphoreStore(), new S\SemaphoreStore('md5')],
        'RedisStore' => [new T\RedisStore($redis), new S\RedisStore($redis)],
        'RedisStore of RedisArray' => [new T\RedisStore($clients->redisArray()), new S\RedisStore($clients->redisArray())],
        'RedisStore of Predis' => [new T\RedisStore($clients->predis('pre:')), new S\RedisStore($clients->predis('pre:'))],
        'RedisStore by the factory' => [new T\RedisStore($clients->redis(4)), S\StoreFactory::createStore("redis://127.0.0.1:{$setup->ports['redis']}/4")],
        'MemcachedStore' => [new T\MemcachedStore($memcached), new S\MemcachedStore($memcached)],
        'MemcachedStore by the factory' => [new T\MemcachedStore($clients->memcached()), S\StoreFactory::createStore("memcached://127.0.0.1:{$setup->ports['memcached']}")],
        'PostgreSqlStore' => [new T\PostgreSqlStore($clients->pdo('pgsql')), new S\PostgreSqlStore($clients->pdo('pgsql'))],
        'PostgreSqlStore of a DSN' => [new T\PostgreSqlStore($clients->pdo('pgsql')), new S\PostgreSqlStore($clients->dsn('pgsql'), ['db_username' => 'postgres'])],
        'DoctrineDbalPostgreSqlStore' => [new T\DoctrineDbalPostgreSqlStore($clients->dbal('pgsql')), new S\DoctrineDbalPostgreSqlStore($clients->dbal('pgsql'))],
        'PostgreSqlStore by the factory' => [
            new T\PostgreSqlStore($clients->pdo('pgsql')),
            S\StoreFactory::createStore(str_replace('postgresql:', 'postgresql+advisory:', $clients->url('pgsql'))),
        ],
    ];
    foreach (['sqlite', 'mysql', 'pgsql'] as $engine) {
        $login = ['db_username' => $clients->user($engine), 'db_password' => ''];
        $own = ['db_table' => 'own_locks', 'db_id_col' => 'a', 'db_token_col' => 'b', 'db_expiration_col' => 'c'];
        $pairs["PdoStore of {$engine}'s DSN"] = [new T\PdoStore($clients->pdo($engine)), new S\PdoStore($clients->dsn($engine), $login)];
        $pairs["PdoStore of {$engine}, own names"] = [new T\PdoStore($clients->pdo($engine), $own), new S\PdoStore($clients->dsn($engine), $own + $login)];
        $pairs["PdoStore of {$engine}"] = [new T\PdoStore($clients->pdo($engine), $own), new S\PdoStore($clients->pdo($engine), $own)];
        foreach (['Lock_Keys_By_Case', ['sqlite' => 'main', 'mysql' => 'test', 'pgsql' => 'app'][$engine] . '.lock_keys', ['mysql' => '`quoted keys`'][$engine] ?? '"Quoted Keys"'] as $table) {
            $named = ['db_table' => $table, 'db_id_col' => 'Key_Id'];
            $pairs["PdoStore of {$engine}, table {$table}"] = [new T\PdoStore($clients->pdo($engine), $named), new S\PdoStore($clients->pdo($engine), $named)];
            $pairs["PdoStore of {$engine}'s DSN, table {$table}"] = [new T\PdoStore($clients->pdo($engine), $named), new S\PdoStore($clients->dsn($engine), $named + $login)];
        }
        $pairs["DoctrineDbalStore of {$engine}"] = [new T\DoctrineDbalStore($clients->dbal($engine)), new S\DoctrineDbalStore($clients->dbal($engine))];
        $pairs["DoctrineDbalStore of {$engine}'s URL"] = [new T\DoctrineDbalStore($clients->dbal($engine)), S\StoreFactory::createStore($clients->url($engine))];
    }
    foreach ($pairs as $name => [$theirs, $ours]) {
        $t->test("peers {$name}::either keeps the other out", static function () use ($theirs, $ours): void {
            [$theirs, $ours] = [new LockFactory($theirs), new OurFactory($ours)];
            foreach ([[$theirs, $ours], [$ours, $theirs], [$theirs, $ours]] as [$first, $second]) {
                $holder = $first->createLock('a-name', 30);
                $holder->acquire() ?: throw new \LogicException('not free');
                same(false, $second->createLock('a-name', 30)->acquire());
                $holder->refresh(40);
                same(false, $second->createLock('a-name', 30)->acquire());
                $holder->release();
                same(true, $second->createLock('a-name', 30)->acquire());
            }
        });
    }
    $server->signal(SIGKILL);

    $t->test('peers::tables that either has made', static function () use ($clients): void {
        foreach (['sqlite', 'mysql', 'pgsql'] as $engine) {
            foreach (['theirs' => new T\PdoStore($clients->pdo($engine), ['db_table' => 'made']), 'ours' => new S\PdoStore($clients->pdo($engine), ['db_table' => 'made'])] as $whose => $maker) {
                $pdo = $clients->pdo($engine);
                $pdo->exec('DROP TABLE IF EXISTS made');
                $maker->createTable();
                same(0, (int) $pdo->query('SELECT count(*) FROM made')->fetchColumn());
                foreach ([[T\PdoStore::class, LockFactory::class], [S\PdoStore::class, OurFactory::class]] as [$store, $factory]) {
                    $lock = (new $factory(new $store($pdo, ['db_table' => 'made'])))->createLock('x');
                    same(true, $lock->acquire(), $whose);
                    same(1, (int) $pdo->query('SELECT count(*) FROM made')->fetchColumn());
                    $lock->release();
                }
            }
        }
    });
};
