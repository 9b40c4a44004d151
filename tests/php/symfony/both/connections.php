<?php

// Stores on connections and clients of the program: what these do besides.

declare(strict_types=1);

namespace Synlock\Tests;

use Synlock\Symfony\Exception\LockAcquiringException;
use Synlock\Symfony\Exception\LockReleasingException;
use Synlock\Symfony\Exception\LockStorageException;
use Synlock\Symfony\LockFactory;
use Synlock\Symfony\Store as S;
use Synlock\Symfony\Strategy\ConsensusStrategy;

return static function (Runner $t, Setup $setup): void {
    $clients = new Clients($setup);
    $stores = static function (string $engine) use ($clients): array {
        $pdo = $clients->pdo($engine);
        $dbal = $clients->dbal($engine);
        $stores = [[new S\PdoStore($pdo), $pdo], [new S\PdoStore($dbal), $dbal], [new S\DoctrineDbalStore($dbal), $dbal]];

        return $engine !== 'pgsql' ? $stores : [...$stores, [new S\PostgreSqlStore($pdo), $pdo], [new S\DoctrineDbalPostgreSqlStore($dbal), $dbal]];
    };
    $statement = static fn (object $connection, string $sql) => $connection instanceof \PDO ? $connection->exec($sql) : $connection->executeStatement($sql);
    $transactions = [
        'that its object began' => [static fn (object $c) => $c->beginTransaction(), static fn (object $c) => $c->rollBack()],
        'that a statement began' => [static fn (object $c) => $statement($c, 'BEGIN'), static fn (object $c) => $statement($c, 'ROLLBACK')],
    ];
    foreach (['sqlite', 'mysql', 'pgsql'] as $engine) {
        $off = ['without end' => [static fn (object $c) => $statement($c, 'SET autocommit = 0'), static fn (object $c) => $statement($c, 'SET autocommit = 1')]];
        foreach ($engine === 'mysql' ? $transactions + $off : $transactions as $which => [$begin, $end]) {
            $t->test("{$setup->mode} {$engine}::a transaction {$which} is left alone", static function () use ($setup, $stores, $engine, $begin, $end): void {
                foreach ($stores($engine) as $at => [$store, $connection]) {
                    $factory = new LockFactory($store);
                    $lock = $factory->createLock("outside {$setup->mode}", 30);
                    $lock->acquire();
                    $begin($connection);
                    try {
                        $error = throws(LockAcquiringException::class, static fn () => $factory->createLock("inside {$setup->mode}", 30)->acquire());
                        ok(str_contains($error->getPrevious()->getMessage(), 'transaction'), $error->getPrevious()->getMessage());
                        throws(LockReleasingException::class, static fn () => $lock->release());
                        throws(LockStorageException::class, static fn () => $lock->isAcquired());
                        throws(LockAcquiringException::class, static fn () => $lock->refresh(60));
                    } finally {
                        $end($connection);
                    }
                    same(true, $lock->isAcquired(), "the roll-back took nothing back, number {$at}");
                    $lock->refresh();
                    $lock->release();
                    same(true, $factory->createLock("inside {$setup->mode}", 30)->acquire(), 'nothing is left of it');
                }
            });
        }
    }

    $t->test("{$setup->mode} sqlite::a statement of the program that is not finished stays as it is", static function () use ($setup, $clients): void {
        $pdo = $clients->pdo('sqlite');
        $pdo->exec('CREATE TABLE IF NOT EXISTS orders (id INTEGER)');
        $pdo->exec('DELETE FROM orders');
        $pending = $pdo->query('INSERT INTO orders VALUES (1), (2) RETURNING id');
        same(1, $pending->fetchColumn());
        $lock = (new LockFactory(new S\PdoStore($pdo)))->createLock("pending {$setup->mode}", 30);
        same(true, $lock->acquire());
        same([2, false], [$pending->fetchColumn(), $pending->fetchColumn()]);
        unset($pending);
        $other = $clients->pdo('sqlite');
        same(2, (int) $other->query('SELECT count(*) FROM orders')->fetchColumn(), 'it is no part of a transaction');
        same(false, (new LockFactory(new S\PdoStore($other)))->createLock("pending {$setup->mode}", 30)->acquire());
        $lock->release();
    });

    $t->test("{$setup->mode} advisory::a connection that was closed, or has unlocked all, holds nothing", static function () use ($setup, $clients): void {
        $name = "closed {$setup->mode}";
        $peer = new LockFactory(new S\PostgreSqlStore($clients->pdo('pgsql')));
        $dbal = $clients->dbal('pgsql');
        $ends = [
            [new S\DoctrineDbalPostgreSqlStore($dbal), static fn () => $dbal->close()],
            [new S\PostgreSqlStore($pdo = $clients->pdo('pgsql')), static fn () => $pdo->query('SELECT pg_advisory_unlock_all()')->fetchAll()],
        ];
        foreach ($ends as [$store, $end]) {
            $factory = new LockFactory($store);
            [$lock, $next] = [$factory->createLock($name), $factory->createLock($name)];
            same([true, false], [$lock->acquire(), $next->acquire()]);
            $end();
            same(false, $lock->isAcquired());
            // The server ends a session some time after its connection was closed.
            until(static fn (): bool => $next->acquire(), 30, 'it is free');
            same(false, $lock->isAcquired(), 'whatever was held before');
            $lock->release();
            same([true, false], [$next->isAcquired(), $peer->createLock($name)->acquire()]);
            $next->release();
            $lock->acquire();
            $end();
            $other = $peer->createLock($name);
            until(static fn (): bool => $other->acquire(), 30, 'it is free again');
            same(false, $lock->acquire(), 'who held it is as good as anybody');
            $other->release();
        }
    });

    $t->test("{$setup->mode} pgsql::a key finds its lock by whatever address the server is reached", static function () use ($setup, $clients): void {
        $pdo = $clients->pdo('pgsql');
        $folder = $pdo->query('SHOW unix_socket_directories')->fetchColumn();
        $beside = new \PDO("pgsql:host={$folder};port={$setup->ports['postgres']};dbname=postgres", 'postgres', '', [\PDO::ATTR_ERRMODE => \PDO::ERRMODE_EXCEPTION]);
        $key = $setup->key("addresses {$setup->mode}");
        same(true, (new LockFactory(new S\PdoStore($pdo)))->createLockFromKey($key, 60, false)->acquire());
        $heir = (new LockFactory(new S\PdoStore($beside)))->createLockFromKey(unserialize(serialize($key)), 60, false);
        same(true, $heir->isAcquired());
        $heir->release();
        same(true, (new LockFactory(new S\PdoStore($pdo)))->createLock("addresses {$setup->mode}")->acquire());
    });

    /** Each member of a CombinedStore, and whether it has a lock of this name. */
    $three = [11, 12, 13];
    $databases = array_map(static fn (int $n): string => "locks_{$setup->mode}_{$n}", $three);
    $hasRow = static fn (\PDO $pdo): \Closure => static fn (string $name): bool => (bool) $pdo->query("SELECT 1 FROM lock_keys WHERE key_id = '" . hash('sha256', $name) . "'")->fetchColumn();
    $named = static fn (string $engine, string $database): \PDO => new \PDO(
        preg_replace('/dbname=\w+/', "dbname={$database}", $clients->dsn($engine)),
        $clients->user($engine),
        '',
        [\PDO::ATTR_ERRMODE => \PDO::ERRMODE_EXCEPTION],
    );
    $file = static fn (int $n): string => "{$setup->folder('members')}/{$n}.db";
    $members = [
        'Redis' => static fn (): array => array_map(static fn (int $n): array => [new S\RedisStore($clients->redis($n)), static fn (string $name): bool => (bool) $clients->redis($n)->exists($name)], $three),
        'Memcached' => static fn (): array => array_map(static function (int $n) use ($clients): array {
            ($memcached = $clients->memcached())->setOption(\Memcached::OPT_PREFIX_KEY, "member{$n}:");

            return [new S\MemcachedStore($memcached), static fn (string $name): bool => $memcached->get($name) !== false];
        }, $three),
        'PDO of SQLite' => static fn (): array => array_map(static fn (int $n): array => [new S\PdoStore($pdo = new \PDO("sqlite:{$file($n)}")), $hasRow($pdo)], $three),
        'PDO of SQLite in memory' => static fn (): array => array_map(static fn (): array => [new S\PdoStore($pdo = new \PDO('sqlite::memory:')), $hasRow($pdo)], $three),
        'Doctrine\'s SQLite' => static fn (): array => array_map(static fn (int $n): array => [
            new S\DoctrineDbalStore($clients->dbal('sqlite', $file($n))), $hasRow(new \PDO("sqlite:{$file($n)}")),
        ], $three),
        'PDO of MySQL' => static fn (): array => array_map(static fn (string $database): array => [new S\PdoStore($pdo = $named('mysql', $database)), $hasRow($pdo)], $databases),
        'PDO of PostgreSQL' => static fn (): array => array_map(static fn (string $database): array => [new S\PdoStore($pdo = $named('pgsql', $database)), $hasRow($pdo)], $databases),
        'PostgreSQL\'s advisory locks' => static fn (): array => array_map(static fn (string $database): array => [
            new S\PostgreSqlStore($pdo = $named('pgsql', $database)),
            static fn (string $name): bool => (bool) $pdo->query('SELECT 1 FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = \'advisory\' AND objid = ' . crc32($name))->fetchColumn(),
        ], $databases),
    ];
    foreach ($members as $kind => $make) {
        $t->test("{$setup->mode} combined, {$kind}::each member is locked, and let go of", static function () use ($setup, $clients, $databases, $make): void {
            foreach ($databases as $database) {
                $clients->pdo('mysql')->exec("CREATE DATABASE IF NOT EXISTS {$database}");
                $clients->pdo('pgsql')->query("SELECT 1 FROM pg_database WHERE datname = '{$database}'")->fetchColumn() ?: $clients->pdo('pgsql')->exec("CREATE DATABASE {$database}");
            }
            $all = $make();
            $name = "members-{$setup->mode}";
            $factory = new LockFactory(new S\CombinedStore(array_column($all, 0), new ConsensusStrategy()));
            $lock = $factory->createLock($name, 30);
            same(true, $lock->acquire());
            $locked = static fn (): array => array_map(static fn (array $member): bool => $member[1]($name), $all);
            same([true, true, true], $locked());
            same([true, false], [$lock->isAcquired(), $factory->createLock($name, 30)->acquire()]);
            $lock->release();
            same([false, false, false], $locked());
        });
    }

    $t->test("{$setup->mode} combined, Zookeeper::three clients of one server are no majority", static function () use ($setup, $clients): void {
        $stores = array_map(static fn (): S\ZookeeperStore => new S\ZookeeperStore($clients->zookeeper()), [1, 2, 3]);
        $lock = (new LockFactory(new S\CombinedStore($stores, new ConsensusStrategy())))->createLock("members {$setup->mode}");
        same(false, $lock->acquire());
        same(true, (new LockFactory($stores[0]))->createLock("members {$setup->mode}")->acquire(), 'and nothing is left');
    });

    // Servers of their own, and what is dead is asked until the time is over: once is enough.
    $setup->mode === 'with' || $t->test("{$setup->mode} combined, Redis::one server of three may die, and not two", static function () use ($setup): void {
        $servers = $stores = [];
        foreach ([0, 1, 2] as $n) {
            $port = Ports::free();
            $servers[] = new Process(['redis-server', '--port', (string) $port, '--bind', '127.0.0.1', '--save', '', '--dir', $setup->folder("member{$n}")]);
            until(static fn (): bool => @stream_socket_client("tcp://127.0.0.1:{$port}") !== false, 30, 'the server answers');
            ($redis = new \Redis())->connect('127.0.0.1', $port);
            $stores[] = new S\RedisStore($redis);
        }
        $factory = new LockFactory(new S\CombinedStore($stores, new ConsensusStrategy()));
        $lock = $factory->createLock('survives', 300);
        same(true, $lock->acquire());
        $servers[0]->signal(SIGKILL);
        $servers[0]->wait();
        same([true, false], [$lock->isAcquired(), $factory->createLock('survives', 300)->acquire()]);
        $lock->refresh(600);
        $lock->release();
        same(true, $lock->acquire());
        $servers[1]->signal(SIGKILL);
        $servers[1]->wait();
        same([false, false], [$lock->isAcquired(), $factory->createLock('another', 300)->acquire()]);
        $servers[2]->signal(SIGKILL);
    });

    $setup->mode === 'with' || $t->test("{$setup->mode} Cluster::a key finds its lock after a fail-over", static function () use ($setup, $clients): void {
        $server = $clients->cluster();
        [$replica, $failOver] = $clients->replica();
        foreach ([$clients->redisCluster(...), $clients->predisCluster(...)] as $at => $client) {
            $factory = new LockFactory(new S\RedisStore($used = $client()));
            [$key, $sent] = [$setup->key("stays {$at}"), $setup->key("travels {$at}")];
            $lock = $factory->createLockFromKey($key, 300, false);
            same([true, true], [$lock->acquire(), $factory->createLockFromKey($sent, 300, false)->acquire()]);
            $text = serialize($sent);
            $failOver();
            if (!$used instanceof \RedisCluster) { // which dies of it, whoever asks
                $used->get('whatever else the program asks for'); // the client learns who is the master
            }
            same([true, false], [$lock->isAcquired(), $factory->createLock("stays {$at}")->acquire()], "number {$at}");
            $lock->refresh(600);
            $lock->release();
            $heir = (new LockFactory(new S\RedisStore($client())))->createLockFromKey(unserialize($text), 300, false);
            same(true, $heir->isAcquired(), 'whoever connects later');
            $heir->release();
        }
        // The last fail-over has made the first server the master again.
        same(true, (new LockFactory(new S\RedisStore($clients->predisCluster())))->createLockFromKey($sent = $setup->key('survives'), 300, false)->acquire());
        $replica->signal(SIGKILL);
        $replica->wait();
        $heir = (new LockFactory(new S\RedisStore($clients->predisCluster())))->createLockFromKey(unserialize(serialize($sent)), 300, false);
        same(true, $heir->isAcquired(), 'one of the nodes is dead');
        $heir->release();
        $server->signal(SIGKILL);
    });
};
