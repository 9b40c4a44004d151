<?php

// Laravel's own locks, in Debian's Laravel 8, and ours in their format keep each other out.

declare(strict_types=1);

namespace Synlock\Tests;

use Illuminate\Cache\DatabaseStore;
use Illuminate\Cache\MemcachedStore;
use Illuminate\Cache\RedisStore;
use Illuminate\Contracts\Redis\Factory;
use Illuminate\Database\MySqlConnection;
use Illuminate\Database\PostgresConnection;
use Illuminate\Database\SQLiteConnection;
use Illuminate\Redis\Connections\PhpRedisConnection;
use Synlock\Laravel\LockProvider;

return static function (Runner $t, Setup $setup): void {
    foreach (['Cache', 'Database', 'Redis'] as $part) {
        require_once "Illuminate/{$part}/autoload.php";
    }
    $clients = new Clients($setup);
    $redis = new class (new PhpRedisConnection($clients->redis())) implements Factory {
        public function __construct(private readonly PhpRedisConnection $connection)
        {
        }

        public function connection($name = null): PhpRedisConnection
        {
            return $this->connection;
        }
    };
    $pairs = [
        'redis' => [new RedisStore($redis, 'laravel_cache'), "redis://127.0.0.1:{$setup->ports['redis']}?dialect=plain&prefix=laravel_cache:"],
        'memcached' => [
            new MemcachedStore($clients->memcached(), 'laravel_cache'),
            "memcached://127.0.0.1:{$setup->ports['memcached']}?dialect=symfony&prefix=laravel_cache:",
        ],
    ];
    $connections = ['sqlite' => SQLiteConnection::class, 'mysql' => MySqlConnection::class, 'pgsql' => PostgresConnection::class];
    foreach ($connections as $engine => $class) {
        $connection = new $class($clients->pdo($engine));
        // The table of Laravel's migration.
        $connection->getSchemaBuilder()->create('cache_locks', static function ($table): void {
            $table->string('key')->primary();
            $table->string('owner');
            $table->integer('expiration');
        });
        $url = strtok($clients->url($engine), '?') . '?dialect=laravel&prefix=laravel_cache';
        $pairs["database of {$engine}"] = [new DatabaseStore($connection, 'cache', 'laravel_cache'), $url];
    }
    foreach ($pairs as $name => [$theirs, $url]) {
        $ours = new LockProvider($url);
        $orders = [[$theirs, $ours], [$ours, $theirs], [$theirs, $ours]];

        $t->test("laravel peers {$name}::either keeps the other out, and leaves its lock alone", static function () use ($ours, $orders): void {
            foreach ($orders as [$first, $second]) {
                foreach ([60, 0] as $seconds) {
                    $holder = $first->lock('both', $seconds);
                    same(true, $holder->get());
                    $other = $second->lock('both', 60);
                    same([false, false], [$other->get(), $other->release()]);
                    same(false, $second->restoreLock('both', 'somebody else')->release());
                    same([true, false], [$ours->lock('both')->isLocked(), $second->lock('both', 60)->get()]);
                    same(true, $holder->release());
                    same(false, $ours->lock('both')->isLocked());
                }
            }
        });

        $t->test("laravel peers {$name}::whoever was broken leaves the next one's lock alone", static function () use ($orders): void {
            foreach ($orders as [$first, $second]) {
                $broken = $first->lock('broken', 60);
                $next = $second->lock('broken', 60);
                same(true, $broken->get());
                $second->lock('broken')->forceRelease();
                same(true, $next->get());
                same([false, false], [$broken->release(), $first->lock('broken', 60)->get()]);
                same(true, $next->release());
            }
        });

        $t->test("laravel peers {$name}::a lock whose seconds are over is free to the other", static function () use ($orders): void {
            foreach ($orders as [$first, $second]) {
                same(true, $first->lock('short', 1)->get());
                $next = $second->lock('short', 60);
                until(static fn (): bool => $next->get(), 30, 'it ends');
                same(true, $next->release());
            }
        });

        $t->test("laravel peers {$name}::a wait for the other's lock", static function () use ($orders): void {
            foreach ($orders as [$first, $second]) {
                same(true, $first->lock('waited-for', 1)->get());
                $next = $second->lock('waited-for', 60);
                same(true, $next->block(60));
                same(false, $first->lock('waited-for', 60)->get());
                same(true, $next->release());
            }
        });
    }

    $t->test('laravel peers memcached::a name that is no key is an error, and no lock that is never free', static function () use ($pairs): void {
        [$theirs, $url] = $pairs['memcached'];
        same(false, $theirs->lock('a name', 60)->get());
        throws(\Synlock\Exception\InvalidArgument::class, static fn () => (new LockProvider($url))->lock('a name', 60)->get());
    });
};
