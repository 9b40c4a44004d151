<?php

// Constructors, connection strings and tables of the package's stores.

declare(strict_types=1);

namespace Synlock\Tests;

use Synlock\Symfony\Exception\InvalidArgumentException;
use Synlock\Symfony\Exception\InvalidTtlException;
use Synlock\Symfony\Exception\LockAcquiringException;
use Synlock\Symfony\LockFactory;
use Synlock\Symfony\Store as S;
use Synlock\Symfony\SynlockStore;

return static function (Runner $t, Setup $setup): void {
    $clients = new Clients($setup);

    $t->test("{$setup->mode} constructors::what they refuse", static function () use ($setup, $clients): void {
        $silent = new \PDO('sqlite::memory:', null, null, [\PDO::ATTR_ERRMODE => \PDO::ERRMODE_SILENT]);
        foreach ([
            [InvalidTtlException::class, static fn () => new SynlockStore('memory:', [], 0.0)],
            [InvalidTtlException::class, static fn () => new S\RedisStore(new \Redis(), 0.0)],
            [InvalidTtlException::class, static fn () => new S\MemcachedStore(new \Memcached(), 0)],
            [InvalidTtlException::class, static fn () => new S\PdoStore('sqlite::memory:', [], 0.1, 0)],
            [InvalidArgumentException::class, static fn () => new S\PdoStore('sqlite::memory:', [], 1.1)],
            [InvalidArgumentException::class, static fn () => new S\PdoStore('sqlite::memory:', [], -0.1)],
            [InvalidArgumentException::class, static fn () => new S\PdoStore($silent)],
            [InvalidArgumentException::class, static fn () => new S\RedisStore(new \stdClass())],
            [InvalidArgumentException::class, static fn () => new S\FlockStore('/proc/nowhere')],
            [InvalidArgumentException::class, static fn () => new S\PostgreSqlStore($clients->pdo('sqlite'))],
            [InvalidArgumentException::class, static fn () => S\StoreFactory::createStore('nothing://x')],
            [InvalidArgumentException::class, static fn () => S\StoreFactory::createStore(new \stdClass())],
        ] as $at => [$class, $make]) {
            ok(throws($class, $make) instanceof $class, "number {$at}");
        }
        // Not connected yet: said when it is used.
        throws(LockAcquiringException::class, static fn () => (new LockFactory(new S\RedisStore(new \Redis())))->createLock('x')->acquire());
        throws(LockAcquiringException::class, static fn () => (new LockFactory(new S\MemcachedStore(new \Memcached())))->createLock('x')->acquire());
    });

    $t->test("{$setup->mode} factory::names of stores", static function () use ($setup, $clients): void {
        foreach ([
            'flock' => S\FlockStore::class, 'flock+remove' => S\FlockStore::class, "flock://{$setup->temp}" => S\FlockStore::class,
            'semaphore' => S\SemaphoreStore::class, 'in-memory' => S\InMemoryStore::class, 'null' => SynlockStore::class,
            'redis://localhost' => SynlockStore::class, 'rediss://secret@host:1/2' => SynlockStore::class, 'valkey://user:secret@host' => SynlockStore::class,
            'redis:///run/redis.sock' => SynlockStore::class, 'memcached://localhost' => SynlockStore::class, 'memcached://localhost:11211' => SynlockStore::class,
            'mysql://u:p@h/d' => S\DoctrineDbalStore::class, 'postgres://h/d' => S\DoctrineDbalStore::class, 'sqlite:///x.db' => S\DoctrineDbalStore::class,
            'mysql:host=h' => S\PdoStore::class, 'pgsql:host=h' => S\PdoStore::class, 'sqlite::memory:' => S\PdoStore::class,
            'pgsql+advisory:host=h' => S\PostgreSqlStore::class, 'postgresql+advisory://h/d' => S\DoctrineDbalPostgreSqlStore::class,
            'zookeeper://a,b:2181' => SynlockStore::class,
        ] as $name => $class) {
            same($class, S\StoreFactory::createStore($name)::class, $name);
        }
        foreach ([
            [$clients->redis(), S\RedisStore::class], [$clients->redisArray(), S\RedisStore::class], [$clients->predis(), S\RedisStore::class],
            [$clients->memcached(), S\MemcachedStore::class], [$clients->pdo('sqlite'), S\PdoStore::class],
            [$clients->dbal('sqlite'), S\DoctrineDbalStore::class], [$clients->zookeeper(), S\ZookeeperStore::class],
        ] as [$client, $class]) {
            same($class, S\StoreFactory::createStore($client)::class);
        }
    });

    $t->test("{$setup->mode} factory::what DSNs say", static function (): void {
        $here = getcwd();
        $read = static fn (string $dsn, array $attributes = []): ?array => \Synlock\Symfony\Internal\Url::database(
            $dsn,
            ['db_username' => 'me', 'db_password' => 'word', 'db_connection_options' => $attributes],
        );
        foreach ([
            'mysql:host=h;port=5;dbname=d;charset=utf8' => ['mysql://h:5/d', 'me', 'word', null],
            'mysql:unix_socket=/s;dbname=d' => ['mysql:///d', 'me', 'word', '/s'],
            'mysql:host=h;dbname=my locks' => ['mysql://h/my%20locks', 'me', 'word', null],
            'mysql:host=localhost;dbname=d' => ['mysql:///d', 'me', 'word', ini_get('pdo_mysql.default_socket')],
            'mysql:///d?unix_socket=/s' => ['mysql:///d', null, null, '/s'],
            'mysql2://u%40:p%3Aw@h:33/d?serverVersion=8' => ['mysql://h:33/d', 'u@', 'p:w', null],
            'pgsql:host=h port=5 dbname=d user=me' => ['postgres://h:5/d', 'me', 'word', null],
            'pgsql:host=/run/pg;dbname=d;sslmode=prefer' => ['postgres:///d', 'me', 'word', '/run/pg'],
            'postgresql://u@[::1]:5/d' => ['postgres://[::1]:5/d', 'u', null, null],
            'sqlite:/a b/x.db' => ['sqlite:/a%20b/x.db', null, null, null],
            'sqlite:////a/x.db' => ['sqlite:/a/x.db', null, null, null],
            'sqlite:///x.db' => ["sqlite:{$here}/x.db", null, null, null],
        ] as $dsn => $wanted) {
            [$url, $options] = $read($dsn, [\PDO::ATTR_ERRMODE => \PDO::ERRMODE_WARNING]);
            same($wanted, [$url, $options['username'] ?? null, $options['password'] ?? null, $options['socket'] ?? null], $dsn);
        }
        foreach ([
            'sqlite::memory:', 'sqlite:', 'sqlite:file:x.db?mode=ro', 'sqlite:///x.db?mode=ro', 'sqlite://x.db', 'oci:dbname=x', 'sqlsrv:x', 'uri:file:///dsn',
            'pgsql:service=locks', "pgsql:host=h;dbname='my locks'", 'pgsql:host=h;dbname=d;options=-csearch_path=locks', 'pgsql:host=a,b;dbname=d',
            'pgsql:dbname=d', 'pgsql:host=h', 'pgsql:host = h dbname=d', 'pgsql:host=h;dbname=d;user=another', 'postgresql://[::1]:5/d',
            'pgsql:host=h;dbname=d;sslmode=require', 'postgresql://u@h/d?sslmode=verify-ca', 'postgresql://u@h/d?sslmode=verify-full', 'pgsql:host=h;dbname=d;sslrootcert=/ca',
            'mysql:host=h;dbname=a;;b', 'mysql:host=h;what=ever', 'mysql://u@h/d?ssl_ca=/ca', 'mysql://u@h/d?driverOptions[1]=1',
        ] as $dsn) {
            same(null, $read($dsn), $dsn);
        }
        same(null, $read('mysql:host=h;dbname=d', [\PDO::MYSQL_ATTR_SSL_CA => '/ca']), 'certificates');
        putenv('PGSSLMODE=require');
        same(null, $read('pgsql:host=h;dbname=d'));
        putenv('PGSSLMODE');
    });

    $t->test("{$setup->mode} factory::what only PDO or Doctrine understands is connected to by them", static function () use ($setup, $clients): void {
        require_once 'Doctrine/DBAL/autoload.php';
        $pdo = $clients->pdo('pgsql');
        $named = fn (string $name): int => (int) $pdo->query("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{$name}'")->fetchColumn();
        $mark = strtr(basename(dirname($setup->temp)) . $setup->mode, '-', '_');
        $login = ['db_username' => 'postgres', 'db_password' => ''];
        $quoted = fn (string $name): string => str_replace('=postgres', "='postgres'", $clients->dsn('pgsql')) . ";application_name={$name}";
        $url = fn (string $name): string => $clients->url('pgsql') . "?application_name={$name}";
        foreach ([
            new S\PdoStore($quoted("{$mark}0"), $login), new S\PostgreSqlStore($quoted("{$mark}1"), $login),
            new S\PdoStore($url("{$mark}2")), new S\DoctrineDbalStore($url("{$mark}3")), new S\DoctrineDbalPostgreSqlStore($url("{$mark}4")),
        ] as $number => $store) {
            $factory = new LockFactory($store);
            $lock = $factory->createLock("understood {$mark}", 30);
            same([true, false, 1], [$lock->acquire(), $factory->createLock("understood {$mark}", 30)->acquire(), $named("{$mark}{$number}")], "number {$number}");
            $lock->release();
        }
        $clients->pdo('mysql')->exec('CREATE DATABASE IF NOT EXISTS `my locks`');
        $blank = str_replace('dbname=test', 'dbname=my locks', $clients->dsn('mysql'));
        $lock = (new LockFactory(new S\PdoStore($blank, ['db_username' => 'locker', 'db_password' => ''])))->createLock("blank {$mark}");
        same(true, $lock->acquire());
        $rows = $clients->pdo('mysql')->query("SELECT count(*) FROM `my locks`.lock_keys WHERE key_id = '" . hash('sha256', "blank {$mark}") . "'");
        same(1, (int) $rows->fetchColumn());
        $lock->release();
    });

    $t->test("{$setup->mode} factory::options of a DSN, and several servers, as Symfony's cache reads them", static function () use ($setup, $clients): void {
        [$redis, $memcached] = [$clients->redis()->getPort(), $setup->ports['memcached']];
        throws(InvalidArgumentException::class, static fn () => S\StoreFactory::createStore('redis:?host[a]&host[b]')); // it is not loaded yet
        $kept = static function (string $dsn, \Closure $isThere, string $class) use ($setup): void {
            $store = S\StoreFactory::createStore($dsn);
            same($class, $store::class, $dsn);
            $name = "options-{$setup->mode}-" . md5($dsn);
            $lock = (new LockFactory($store))->createLock($name, 30);
            same([true, true], [$lock->acquire(), $isThere($name)], $dsn);
            $lock->release();
            same(false, $isThere($name), $dsn);
        };
        $in = static fn (int $database): \Closure => static fn (string $name): bool => $clients->redis($database)->exists($name) === 1;
        $kept("redis://127.0.0.1:{$redis}?timeout=5&read_timeout=2.5&persistent=1&persistent_id=x&retry_interval=10&lazy=1&tcp_keepalive=0", $in(0), SynlockStore::class);
        $kept("redis://127.0.0.1:{$redis}/?dbindex=6", $in(6), SynlockStore::class);
        $kept("redis://127.0.0.1:{$redis}/7?timeout=0", $in(7), SynlockStore::class);
        require_once 'Symfony/Component/Cache/autoload.php';
        $item = static fn (string $name): bool => $clients->memcached()->get($name) !== false;
        $kept("redis:?host[127.0.0.1:{$redis}]&dbindex=0", $in(0), S\RedisStore::class);
        $kept("redis:?host[127.0.0.1:{$redis}]&host[127.0.0.1:{$redis}]&class=RedisArray", $in(0), S\RedisStore::class);
        $kept("memcached:?host[127.0.0.1:{$memcached}]", $item, S\MemcachedStore::class);
        $kept("memcached://127.0.0.1:{$memcached}?recv_timeout=500", $item, S\MemcachedStore::class);
        $server = $clients->cluster();
        $kept("redis:?host[{$clients->clusterAt()}]&redis_cluster=1", static fn (string $name): bool => $clients->redisCluster('')->exists($name) === 1, S\RedisStore::class);
        $server->signal(SIGKILL);
        $server->wait();
    });

    $t->test("{$setup->mode} factory::a password and a database of a DSN", static function () use ($setup, $clients): void {
        $admin = $clients->redis();
        $admin->rawCommand('ACL', 'SETUSER', 'locker', 'on', '>s:cret', '~*', '&*', '+@all');
        $factory = new LockFactory(S\StoreFactory::createStore("redis://locker:s%3Acret@127.0.0.1:{$admin->getPort()}/5"));
        $lock = $factory->createLock("where {$setup->mode}", 30);
        same(true, $lock->acquire());
        $admin->select(5);
        same(\Redis::REDIS_ZSET, $admin->type("where {$setup->mode}"));
        $admin->auth(['locker', 's:cret']);
        same(false, (new LockFactory(new S\RedisStore($admin)))->createLock("where {$setup->mode}")->acquire(), 'and of a client');
        $lock->release();
    });

    $t->test("{$setup->mode} tables::createTable fails as a PDO does", static function () use ($setup): void {
        throws(\PDOException::class, static fn () => (new S\PdoStore("sqlite:{$setup->temp}/no/such/folder.db"))->createTable());
        throws(\PDOException::class, static fn () => (new S\PdoStore('mysql:host=127.0.0.1;port=1;dbname=x'))->createTable());
    });

    $t->test("{$setup->mode} tables::the schema for Doctrine's migrations", static function () use ($clients): void {
        $schema = new \Doctrine\DBAL\Schema\Schema();
        $connection = $clients->dbal('sqlite');
        (new S\DoctrineDbalStore($connection))->configureSchema($schema, static fn (): bool => false);
        same(false, $schema->hasTable('lock_keys'), 'another database');
        $store = new S\DoctrineDbalStore($connection, ['db_table' => 'migrated']);
        $store->configureSchema($schema, static fn (): bool => true);
        $store->configureSchema($schema);
        same(['key_id', 'key_token', 'key_expiration'], array_keys($schema->getTable('migrated')->getColumns()));
    });
};
