<?php

// Stores whose servers or holders die, and what they ask of a server.

declare(strict_types=1);

namespace Synlock\Tests;

use Synlock\Symfony\Exception\LockAcquiringException;
use Synlock\Symfony\Exception\LockReleasingException;
use Synlock\Symfony\Exception\LockStorageException;
use Synlock\Symfony\LockFactory;
use Synlock\Symfony\Store as S;
use Synlock\Symfony\SynlockStore;

return static function (Runner $t, Setup $setup): void {
    $clients = new Clients($setup);
    $start = static function (string $kind) use ($setup): array {
        $port = Ports::free();
        $server = new Process($kind === 'redis'
            ? ['redis-server', '--port', (string) $port, '--bind', '127.0.0.1', '--save', '', '--dir', $setup->folder("server{$port}")]
            : ['memcached', '-l', '127.0.0.1', '-p', (string) $port, '-u', 'nobody']);
        until(static fn (): bool => @stream_socket_client("tcp://127.0.0.1:{$port}") !== false, 30, 'the server answers');

        return [$server, $port];
    };
    $killed = static fn (Process $server): \Closure => static function () use ($server): void {
        $server->signal(SIGKILL);
        $server->wait();
    };
    /** A store, and what ends its server or its session. */
    $outages = [
        'redis' => static function () use ($start, $killed): array {
            [$server, $port] = $start('redis');

            return [new SynlockStore("redis://127.0.0.1:{$port}?dialect=symfony&connect_timeout=1000&io_timeout=1000"), $killed($server)];
        },
        'memcached' => static function () use ($start, $killed): array {
            [$server, $port] = $start('memcached');

            return [new SynlockStore("memcached://127.0.0.1:{$port}?dialect=symfony&connect_timeout=1000&io_timeout=1000"), $killed($server)];
        },
        'PdoStore' => static function () use ($clients): array {
            $pid = ($pdo = $clients->pdo('pgsql'))->query('SELECT pg_backend_pid()')->fetchColumn();

            return [new S\PdoStore($pdo), static fn () => $clients->pdo('pgsql')->query("SELECT pg_terminate_backend({$pid}, 30000)")->fetchAll()];
        },
        'PostgreSqlStore' => static function () use ($clients): array {
            $pid = ($pdo = $clients->pdo('pgsql'))->query('SELECT pg_backend_pid()')->fetchColumn();

            return [new S\PostgreSqlStore($pdo), static fn () => $clients->pdo('pgsql')->query("SELECT pg_terminate_backend({$pid}, 30000)")->fetchAll()];
        },
    ];
    foreach ($outages as $name => $make) {
        $t->test("{$setup->mode} outage, {$name}::each method says so with its own exception", static function () use ($setup, $make): void {
            [$store, $end] = $make();
            $held = array_map(static fn (int $n): object => $setup->key("outage-{$setup->mode}-{$n}"), [0, 1, 2]);
            array_map($store->save(...), $held);
            $end();
            throws(LockStorageException::class, static fn () => $store->putOffExpiration($held[0], 60));
            throws(LockStorageException::class, static fn () => $store->exists($held[1]));
            throws(LockReleasingException::class, static fn () => $store->delete($held[2]));
            throws(LockAcquiringException::class, static fn () => $store->save($setup->key("outage-{$setup->mode}-new")));
        });
    }

    $t->test("{$setup->mode} requests::a lock with a TTL is taken, and let go of, by one request each", static function () use ($start): void {
        [$server, $port] = $start('redis');
        ($redis = new \Redis())->connect('127.0.0.1', $port);
        $counts = static function (\Closure $does) use ($redis): int {
            $redis->rawCommand('CONFIG', 'RESETSTAT');
            $does();
            $calls = 0;
            foreach ($redis->info('commandstats') as $command => $values) {
                // What a script calls is counted as well.
                $calls += preg_match('/^cmdstat_(eval|evalsha|fcall)$/', $command) && preg_match('/calls=(\d+)/', $values, $found) ? (int) $found[1] : 0;
            }

            return $calls;
        };
        foreach ([new S\RedisStore($redis), new SynlockStore("redis://127.0.0.1:{$port}")] as $at => $store) {
            $factory = new LockFactory($store);
            $warm = $factory->createLock('warm', 30, false);
            $warm->acquire(); // the server learns the scripts
            $warm->refresh();
            $warm->release();
            $lock = $factory->createLock('counted', 30, false);
            same(1, $counts(static fn () => same(true, $lock->acquire())), "acquire, number {$at}");
            ok($lock->getRemainingLifetime() > 20 && $lock->getRemainingLifetime() <= 30, 'for its own TTL');
            if ($at === 0) {
                ok($redis->pttl('counted') > 20_000 && $redis->pttl('counted') <= 31_000, "in the store too: {$redis->pttl('counted')}");
            }
            same(1, $counts(static fn () => $lock->refresh()), 'refresh');
            same(1, $counts(static fn () => $lock->release()), 'release');
        }
        $server->signal(SIGKILL);
    });

    $t->test("{$setup->mode} memcached::each name is on the server that the client has for it", static function () use ($setup, $clients, $start): void {
        [$server, $port] = $start('memcached');
        $memcached = $clients->memcached();
        $memcached->addServer('127.0.0.1', $port);
        $factory = new LockFactory(new S\MemcachedStore($memcached));
        $second = new \Memcached();
        $second->addServer('127.0.0.1', $port);
        $onSecond = 0;
        for ($n = 0; $n < 20; ++$n) {
            $name = "server-{$setup->mode}-{$n}";
            $lock = $factory->createLock($name, 30);
            same([true, false], [$lock->acquire(), $factory->createLock($name, 30)->acquire()]);
            same([true, $memcached->getServerByKey($name)['port'] === $port], [$memcached->get($name) !== false, $second->get($name) !== false], $name);
            $onSecond += (int) ($second->get($name) !== false);
            $lock->release();
            same(false, $memcached->get($name));
        }
        ok($onSecond > 0 && $onSecond < 20, "{$onSecond} of 20");
        $server->signal(SIGKILL);
    });

    foreach ([
        'SemaphoreStore' => 'new \Synlock\Symfony\Store\SemaphoreStore()', 'FlockStore' => 'new \Synlock\Symfony\Store\FlockStore($setup->folder("dies"))',
        'ZookeeperStore' => 'new \Synlock\Symfony\Store\ZookeeperStore($clients->zookeeper())', 'PostgreSqlStore' => 'new \Synlock\Symfony\Store\PostgreSqlStore($clients->pdo("pgsql"))',
    ] as $name => $new) {
        $t->test("{$setup->mode} death, {$name}::the lock of a process that was killed is free", static function () use ($setup, $clients, $new): void {
            $process = $setup->process(
                "require_once \$setup->clients(); \$clients = new Clients(\$setup); \$factory = new \\Synlock\\Symfony\\LockFactory({$new}); \$lock = \$factory->createLock(\$arguments[0]); \$lock->acquire(); echo \"held\\n\"; sleep(600);",
                ["dies {$setup->temp}"],
            );
            $process->expect('held');
            $lock = (new LockFactory(eval("return {$new};")))->createLock("dies {$setup->temp}");
            same(false, $lock->acquire());
            $process->signal(SIGKILL);
            $process->wait();
            until(static fn (): bool => $lock->acquire(), 120, 'it is free');
            $lock->release();
        });
    }

    $t->test("{$setup->mode} tables::createTable does nothing the second time", static function () use ($setup, $clients): void {
        $table = "made_twice_{$setup->mode}";
        foreach (['sqlite', 'mysql', 'pgsql'] as $engine) {
            $options = ['db_table' => $table, 'db_username' => $clients->user($engine), 'db_password' => ''];
            foreach ([
                new S\PdoStore($clients->dsn($engine), $options), new S\PdoStore($clients->pdo($engine), $options),
                new S\DoctrineDbalStore($clients->dbal($engine), $options), new S\DoctrineDbalStore($clients->url($engine), $options),
            ] as $at => $store) {
                $clients->pdo($engine)->exec("DROP TABLE IF EXISTS {$table}");
                $store->createTable();
                $lock = (new LockFactory($store))->createLock('kept', 30);
                same(true, $lock->acquire(), "{$engine}, number {$at}");
                $store->createTable();
                same([true, 1], [$lock->isAcquired(), (int) $clients->pdo($engine)->query("SELECT count(*) FROM {$table}")->fetchColumn()]);
                $lock->release();
            }
        }
    });
};
