<?php

// SynlockStore in the real component, Debian's.

declare(strict_types=1);

namespace Synlock\Tests;

use Symfony\Component\Lock\Exception\LockAcquiringException;
use Symfony\Component\Lock\Exception\LockConflictedException;
use Symfony\Component\Lock\Exception\UnserializableKeyException;
use Symfony\Component\Lock\Key;
use Symfony\Component\Lock\LockFactory;
use Symfony\Component\Lock\Store\CombinedStore;
use Symfony\Component\Lock\Store\RetryTillSaveStore;
use Symfony\Component\Lock\Strategy\ConsensusStrategy;
use Synlock\Store;
use Synlock\Symfony\SynlockStore;

/** How long the lease of a lock lasts in its store, in seconds. */
function leftInStore(string $url, string $name): ?float
{
    return Store::open($url)->inspect($name)->holders[0]->remaining;
}

return static function (Runner $t, Setup $setup): void {
    $urls = $setup->urls();
    foreach ($urls as $name => $url) {
        $t->test("component {$name}::the component's own lock", static function () use ($url): void {
            // A quorum grants no longer leases than it is told.
            $factory = new LockFactory(new SynlockStore($url, str_starts_with($url, 'quorum:') ? ['max_ttl' => 600_000] : []));
            $lock = $factory->createLock('invoice', 30);
            $other = $factory->createLock('invoice', 30);
            same([true, true, false], [$lock->acquire(), $lock->acquire(), $other->acquire()]);
            same([true, false], [$lock->isAcquired(), $other->isAcquired()]);
            $lock->refresh();
            $lock->refresh(600);
            $hasLease = Store::open($url)->capabilities()->ttl;
            ok($hasLease ? $lock->getRemainingLifetime() > 590 : $lock->getRemainingLifetime() === null, 'the lifetime');
            same(false, $lock->isExpired());
            $other->release();
            same(true, $lock->isAcquired(), 'another lock frees nothing');
            $lock->release();
            same(true, $other->acquire(true));
            unset($other);
            same(true, $factory->createLock('invoice')->acquireRead(true), 'a lock that is destroyed is released');
        });
    }

    $t->test('component::the lease is the lock\'s from the start, in one step', static function () use ($urls): void {
        foreach (['redis', 'postgres', 'memory', 'shm'] as $name) {
            $factory = new LockFactory($store = new SynlockStore($urls[$name]));
            $combined = new LockFactory(new CombinedStore([$store], new ConsensusStrategy()));
            foreach ([$factory, $combined] as $at => $made) {
                $lock = $made->createLock("lease{$at}", 30);
                $lock->acquire();
                $left = leftInStore($urls[$name], "lease{$at}");
                ok($left > 20 && $left <= 30, "{$name}: {$left}");
                $lock->release();
            }
            $lock = $factory->createLock('lease without end', null);
            $lock->acquire();
            $left = leftInStore($urls[$name], 'lease without end');
            ok(in_array($name, ['memory', 'shm'], true) ? $left === null : $left > 290 && $left <= 300, "{$name}: {$left}");
            $lock->release();
        }
    });

    $t->test('component::a blocking acquire that ends throws a conflict', static function () use ($urls): void {
        $factory = new LockFactory(new SynlockStore($urls['shm'], ['timeout' => 50]));
        $holder = $factory->createLock('taken');
        $holder->acquire();
        throws(LockConflictedException::class, static fn () => $factory->createLock('taken')->acquire(true));
    });

    $t->test('component::trouble is no conflict', static function () use ($setup): void {
        $factory = new LockFactory(new SynlockStore("redis+unix://{$setup->temp}/nobody.sock"));
        throws(LockAcquiringException::class, static fn () => $factory->createLock('x')->acquire());
        $factory = new LockFactory(new SynlockStore("flock:{$setup->folder('flock')}"));
        throws(LockAcquiringException::class, static fn () => $factory->createLock('')->acquire());
        $factory = new LockFactory(new SynlockStore("flock:{$setup->folder('flock')}", ['strict' => true]));
        throws(LockAcquiringException::class, static fn () => $factory->createLock('x', 30)->acquire());
        same(true, $factory->createLock('x', null)->acquire());
    });

    $t->test('component::a lock that is lost', static function () use ($urls): void {
        foreach (['redis', 'shm', 'postgres'] as $name) {
            $factory = new LockFactory(new SynlockStore($urls[$name]));
            $lock = $factory->createLock('broken', 30);
            $lock->acquire();
            Store::open($urls[$name])->breakLock('broken');
            throws(LockConflictedException::class, static fn () => $lock->refresh());
            same(false, $lock->isAcquired());
            $lock->release();
            same(true, $lock->acquire(), 'it can be taken anew');
            $lock->release();
        }
    });

    $t->test('component::in a CombinedStore', static function () use ($setup): void {
        $urls = array_map(static fn (string $n): string => "sqlite:{$setup->folder('combined')}/{$n}.db", ['a', 'b', 'c']);
        $make = static fn (): LockFactory => new LockFactory(
            new CombinedStore(array_map(static fn (string $url) => new SynlockStore($url), $urls), new ConsensusStrategy()),
        );
        $lock = $make()->createLock('combined', 30);
        same(true, $lock->acquire());
        same(false, $make()->createLock('combined', 30)->acquire());
        Store::open($urls[0])->breakLock('combined');
        same(true, $lock->isAcquired(), 'two of three');
        same(false, $make()->createLock('combined', 30)->acquire());
        $lock->refresh(40);
        ok($lock->getRemainingLifetime() > 30, 'refreshed');
        $lock->release();
        same(true, $make()->createLock('combined', 30)->acquire());
    });

    $t->test('component::its stores in the classes of the package, whichever is loaded first', static function () use ($setup): void {
        $process = $setup->process(
            '$flock = new \Symfony\Component\Lock\Store\FlockStore($arguments[0]); $lock = (new \Synlock\Symfony\LockFactory($flock))->createLock("mixed");'
            . 'echo json_encode([$lock->acquire(), (new \Synlock\Symfony\LockFactory($flock))->createLock("mixed")->acquire()]);'
            . '$combined = new \Synlock\Symfony\Store\CombinedStore([$flock], new \Symfony\Component\Lock\Strategy\UnanimousStrategy());'
            . 'echo json_encode([(new \Synlock\Symfony\LockFactory($combined))->createLock("mixed")->acquire(), (new \Synlock\Symfony\LockFactory($combined))->createLock("other")->acquire()]);',
            [$setup->folder('mixed')],
        );
        same(0, $process->wait(), $process->output);
        same('[true,false][false,true]', $process->output);
    });

    $t->test('component::in a RetryTillSaveStore', static function () use ($urls): void {
        $factory = new LockFactory(@new RetryTillSaveStore(new SynlockStore($urls['redis']), 1, 3));
        $lock = $factory->createLock('retried', 30);
        same(true, $lock->acquire(true));
        throws(LockConflictedException::class, static fn () => $factory->createLock('retried', 30)->acquire(true));
    });

    $t->test('component::a key goes to another process, and the first to use it has it', static function () use ($setup, $urls): void {
        foreach (['redis', 'shm', 'memcached', 'postgres', 'quorum'] as $name) {
            $factory = new LockFactory(new SynlockStore($urls[$name]));
            $lock = $factory->createLockFromKey($key = new Key('travels'), 60, false);
            same(true, $lock->acquire());
            $text = serialize($key);
            $process = $setup->process(
                '$factory = $setup->factory(new \Synlock\Symfony\SynlockStore($arguments[0]));'
                . '$lock = $factory->createLockFromKey(unserialize(base64_decode($arguments[1])), 60, false);'
                . '$lock->refresh(120); echo json_encode([$lock->isAcquired(), $factory->createLock("travels")->acquire()]), "\n"; fgets(STDIN); $lock->release();',
                [$url = $urls[$name], base64_encode($text)],
            );
            $process->expect('[true,false]');
            same(false, $lock->isAcquired(), 'the other was first');
            throws(LockConflictedException::class, static fn () => $lock->refresh());
            same(false, $factory->createLock('travels')->acquire());
            $process->send('go');
            same(0, $process->wait(), $process->output);
            same(true, $factory->createLock('travels')->acquire(true));
        }
    });

    $t->test('component::a key that was serialized and not used elsewhere is still ours', static function () use ($urls): void {
        $factory = new LockFactory(new SynlockStore($urls['redis']));
        $lock = $factory->createLockFromKey($key = new Key('stays'), 60, false);
        $lock->acquire();
        serialize($key);
        same(false, $factory->createLock('stays')->acquire());
        $lock->refresh(90);
        same(true, $lock->isAcquired());
        $lock->release();
        same(true, $factory->createLock('stays')->acquire());
    });

    $t->test('component::a key that cannot leave says so', static function () use ($urls): void {
        $lock = (new LockFactory(new SynlockStore($urls['flock'])))->createLockFromKey($key = new Key('here'));
        $lock->acquire();
        throws(UnserializableKeyException::class, static fn () => serialize($key));
    });

    $t->test('component::a script\'s end releases, also after a fatal error, unless that is off', static function () use ($setup, $urls): void {
        foreach (['redis', 'shm', 'flock', 'postgres+advisory'] as $name) {
            $factory = new LockFactory(new SynlockStore($urls[$name]));
            foreach (['' => 0, 'exit(3);' => 3, 'ini_set("memory_limit", memory_get_usage(true) + 4000000); str_repeat("x", 1 << 30);' => 255] as $end => $status) {
                $process = $setup->process(
                    '$lock = $setup->factory(new \Synlock\Symfony\SynlockStore($arguments[0]))->createLock("ends", 60); $lock->acquire();' . $end,
                    [$urls[$name]],
                );
                same($status, $process->wait(), $process->output);
                same(true, $factory->createLock('ends')->acquire(), "{$name} after \"{$end}\"");
            }
        }
        $process = $setup->process(
            '$lock = $setup->factory(new \Synlock\Symfony\SynlockStore($arguments[0]))->createLock("kept", 60, false); $lock->acquire();',
            [$urls['redis']],
        );
        same(0, $process->wait(), $process->output);
        same(false, (new LockFactory(new SynlockStore($urls['redis'])))->createLock('kept')->acquire());
    });

    $t->test('component::a forked child neither has the lock nor frees it', static function () use ($setup, $urls): void {
        foreach (['redis', 'shm', 'flock', 'mysql+advisory'] as $name) {
            $process = $setup->process(
                '$lock = $setup->factory($store = new \Synlock\Symfony\SynlockStore($arguments[0]))->createLock("forked", 60); $lock->acquire();'
                . 'if (pcntl_fork() === 0) { exit($lock->isAcquired() || $setup->factory($store)->createLock("forked")->acquire() ? 1 : 7); }'
                . 'pcntl_wait($status); echo json_encode([pcntl_wexitstatus($status), $lock->isAcquired()]);',
                [$urls[$name]],
            );
            same(0, $process->wait(), $process->output);
            same('[7,true]', $process->output, $name);
        }
    });

    foreach (['6.4', '7.0', '8.0'] as $version) {
        $t->test("component::the signatures of {$version}", static function () use ($setup, $version, $urls): void {
            $code = 'require $argv[1]; require $argv[2]; error_reporting(E_ALL);'
                . '$store = new Synlock\Symfony\SynlockStore($argv[3]); $key = new Symfony\Component\Lock\Key("stub"); $other = new Symfony\Component\Lock\Key("stub");'
                . '$store->save($key); try { $store->waitAndSaveRead($key); $store->save($other); echo "both"; } catch (Symfony\Component\Lock\Exception\LockConflictedException) { echo "refused "; }'
                . '$store->putOffExpiration($key, 40); $text = serialize($key); $heir = unserialize($text); echo $store->exists($heir) ? "there " : "gone "; $store->delete($heir); echo $store->exists($key) ? "there " : "gone ";'
                . 'foreach (glob(dirname($argv[2]) . "/src/Symfony/{*,{Store,Strategy,Exception}/*}.php", GLOB_BRACE) as $file) { $class = "Synlock\\\\Symfony\\\\" . strtr(substr($file, strlen(dirname($argv[2]) . "/src/Symfony/"), -4), "/", "\\\\");'
                . ' class_exists($class) || interface_exists($class) || trait_exists($class) || print("no {$class} "); }'
                . 'echo (new Synlock\Symfony\LockFactory($store))->createLock("stub") instanceof Symfony\Component\Lock\SharedLockInterface ? "ok" : "other";';
            $process = new Process([PHP_BINARY, '-d', 'display_errors=1', '-r', $code, '--', __DIR__ . "/../stubs/{$version}.php", "{$setup->package}/autoload.php", $urls['redis']]);
            same(0, $process->wait(), $process->output);
            same('refused there gone ok', $process->output);
        });
    }
};
