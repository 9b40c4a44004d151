<?php

// Locks from the command line, on every store of this build.

declare(strict_types=1);

namespace Synlock\Tests;

use Synlock\Code;
use Synlock\Exception\InvalidArgument;
use Synlock\Exception\InvalidUrl;
use Synlock\Exception\LockLost;
use Synlock\Exception\LockTimeout;
use Synlock\Exception\NotHeld;
use Synlock\Exception\Reentered;
use Synlock\Exception\Unavailable;
use Synlock\Exception\Unsupported;
use Synlock\State;
use Synlock\Store;

return static function (Runner $t, string $temp, string $package, string $redis): void {
    mkdir("{$temp}/locks");
    mkdir("{$temp}/segment", 0o700);
    foreach (['memory' => 'memory:', 'shm' => "shm:{$temp}/segment/locks", 'flock' => "flock:{$temp}/locks", 'redis' => $redis] as $scheme => $url) {
        $store = Store::open($url);
        $can = $store->capabilities();

        $t->test("{$scheme}::acquire, conflict, release", static function () use ($store): void {
            $a = $store->createLock('a');
            $b = $store->createLock('a');
            same(State::Idle, $a->state());
            same(true, $a->acquire());
            same(State::Held, $a->state());
            same(true, $a->isAcquired());
            same(false, $b->acquire());
            same(false, $b->isAcquired());
            same(true, $store->createLock('b')->acquire(), 'another name');
            $a->release();
            same(false, $a->isAcquired());
            same(true, $b->acquire());
            $b->release();
        });

        $t->test("{$scheme}::acquire on a handle that holds is true, and once is enough to release", static function () use ($store): void {
            $lock = $store->createLock('again');
            same(true, $lock->acquire());
            same(true, $lock->acquire());
            same(true, $lock->acquire(true, 1));
            $lock->release();
            same(true, $store->createLock('again')->acquire());
        });

        $t->test("{$scheme}::release of what is not held", static function () use ($store): void {
            $lock = $store->createLock('not held');
            $error = throws(NotHeld::class, static fn () => $lock->release());
            same([Code::NOT_HELD, 'NOT_HELD', false], [$error->getCode(), $error->getStatus(), $error->isRetriable()]);
            throws(NotHeld::class, static fn () => $lock->ensureHeld());
            throws(NotHeld::class, static fn () => $lock->refresh());
        });

        $t->test("{$scheme}::a wait ends in time", static function () use ($store): void {
            $holder = $store->createLock('busy');
            $holder->acquire();
            $lock = $store->createLock('busy');
            foreach ([0.0, 0.05, 0.7] as $seconds) {
                $start = microtime(true);
                same(false, $lock->acquire(true, $seconds));
                $took = microtime(true) - $start;
                ok($took >= $seconds - 0.001 && $took < $seconds + 20, "{$seconds} s took {$took} s");
            }
            same(false, $store->createLock('busy', timeout: 0.1)->acquire(true), 'the timeout of the lock');
            throws(InvalidArgument::class, static fn () => $lock->acquire(false, 1.0));
            throws(InvalidArgument::class, static fn () => $lock->acquire(true, -1.0));
            throws(InvalidArgument::class, static fn () => $lock->acquire(true, NAN));
            same(State::Idle, $lock->state());
        });

        $t->test("{$scheme}::destruction releases, unless that is off", static function () use ($store, $can): void {
            $lock = $store->createLock('gone');
            $lock->acquire();
            unset($lock);
            same(true, $store->createLock('gone')->acquire());
            if ($can->freesOnDeath) {
                return; // the hold would stay until this process ends
            }
            same(false, withinLease(1.0, static function (float $ttl) use ($store): bool {
                $store->breakLock('stays');
                $lock = $store->createLock('stays', $ttl, false);
                $lock->acquire();
                unset($lock);

                return $store->createLock('stays')->acquire();
            }));
            same(true, $store->createLock('stays')->acquire(true, 300), 'its lease ends');
        });

        $t->test("{$scheme}::ttl", static function () use ($store, $can): void {
            foreach ([0.0, -1.0, NAN, INF] as $bad) {
                throws(InvalidArgument::class, static fn () => $store->createLock('ttl', $bad));
            }
            if (!$can->ttl) {
                throws(Unsupported::class, static fn () => $store->createLock('ttl', 1.0));
                $lock = $store->createLock('ttl');
                $lock->acquire();
                same(null, $lock->getRemainingLifetime());
                same(false, $lock->isExpired());
                $lock->refresh();
                throws(Unsupported::class, static fn () => $lock->refresh(5.0));

                return;
            }
            $lock = $store->createLock('ttl', 30.0);
            same(true, $lock->acquire());
            $left = $lock->getRemainingLifetime();
            ok($left > 1.0 && $left <= 30.0, "remaining {$left}");
            usleep(200_000);
            $left = $lock->getRemainingLifetime();
            same(true, $lock->acquire());
            ok($lock->getRemainingLifetime() > $left, 'acquire renews');
            $lock->refresh(300.0);
            ok($lock->getRemainingLifetime() > 200.0, 'refresh lengthens');
            $lock->release();
            $lock = $store->createLock('ttl', 0.4);
            $lock->acquire();
            usleep(600_000);
            same(true, $lock->isExpired());
            same(State::Expired, $lock->state());
            same(false, $lock->isAcquired());
            $error = throws(LockLost::class, static fn () => $lock->release());
            same(Code::LOST, $error->getCode());
            same(true, $lock->acquire(), 'a lost lock can be taken anew');
            $lock->release();
        });

        $t->test("{$scheme}::a renewed lease lasts until release", static function () use ($store, $can): void {
            if (!$can->ttl) {
                throws(Unsupported::class, static fn () => $store->createLock('renewed', 0.3, renew: true));

                return;
            }
            // Long enough for a machine that has other things to do.
            $lock = $store->createLock('renewed', 3.0, renew: true);
            $lock->acquire();
            for ($i = 0; $i < 12; ++$i) {
                usleep(300_000); // busy or asleep, PHP does nothing for it
                same(false, $store->createLock('renewed')->acquire());
            }
            same(true, $lock->isAcquired());
            $lock->release();
            same(true, $store->createLock('renewed')->acquire());
        });

        $t->test("{$scheme}::asking again through another object", static function () use ($store): void {
            $lock = $store->createLock('reentry', reentry: 'extend'); // one with a policy is known to others
            $lock->acquire();
            throws(Reentered::class, static fn () => $store->createLock('reentry', reentry: 'error')->acquire());
            $shared = $store->createLock('reentry', reentry: 'extend');
            same(true, $shared->acquire());
            $shared->release();
            same(true, $store->createLock('reentry', fair: false, strict: true)->acquire(), 'the first release ends it for both');
            throws(InvalidArgument::class, static fn () => $store->createLock('reentry', reentry: 'always'));
        });

        $t->test("{$scheme}::readers share, and promote and demote", static function () use ($store): void {
            $a = $store->createLock('shared');
            $b = $store->createLock('shared');
            same(true, $a->acquireRead());
            same(true, $b->acquireRead(true, 1));
            same(true, $a->acquireRead(), 'again');
            same(false, $store->createLock('shared')->acquire());
            same(false, $a->promote(), 'another reads');
            same(true, $a->isAcquired(), 'a refused promotion keeps the read lock');
            same(false, $a->acquire(true, 0.1), 'acquire on a reader promotes');
            $b->release();
            same(true, $a->acquire());
            same(false, $b->acquireRead());
            same(true, $a->acquireRead(), 'acquireRead on a writer demotes');
            same(true, $b->acquireRead());
            $b->release();
            same(true, $a->promote());
            $a->demote();
            same(true, $b->acquireRead());
            $a->release();
            $b->release();
            same(true, $a->acquire(), 'and back to a plain one');
            same(false, $b->acquireRead());
            $a->release();
            same(true, $store->createLock('shared', shared: true)->acquire());
        });

        $t->test("{$scheme}::a hold that was lost is taken anew in the mode that is asked for", static function () use ($store): void {
            $mode = static fn (): array => array_map(static fn ($holder): string => $holder->mode, $store->inspect('anew')->holders);
            $lock = $store->createLock('anew');
            foreach (['read, then promoted' => [true, false], 'read' => [true]] as $how => $asked) {
                foreach ($asked as $read) {
                    same(true, $read ? $lock->acquireRead() : $lock->acquire(), $how);
                }
                $store->breakLock('anew');
                same([true, ['exclusive']], [$lock->acquire(), $mode()], $how);
                $lock->release();
            }
            $lock->acquire();
            $store->breakLock('anew');
            same([true, ['shared']], [$lock->acquireRead(), $mode()], 'written');
            $lock->release();
        });

        $t->test("{$scheme}::permits", static function () use ($store, $can): void {
            if (!$can->permits) {
                throws(Unsupported::class, static fn () => $store->createLock('permits', permits: 1, of: 3));

                return;
            }
            $two = $store->createLock('permits', permits: 2, of: 3);
            $one = $store->createLock('permits', permits: 1, of: 3);
            $more = $store->createLock('permits', permits: 1, of: 3);
            same([true, true, false], [$two->acquire(), $one->acquire(), $more->acquire()]);
            $one->release();
            same(true, $more->acquire());
            throws(InvalidArgument::class, static fn () => $store->createLock('permits', permits: 4, of: 3));
        });

        $t->test("{$scheme}::how an acquire went, and whose it is", static function () use ($store): void {
            $lock = $store->createLock('how');
            same([null, null], [$lock->lastAcquired(), $lock->ownerToken()]);
            $lock->acquire();
            same([false, false], [$lock->lastAcquired()->contended, $lock->lastAcquired()->recovered]);
            same(1, preg_match('/^[0-9a-f]{32}$/', (string) $lock->ownerToken()));
            $lock->release();
        });

        $t->test("{$scheme}::the stream of a loss", static function () use ($store): void {
            $lock = $store->createLock('watched');
            $lock->acquire();
            $lost = $lock->lostStream();
            $readable = static function (int $milliseconds) use ($lost): bool {
                $read = [$lost];
                $none = null;

                return stream_select($read, $none, $none, 0, $milliseconds * 1000) === 1;
            };
            same(false, $readable(50));
            $store->breakLock('watched');
            throws(LockLost::class, static fn () => $lock->ensureHeld());
            same(true, $readable(999));
        });

        $t->test("{$scheme}::fencing tokens grow", static function () use ($store, $can): void {
            $lock = $store->createLock('fence');
            same(null, $lock->fencingToken());
            $lock->acquire();
            $first = $lock->fencingToken();
            $lock->release();
            $lock->acquire();
            $second = $lock->fencingToken();
            $lock->release();
            if ($can->fence === 'none') {
                same([null, null], [$first, $second]);
            } else {
                ok(is_int($first) && $first > 0 && $second > $first, "{$first}, {$second}");
            }
        });

        $t->test("{$scheme}::inspect, list, break", static function () use ($store): void {
            $name = 'shown/' . bin2hex(random_bytes(2));
            same([], $store->inspect($name)->holders);
            same(false, $store->isLocked($name));
            $lock = $store->createLock($name, label: 'a label');
            $lock->acquire();
            same(true, $store->isLocked($name));
            $seen = $store->inspect($name);
            same($name, $seen->name);
            same(1, count($seen->holders));
            same('exclusive', $seen->holders[0]->mode);
            ok(in_array($seen->holders[0]->pid, [null, getmypid()], true), 'the pid');
            $names = array_map(static fn ($lock) => $lock->name, iterator_to_array($store->list('shown/'), false));
            same([$name], $names);
            same([], iterator_to_array($store->list('nothing begins so'), false));
            same(true, $store->breakLock($name));
            same(false, $store->breakLock($name));
            throws(LockLost::class, static fn () => $lock->ensureHeld());
            same(true, $lock->isExpired());
            same(State::Lost, $lock->state());
        });

        $t->test("{$scheme}::check", static function () use ($store, $scheme): void {
            if ($scheme === 'shm') {
                same([], $store->check());

                return;
            }
            throws(Unsupported::class, static fn () => $store->check());
        });

        $t->test("{$scheme}::waitFree", static function () use ($store): void {
            same(true, $store->waitFree('nobody'));
            $lock = $store->createLock('somebody');
            $lock->acquire();
            $start = microtime(true);
            same(false, $store->waitFree('somebody', 0.3));
            ok(microtime(true) - $start >= 0.29, 'waits');
            $lock->release();
            same(true, $store->waitFree('somebody', 0.0));
        });

        $t->test("{$scheme}::export and adopt", static function () use ($store, $can, $url): void {
            if (!$can->export) {
                $lock = $store->createLock('handed on');
                $lock->acquire();
                throws(Unsupported::class, static fn () => $lock->export());

                return;
            }
            $lock = $store->createLock('handed on', 30.0);
            $lock->acquire();
            $text = $lock->export();
            same(State::Idle, $lock->state());
            same(false, $lock->acquire());
            $heir = Store::open($url)->adopt($text, 30.0);
            same(true, $heir->isAcquired());
            throws(LockLost::class, static fn () => $store->adopt($text, 30.0));
            $heir->release();
            throws(InvalidArgument::class, static fn () => $store->adopt('nonsense'));
        });

        $t->test("{$scheme}::names are bytes", static function () use ($store): void {
            $names = ["sla/sh", "n\0ul", "\xff\xfe", 'Größe', ' ', '.', '..', str_repeat('x', 65536)];
            $locks = [];
            foreach ($names as $name) {
                $locks[] = $lock = $store->createLock($name);
                same(true, $lock->acquire(), bin2hex(substr($name, 0, 10)));
                same(false, $store->createLock($name)->acquire());
            }
            foreach ($locks as $lock) {
                $lock->release();
            }
            throws(InvalidArgument::class, static fn () => $store->createLock(''));
            throws(InvalidArgument::class, static fn () => $store->createLock(str_repeat('x', 65537)));
        });

        $t->test("{$scheme}::ping and capabilities", static function () use ($store, $can, $scheme): void {
            $store->ping();
            same(true, $can->shared);
            same($scheme !== 'flock', $can->permits);
            same($scheme !== 'flock', $can->ttl);
            same($scheme !== 'redis', $can->freesOnDeath);
            ok(str_starts_with($store->url(), $scheme), $store->url());
        });

        $t->test("{$scheme}::other processes are excluded, and killed ones let go", static function () use ($store, $can, $url, $scheme, $package, $temp): void {
            if ($can->scope === 'process') {
                same('memory', $scheme);

                return;
            }
            $child = new Process([PHP_BINARY, "{$temp}/scripts/cli.php", $package, $url, 'killed', $can->freesOnDeath ? '' : '1.5']);
            $child->expect('held');
            $lock = $store->createLock('killed');
            same(false, $lock->acquire());
            $child->signal(SIGKILL);
            same(-SIGKILL, $child->wait());
            same(true, $lock->acquire(true, 3));
            $lock->release();
        });
    }

    $t->test('events::a logger hears what happens', static function () use ($temp): void {
        $heard = [];
        $store = Store::open("flock:{$temp}/locks");
        $store->setLogger(static function (string $level, string $message, array $context) use (&$heard): void {
            $heard[] = [$level, $context['event'], $context['resource'], $context['pid']];
            throw new \Error('a logger must not change what a lock does');
        });
        ini_set('error_log', '/dev/null');
        $lock = $store->createLock("na\0me");
        same(true, $lock->acquire());
        $other = $store->createLock("na\0me");
        same(false, $other->acquire());
        same(false, $other->acquire(true, 0.05));
        $lock->release();
        $other->acquire();
        unset($other);
        $lock->acquire();
        \Synlock\Runtime::endRequest();
        ini_restore('error_log');
        same(
            ['acquired', 'refused', 'waiting', 'refused', 'released', 'acquired', 'forgotten', 'released', 'acquired', 'forgotten', 'released'],
            array_column($heard, 1),
        );
        same(['info', 'acquired', "na\0me", getmypid()], $heard[0]);
        same('notice', $heard[6][0]);
        $psr = new class () {
            public array $lines = [];

            public function log($level, string|\Stringable $message, array $context = []): void
            {
                $this->lines[] = $level;
            }
        };
        $store->setLogger($psr);
        $store->createLock('psr')->acquire();
        same(['info', 'notice', 'info'], $psr->lines);
        $store->setLogger(null);
        $store->createLock('psr')->acquire();
        same(3, count($psr->lines));
        throws(InvalidArgument::class, static fn () => $store->setLogger(new \stdClass()));
    });

    $t->test('vectors::names', static function () use ($temp): void {
        $vectors = json_decode((string) file_get_contents(ROOT . '/tests/vectors/names.json'), true, 512, JSON_THROW_ON_ERROR);
        ok(count($vectors['names']) > 10, 'there are vectors');
        mkdir("{$temp}/names");
        $store = Store::open("flock:{$temp}/names");
        $seen = [];
        foreach ($vectors['names'] as $vector) {
            $name = isset($vector['hex']) ? hex2bin($vector['hex']) : str_repeat(hex2bin($vector['byte']), $vector['times']);
            same($vector['text'] ?? $name, $name);
            $lock = $store->createLock($name);
            same(true, $lock->acquire());
            $files = array_values(array_diff(scandir("{$temp}/names"), ['.', '..', '.synlock', ...$seen]));
            same(true, in_array($vector['flock'], $files, true), "{$vector['flock']} appears, not " . implode(' ', $files));
            $seen = [...$seen, ...$files];
            $lock->release();
        }
    });

    $t->test('errors::urls', static function () use ($temp): void {
        $error = throws(InvalidUrl::class, static fn () => Store::open('foo://x'));
        same([Code::UNKNOWN_SCHEME, 'UNKNOWN_SCHEME'], [$error->getCode(), $error->getStatus()]);
        foreach (['memory', 'shm', 'flock', 'redis'] as $scheme) {
            ok(str_contains($error->getMessage(), $scheme), $error->getMessage());
        }
        throws(InvalidUrl::class, static fn () => Store::open(''));
        throws(InvalidArgument::class, static fn () => Store::open('memory:?colour=red'));
        throws(InvalidArgument::class, static fn () => Store::open('memory:', ['colour' => 'red']));
        throws(\Throwable::class, static fn () => Store::open("flock:{$temp}/missing/folder")->createLock('x')->acquire());
    });

    $t->test('errors::a store that is away', static function () use ($temp): void {
        $error = throws(Unavailable::class, static fn () => Store::open("redis+unix://:secret@{$temp}/nobody.sock")->ping());
        same(true, $error->isRetriable());
        ok(!str_contains($error->getMessage() . $error->getStore(), 'secret'), 'no password is shown');
    });

    $t->test('errors::a limit that nobody lives to see ends no wait', static function (): void {
        $store = Store::open('memory:');
        $before = pcntl_signal_get_handler(SIGALRM);
        pcntl_async_signals(true);
        try {
            foreach ([INF, (float) PHP_INT_MAX, 1e10] as $limit) {
                \Synlock\Runtime::setMaxWait($limit);
                $holder = $store->createLock('limit');
                $holder->acquire();
                pcntl_signal(SIGALRM, static fn () => $holder->release());
                pcntl_alarm(1);
                same(true, $store->createLock('limit')->acquire(true), "{$limit}");
            }
        } finally {
            pcntl_alarm(0);
            pcntl_signal(SIGALRM, $before);
            \Synlock\Runtime::setMaxWait(null);
        }
    });

    $t->test('errors::an unbounded wait under a limit throws', static function (): void {
        same(null, \Synlock\Runtime::maxWait(), 'no limit on the command line');
        $store = Store::open('memory:');
        $holder = $store->createLock('limit');
        $holder->acquire();
        \Synlock\Runtime::setMaxWait(0.2);
        try {
            throws(LockTimeout::class, static fn () => $store->createLock('limit')->acquire(true));
            same(false, $store->createLock('limit')->acquire(true, 0.3), 'a wait with a bound is not touched');
        } finally {
            \Synlock\Runtime::setMaxWait(null);
        }
    });
};
