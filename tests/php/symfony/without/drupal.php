<?php

// Synlock\Drupal beside Drupal's own statements, on each of its databases; and without a database.

declare(strict_types=1);

namespace Synlock\Tests;

use Synlock\Drupal\LockBackend;
use Synlock\Drupal\NullLockBackend;
use Synlock\Drupal\PersistentLockBackend;
use Synlock\Drupal\StoreFactory;
use Synlock\Exception\ForkedHandle;
use Synlock\Exception\InvalidArgument;
use Synlock\Exception\Unavailable;
use Synlock\Exception\Unsupported;
use Synlock\Runtime;
use Synlock\Store;

require_once __DIR__ . '/../lib/DrupalPeer.php';

return static function (Runner $t, Setup $setup): void {
    $folder = $setup->folder('site');
    $places = [
        'sqlite' => ["sqlite:{$folder}/site.db?io_timeout=10000", "sqlite:{$folder}/site.db", ''],
        'postgres' => ["postgres://postgres@127.0.0.1:{$setup->ports['postgres']}/postgres?io_timeout=10000", "pgsql:host=127.0.0.1;port={$setup->ports['postgres']};dbname=postgres", 'postgres'],
        'mysql' => ["mysql://locker@127.0.0.1:{$setup->ports['mariadb']}/test?io_timeout=10000", "mysql:host=127.0.0.1;port={$setup->ports['mariadb']};dbname=test", 'locker'],
    ];
    // The columns of a table's indexes, by the names that Drupal's schema gives them.
    $indexes = static function (string $engine, \PDO $pdo, string $table = 'semaphore'): array {
        [$sql, $named] = match ($engine) {
            'sqlite' => ["SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = '{$table}'", "/^{$table}_(value|expire)$|^sqlite_autoindex_{$table}_1$/"],
            'postgres' => ["SELECT indexname FROM pg_indexes WHERE tablename = '{$table}'", "/^{$table}__(value|expire)__idx$|^{$table}_pkey$/"],
            'mysql' => ["SELECT DISTINCT index_name FROM information_schema.statistics WHERE table_name = '{$table}'", '/^(value|expire)$|^PRIMARY$/'],
        };
        $found = [];
        foreach ($pdo->query($sql)->fetchAll(\PDO::FETCH_COLUMN) as $name) {
            same(1, preg_match($named, $name, $column), $name);
            $found[] = $column[1] ?? 'name';
        }
        sort($found);

        return $found;
    };
    foreach ($places as $engine => [$url, $dsn, $user]) {
        $url .= '&dialect=drupal';
        $store = Store::open($url);
        $store->createTable(10.0);
        $pdo = DrupalPeer::connect($dsn, $user);
        $ours = static fn (): LockBackend => new LockBackend($store);
        $theirs = static fn (?string $id = null): DrupalPeer => new DrupalPeer($pdo, $id);
        $expired = static function (DrupalPeer $peer, string $name): void {
            until(static fn (): bool => microtime(true) > $peer->row($name)['expire'], 20, 'the end of a lease');
        };
        // Takes a lock that is free with a lease that is soon over, but not before a slow machine hears of its grant.
        $briefly = static function (LockBackend $lock, string $name): void {
            for ($seconds = 0.05, $isHeld = false; !$isHeld; $seconds *= 4) {
                ok($seconds < 20, 'a grant arrives before its lease is over');
                try {
                    $isHeld = $lock->acquire($name, $seconds);
                } catch (Unavailable) {
                }
            }
        };

        $t->test("drupal::{$engine}: each excludes the other, and is excluded", static function () use ($ours, $theirs): void {
            [$a, $b, $peer] = [$ours(), $ours(), $theirs()];
            same(true, $a->acquire('cron', 300.0));
            same($a->getLockId(), $peer->row('cron')['value'], 'the owner in the row');
            ok(preg_match('/[\da-f]+\.\d+/', $a->getLockId()) === 1 && $a->getLockId() !== $b->getLockId(), 'ids as Drupal has them');
            $left = $peer->row('cron')['expire'] - microtime(true);
            ok($left > 200 && $left < 301, "{$left} s are left");
            same([false, false, false, false], [$peer->acquire('cron'), $peer->lockMayBeAvailable('cron'), $b->acquire('cron'), $b->lockMayBeAvailable('cron')]);
            same(true, $a->acquire('cron', 400.0), 'renewed');
            ok($peer->row('cron')['expire'] - microtime(true) > 300, 'for longer');
            $peer->release('cron');
            $b->release('cron');
            same(false, $peer->acquire('cron'), 'who does not hold it releases nothing');
            $a->release('cron');
            same([true, true], [$b->lockMayBeAvailable('cron'), $peer->acquire('cron')]);
            same([false, false, true], [$a->acquire('cron'), $a->lockMayBeAvailable('cron'), $a->wait('cron', 0)]);
            same(true, $peer->acquire('cron', 60.0), 'renewed');
            $peer->release('cron');
            same([false, true], [$a->wait('cron', 20), $a->acquire('cron')]);
            $a->release('cron');
        });

        $t->test("drupal::{$engine}: what has expired is broken, by either, and its holder hears of it", static function () use ($ours, $theirs, $expired, $briefly): void {
            [$a, $peer] = [$ours(), $theirs()];
            $briefly($a, 'short');
            $expired($peer, 'short');
            same(true, $peer->acquire('short', 300.0), 'broken by Drupal');
            same([false, false], [$a->acquire('short'), $a->acquire('short')], 'our renewal, and our next acquire');
            $peer->release('short');
            same(true, $peer->acquire('short', 0.05));
            $expired($peer, 'short');
            same(true, $a->lockMayBeAvailable('short'), 'broken by us');
            same(null, $peer->row('short'));
            same(false, $peer->acquire('short'), "Drupal's renewal");
            same(true, $peer->acquire('short', 0.05));
            same(false, $a->wait('short', 20), 'waited for, and broken');
            same([null, true], [$peer->row('short'), $a->acquire('short')]);
            same(false, $peer->acquire('short'), "Drupal's renewal");
            $a->release('short');
            same(true, $peer->acquire('short', 0.05));
            $expired($peer, 'short');
            same(true, $a->acquire('short', 300.0), 'taken over at once');
            same(false, $peer->acquire('short'));
            $a->release('short');
        });

        $t->test("drupal::{$engine}: a lease that is over is not revived", static function () use ($ours, $theirs, $expired, $briefly): void {
            [$a, $peer] = [$ours(), $theirs()];
            $briefly($a, 'revived');
            $expired($peer, 'revived');
            same([false, true, true], [$a->acquire('revived'), $a->acquire('revived'), $a->acquire('revived')]);
            $a->releaseAll();
        });

        $t->test("drupal::{$engine}: all of an id are released, by either", static function () use ($ours, $theirs): void {
            [$a, $b, $peer] = [$ours(), $ours(), $theirs()];
            $a->releaseAll();
            foreach (['one', 'two', 'three'] as $name) {
                same(true, $a->acquire($name, 300.0));
            }
            same(true, $b->acquire('four', 300.0));
            $peer->releaseAll($a->getLockId());
            same([null, null, null], [$peer->row('one'), $peer->row('two'), $peer->row('three')]);
            same([false, false], [$a->acquire('one'), $a->acquire('two')], 'lost, and known of each');
            same(true, $peer->acquire('one', 300.0) && $peer->acquire('two', 300.0));
            $a->releaseAll($peer->id);
            same([false, false], [$peer->acquire('one'), $peer->acquire('two')]);
            same(true, $a->acquire('one') && $a->acquire('two'));
            $a->releaseAll();
            same([null, null, $b->getLockId()], [$peer->row('one'), $peer->row('two'), $peer->row('four')['value']]);
            $b->releaseAll($b->getLockId());
            same(null, $peer->row('four'));
        });

        $t->test("drupal::{$engine}: names of any length and language", static function () use ($ours, $theirs): void {
            [$a, $peer] = [$ours(), $theirs()];
            foreach ([str_repeat('n', 255), str_repeat('n', 256), str_repeat('long ', 200), 'café', '名前', 'state:Drupal\Core\Theme'] as $name) {
                same(true, $a->acquire($name), $name);
                same([$a->getLockId(), false], [$peer->row($name)['value'] ?? null, $peer->acquire($name)], $name);
                $a->release($name);
                same([true, false], [$peer->acquire($name), $a->acquire($name)], $name);
                $peer->release($name);
            }
        });

        $t->test("drupal::{$engine}: the names of the vectors stand in the rows", static function () use ($engine, $store, $ours, $theirs, $pdo): void {
            $rows = json_decode((string) file_get_contents(ROOT . '/tests/vectors/drupal_lock.json'), true, 16, JSON_THROW_ON_ERROR)['rows'];
            [$a, $peer] = [$ours(), $theirs()];
            $count = 0;
            foreach ($rows as ['name' => $name, 'expect' => ['semaphore_name' => $key]]) {
                $name = is_array($name) ? hex2bin($name['hex']) : $name;
                if ($name === '') {
                    throws(InvalidArgument::class, static fn () => $a->acquire(''));
                    continue;
                }
                // PostgreSQL's columns hold no NUL, and PDO hands over what stands before it.
                $key = $engine === 'postgres' ? explode("\0", $key)[0] : $key;
                same(true, $a->acquire($name), bin2hex($name));
                same([$key], $peer->run('SELECT name FROM semaphore WHERE value = ?', [$a->getLockId()])->fetchAll(\PDO::FETCH_COLUMN), bin2hex($name));
                same(false, $peer->acquire($name), bin2hex($name));
                // SQLite's functions and MySQL's comparisons read some names as shorter ones.
                if ($key !== '' && $key[0] > ' ' && !str_contains($key, "\0")) {
                    same([$key], array_map(static fn ($found): string => $found->name, iterator_to_array($store->list($key), false)), bin2hex($name));
                }
                $a->release($name);
                same([true, false], [$peer->acquire($name), $a->acquire($name)], bin2hex($name));
                $peer->release($name);
                ++$count;
            }
            ok($count >= 63, "{$count} rows");
        });

        $t->test("drupal::{$engine}: what the column takes for one name is one lock", static function () use ($ours, $theirs): void {
            $same = 0;
            foreach ([['Twin', 'tWIN'], ['blank', 'blank '], ["nul\0a", "nul\0b"], ['one', 'two']] as [$name, $twin]) {
                [$a, $b, $peer] = [$ours(), $ours(), $theirs()];
                same(true, $peer->acquire($name));
                $isTwo = $peer->acquire($twin);
                $peer->releaseAll($peer->id);
                same([true, $isTwo], [$a->acquire($name), $a->acquire($twin)], "{$name}, {$twin}");
                same([false, false, false, false], [$b->acquire($name), $b->acquire($twin), $peer->acquire($name), $peer->acquire($twin)]);
                $a->release($twin);
                same([false, $isTwo], [$b->acquire($name), $b->acquire($twin)], 'the first one is held');
                same(true, $a->acquire($name), 'and renewed');
                $a->releaseAll();
                same(true, $b->acquire($name));
                $b->releaseAll();
                $same += (int) !$isTwo;
            }
            ok($same >= 1, 'some are one');
        });

        $t->test("drupal::{$engine}: a request's end releases, even after exit()", static function () use ($setup, $url, $ours, $theirs): void {
            $request = $setup->process('$lock = new \Synlock\Drupal\LockBackend($arguments[0]); echo (int) $lock->acquire("exit", 300.0), $lock->getLockId(), "\n"; fgets(STDIN); exit;', [$url]);
            $line = $request->line(30);
            same('1', $line[0]);
            $peer = $theirs();
            same([substr($line, 1), false, false], [$peer->row('exit')['value'], $peer->acquire('exit'), $ours()->acquire('exit')]);
            $request->send('go');
            $request->wait(30);
            same(null, $peer->row('exit'));
        });

        $t->test("drupal::{$engine}: a fatal error releases, too", static function () use ($setup, $url, $theirs): void {
            $request = $setup->process('$lock = new \Synlock\Drupal\LockBackend($arguments[0]); echo (int) $lock->acquire("fatal", 600.0), $lock->getLockId(), "\n"; fgets(STDIN); ini_set("memory_limit", "8M"); str_repeat("x", 1 << 30);', [$url]);
            $line = $request->line(30);
            $peer = $theirs();
            same(['1', substr($line, 1)], [$line[0], $peer->row('fatal')['value']]);
            $request->send('go');
            same(255, $request->wait(30), $request->output);
            ok(str_contains($request->output, 'Allowed memory size'), $request->output);
            same(null, $peer->row('fatal'));
        });

        $t->test("drupal::{$engine}: thirty seconds, where no time is given", static function () use ($ours, $theirs): void {
            [$a, $peer] = [$ours(), $theirs()];
            $start = microtime(true);
            same(true, $a->acquire('default'));
            $ends = $peer->row('default')['expire'];
            ok($ends >= $start + 29.9 && $ends <= microtime(true) + 30.1, "ends {$ends}, began {$start}");
            foreach (['acquire' => 30.0, 'wait' => 30] as $method => $default) {
                same($default, (new \ReflectionMethod(LockBackend::class, $method))->getParameters()[1]->getDefaultValue(), $method);
            }
            $a->releaseAll();
        });

        $t->test("drupal::{$engine}: a table that is gone is made again, whatever is asked of it", static function () use ($engine, $ours, $theirs, $pdo, $indexes): void {
            $asked = [
                'acquire' => static fn (LockBackend $lock) => same(true, $lock->acquire('gone')),
                'lockMayBeAvailable' => static fn (LockBackend $lock) => same(true, $lock->lockMayBeAvailable('gone')),
                'wait' => static fn (LockBackend $lock) => same(false, $lock->wait('gone', 0)),
                'release' => static fn (LockBackend $lock) => $lock->release('gone'),
                'releaseAll' => static fn (LockBackend $lock) => $lock->releaseAll(),
                'releaseAll of an id' => static fn (LockBackend $lock) => $lock->releaseAll('persistent'),
            ];
            foreach ($asked as $what => $ask) {
                $lock = $ours();
                same(true, $lock->acquire('kept', 300.0), $what);
                $pdo->exec('DROP TABLE semaphore');
                $ask($lock);
                same(null, $theirs()->row('kept'), "{$what} made the table");
                same(true, $theirs()->lockMayBeAvailable('gone') || $what === 'acquire');
                $lock->releaseAll();
                same(['expire', 'name', 'value'], $indexes($engine, $pdo), "{$what}: Drupal's indexes");
            }
        });

        $t->test("drupal::{$engine}: persistent locks outlive the request", static function () use ($setup, $store, $url, $theirs): void {
            $request = $setup->process('$lock = new \Synlock\Drupal\PersistentLockBackend($arguments[0]); echo (int) $lock->acquire("kept", 300.0), (int) $lock->acquire("kept", 300.0), $lock->getLockId(), "\n";', [$url]);
            same('11persistent', $request->line(30));
            $request->wait(30);
            [$a, $peer] = [new PersistentLockBackend($store), $theirs('persistent')];
            same('persistent', $peer->row('kept')['value']);
            same([false, false, false], [$a->acquire('kept'), $peer->acquire('kept'), $a->lockMayBeAvailable('kept')]);
            $peer->release('kept');
            same(true, $a->acquire('kept', 300.0));
            same(false, $peer->acquire('kept'));
            $a->release('kept');
            same(true, $peer->acquire('kept', 300.0));
            same(false, $a->acquire('kept'));
            $a->release('kept');
            same(null, $peer->row('kept'), 'anybody may release it');
        });

        $t->test("drupal::{$engine}: releasing all leaves the persistent locks of others alone", static function () use ($store, $theirs, $briefly): void {
            [$a, $refused, $peer] = [new PersistentLockBackend($store), new PersistentLockBackend($store), $theirs('persistent')];
            same([true, false], [$a->acquire('mine', 300.0), $refused->acquire('mine', 300.0)]);
            $refused->releaseAll();
            $theirs('persistent')->releaseAll();
            same('persistent', $peer->row('mine')['value'] ?? null, 'who holds nothing releases nothing');
            same(true, $refused->acquire('own', 300.0));
            $refused->releaseAll();
            same([null, 'persistent'], [$peer->row('own'), $peer->row('mine')['value'] ?? null], 'its own alone');
            same([true, false], [$a->acquire('mine', 300.0), $refused->acquire('mine', 300.0)], 'renewed');
            $briefly($refused, 'brief');
            until(static fn (): bool => microtime(true) > $peer->row('brief')['expire'], 20, 'the end of a lease');
            same(true, $a->acquire('brief', 300.0));
            $refused->releaseAll();
            same('persistent', $peer->row('brief')['value'] ?? null, 'what it lost is not its own');
            $refused->releaseAll('persistent');
            same([null, null], [$peer->row('mine'), $peer->row('brief')], 'asked for by its id, all of it');
        });
    }

    $t->test('drupal::ids of locks look as Drupal makes them', static function () use ($setup): void {
        $file = json_decode((string) file_get_contents(ROOT . '/tests/vectors/drupal_lock_id.json'), true, 16, JSON_THROW_ON_ERROR);
        foreach ($file['rows'] as ['name' => $id, 'expect' => $expect]) {
            same($expect, ['request_lock_id' => preg_match("/{$file['strict_regex']}/", $id) === 1, 'persistent' => $id === $file['persistent_literal']], $id);
        }
        same(15, count($file['rows']));
        foreach (["redis://127.0.0.1:{$setup->ports['redis']}", "sqlite:{$setup->folder('site')}/site.db?dialect=drupal"] as $url) {
            for ($ids = []; count($ids) < 50; $ids[] = $id) {
                $id = (new LockBackend($url))->getLockId();
                same([1, 1], [preg_match($file['upstream_test_regex'], $id), preg_match("/{$file['strict_regex']}/", $id)], $id);
            }
            same(50, count(array_unique($ids)));
            same($file['persistent_literal'], (new PersistentLockBackend($url))->getLockId());
        }
    });

    $t->test('drupal::any store will do', static function () use ($setup): void {
        foreach (["redis://127.0.0.1:{$setup->ports['redis']}?prefix=drupal:", "flock:{$setup->folder('locks')}"] as $url) {
            [$a, $b] = [new LockBackend($url), new LockBackend(Store::open($url))];
            same([true, true, false, false], [$a->acquire('x'), $a->acquire('x', 40.0), $b->acquire('x'), $b->lockMayBeAvailable('x')]);
            same(true, $b->wait('x', 0));
            $a->release('x');
            same([true, false, true], [$b->lockMayBeAvailable('x'), $a->wait('x'), $b->acquire('x')]);
            $b->releaseAll();
            same(true, $a->acquire('x'));
            unset($a);
            same(true, $b->acquire('x'));
            $b->releaseAll();
        }
        throws(Unsupported::class, static fn () => (new PersistentLockBackend("flock:{$setup->folder('locks')}"))->acquire('x'));
    });

    $t->test('drupal::the end of a request in a worker ends its session', static function () use ($setup): void {
        $url = "redis://127.0.0.1:{$setup->ports['redis']}?prefix=worker:";
        [$lock, $other] = [new LockBackend($url), Store::open($url)];
        same(true, $lock->acquire('job'));
        $id = $lock->getLockId();
        Runtime::endRequest();
        same(false, $other->isLocked('job'));
        ok($lock->getLockId() !== $id, 'the next request has an id of its own');
        same(true, $lock->acquire('job'));
        $lock->releaseAll();
    });

    $t->test('session::of PHP', static function () use ($setup): void {
        $store = Store::open("flock:{$setup->folder('sessions')}");
        [$mine, $other] = [$store->createSession(), $store->createSession()];
        same([true, true, true, false], [$mine->acquire('a'), $mine->acquire('a', 60.0), $mine->renew('a'), $mine->isPersistent()]);
        same([false, false, false, false], [$other->acquire('a'), $other->renew('a'), $other->release('a'), $other->mayBeAvailable('a')]);
        same(true, $other->wait('a', 0.05));
        same([true, 1], [$mine->acquire('b'), $mine->release('b') ? $mine->releaseAll() : -1]);
        same([false, true], [$other->wait('a'), $other->acquire('a')]);
        throws(Unsupported::class, static fn () => $store->createSession('persistent'));
        throws(InvalidArgument::class, static fn () => Store::open("redis://127.0.0.1:{$setup->ports['redis']}")->createSession("é\n"));
        throws(InvalidArgument::class, static fn () => $mine->acquire('a', 0.0));
        throws(InvalidArgument::class, static fn () => $mine->acquire(''));
        throws(Unsupported::class, static fn () => serialize($mine));
        $child = pcntl_fork();
        if ($child === 0) {
            try {
                $other->acquire('a');
            } catch (ForkedHandle) {
                posix_kill(getmypid(), $mine->acquire('a') ? SIGKILL : SIGTERM);
            }
            posix_kill(getmypid(), SIGKILL);
        }
        pcntl_waitpid($child, $status);
        same(SIGTERM, pcntl_wtermsig($status), 'the parent\'s session is refused, the idle one finds the lock busy');
        same(true, $other->renew('a'), "the child's end did nothing to it");
    });

    $t->test('session::thirty seconds where PHP gives no time', static function () use ($setup): void {
        $store = Store::open("redis://127.0.0.1:{$setup->ports['redis']}?prefix=default:");
        $mine = $store->createSession();
        $isDefault = static function () use ($store): bool {
            $left = $store->inspect('x')->holders[0]->remaining;

            return $left > 5.0 && $left <= 30.0;
        };
        same([true, true], [$mine->acquire('x'), $isDefault()]);
        same([true, true, true, true], [$mine->release('x'), $mine->acquire('x', 2.5), $mine->renew('x'), $isDefault()]);
        foreach (['acquire', 'renew', 'wait'] as $method) {
            same(30.0, (new \ReflectionMethod($mine, $method))->getParameters()[1]->getDefaultValue(), $method);
        }
        $mine->releaseAll();
    });

    $t->test('drupal::the null backend', static function (): void {
        $lock = new NullLockBackend();
        same([true, true, false], [$lock->acquire('x'), $lock->lockMayBeAvailable('x'), $lock->wait('x')]);
        $lock->release('x');
        $lock->releaseAll();
        ok(preg_match('/[\da-f]+\.\d+/', $lock->getLockId()) === 1 && $lock->getLockId() === $lock->getLockId(), $lock->getLockId());
    });

    // As its sources have it from 8.0 to 11, and as it would be with types.
    $interfaces = [
        'Drupal 8 to 11' => 'public function acquire($name, $timeout = 30.0); public function lockMayBeAvailable($name); public function wait($name, $delay = 30); public function release($name); public function releaseAll($lockId = NULL); public function getLockId();',
        'the same with types' => 'public function acquire(string $name, float $timeout = 30.0): bool; public function lockMayBeAvailable(string $name): bool; public function wait(string $name, int $delay = 30): bool; public function release(string $name): void; public function releaseAll(?string $lockId = NULL): void; public function getLockId(): string;',
    ];
    foreach ($interfaces as $which => $methods) {
        $t->test("drupal::its interface, {$which}", static function () use ($setup, $methods): void {
            $run = $setup->process(
                'eval("namespace Drupal\Core\Lock; interface LockBackendInterface { {$arguments[0]} }");'
                . ' foreach (["LockBackend", "PersistentLockBackend", "NullLockBackend"] as $class) echo (int) is_subclass_of("Synlock\Drupal\\\\$class", "Drupal\Core\Lock\LockBackendInterface");'
                . ' $lock = new \Synlock\Drupal\LockBackend("memory:"); echo (int) $lock->acquire(name: "x", timeout: 1.0), (int) $lock->wait(name: "x", delay: 0); $lock->releaseAll(lockId: null); echo "\n";',
                [$methods],
            );
            same('11111', $run->line(30));
        });
    }

    $t->test("drupal::the store of a site's own database", static function () use ($setup, $folder, $places): void {
        $cases = [
            [['driver' => 'mysql', 'host' => 'db', 'port' => '3307', 'username' => 'u@x', 'password' => 'p:/?#', 'database' => 'site', 'prefix' => ''],
                ['mysql://u%40x:p%3A%2F%3F%23@db:3307/site', ['dialect' => 'drupal']]],
            [['driver' => 'mysql', 'unix_socket' => '/run/my.sock', 'host' => 'localhost', 'username' => 'u', 'password' => '', 'database' => 'site', 'prefix' => 'd8_'],
                ['mysql://u@/site', ['dialect' => 'drupal', 'table' => 'd8_semaphore', 'socket' => '/run/my.sock']]],
            [['driver' => 'pgsql', 'username' => 'u', 'database' => 'site', 'prefix' => ['default' => 'd8_', 'semaphore' => 'shared_'], 'schema' => 'app'],
                ['postgres://u@localhost/site', ['dialect' => 'drupal', 'table' => 'app.shared_semaphore']]],
            [['driver' => 'sqlite', 'database' => '/var/www/sites/a b/.ht.sqlite'], ['sqlite:/var/www/sites/a%20b/.ht.sqlite', ['dialect' => 'drupal']]],
            [['driver' => 'sqlite', 'database' => '/var/www/.ht.sqlite', 'prefix' => 'simpletest1'], ['sqlite:/var/www/.ht.sqlite-simpletest1', ['dialect' => 'drupal']]],
        ];
        foreach ($cases as [$info, $expected]) {
            same($expected, StoreFactory::fromConnection($info));
            Store::open(...$expected);
        }
        throws(InvalidArgument::class, static fn () => StoreFactory::fromConnection(['driver' => 'oracle']));
        [$url, $options] = StoreFactory::fromConnection(['driver' => 'sqlite', 'database' => "{$folder}/site.db", 'prefix' => '']);
        same(Store::open("{$places['sqlite'][0]}&dialect=drupal")->fingerprint(), Store::open($url, $options)->fingerprint());
        same("redis://x", StoreFactory::create('redis://x')->url());
    });

    $t->test("drupal::the prefix of a site's tables is locked by", static function () use ($setup, $places, $indexes): void {
        $at = static fn (string $server): array => ['host' => '127.0.0.1', 'port' => (string) $setup->ports[$server], 'password' => ''];
        $infos = [
            'mysql' => ['driver' => 'mysql', 'username' => 'locker', 'database' => 'test', 'prefix' => 'site1_'] + $at('mariadb'),
            'postgres' => ['driver' => 'pgsql', 'username' => 'postgres', 'database' => 'postgres', 'prefix' => ['default' => 'no_', 'semaphore' => 'site1_'], 'schema' => 'public'] + $at('postgres'),
        ];
        foreach ($infos as $engine => $info) {
            $pdo = DrupalPeer::connect($places[$engine][1], $places[$engine][2]);
            $pdo->exec('DROP TABLE IF EXISTS site1_semaphore');
            [$url, $options] = StoreFactory::fromConnection($info);
            [$lock, $other] = [new LockBackend(Store::open($url, $options)), new LockBackend("{$places[$engine][0]}&dialect=drupal")];
            same([true, true], [$lock->acquire('cron', 300.0), $other->acquire('cron', 300.0)], 'another table');
            same([$lock->getLockId()], $pdo->query("SELECT value FROM site1_semaphore WHERE name = 'cron'")->fetchAll(\PDO::FETCH_COLUMN), $engine);
            same(['expire', 'name', 'value'], $indexes($engine, $pdo, 'site1_semaphore'));
            $lock->releaseAll();
            $other->releaseAll();
            same([], $pdo->query('SELECT name FROM site1_semaphore')->fetchAll());
        }
        $folder = $setup->folder('prefixed');
        [$url, $options] = StoreFactory::fromConnection(['driver' => 'sqlite', 'database' => "{$folder}/site.db", 'prefix' => 'two']);
        $lock = new LockBackend(Store::open($url, $options));
        same([true, true], [$lock->acquire('cron', 300.0), is_file("{$folder}/site.db-two")]);
        $peer = new DrupalPeer(DrupalPeer::connect("sqlite:{$folder}/site.db-two", ''));
        same([$lock->getLockId(), false], [$peer->row('cron')['value'], $peer->acquire('cron')]);
    });
};
