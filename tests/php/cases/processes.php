<?php

// Signals, forks and the end of requests, from the command line.

declare(strict_types=1);

namespace Synlock\Tests;

use Synlock\Exception\ForkedHandle;
use Synlock\Exception\NotHeld;
use Synlock\Runtime;
use Synlock\State;
use Synlock\Store;

/** Runs the body in a forked child; what it returns or throws comes back as text. */
function inChild(\Closure $body, ?int &$status = null): string
{
    [$mine, $its] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
    $pid = pcntl_fork();
    if ($pid === 0) {
        try {
            $text = (string) $body();
        } catch (\Throwable $error) {
            $text = $error::class;
        }
        fwrite($its, $text);
        fclose($its);
        posix_kill(posix_getpid(), SIGKILL); // no shutdown functions of the test run
    }
    fclose($its);
    stream_set_timeout($mine, 60);
    $text = (string) stream_get_contents($mine);
    // One in which a call does not come back.
    if (stream_get_meta_data($mine)['timed_out']) {
        posix_kill($pid, SIGKILL);
    }
    pcntl_waitpid($pid, $status);

    return $text;
}

const FATES = ['exits', 'throws', 'is killed', 'is terminated', 'executes another program', 'forks again', 'lives on'];

return static function (Runner $t, string $temp, string $package, string $redis): void {
    $urls = ['memory' => 'memory:', 'shm' => "shm:{$temp}/segment/locks", 'flock' => "flock:{$temp}/locks", 'redis' => $redis];
    $scripts = "{$temp}/scripts";

    $t->test('fork::shm: what a killed child leaves is found until the next one comes', static function () use ($temp): void {
        mkdir("{$temp}/shm", 0700);
        $store = Store::open("shm:{$temp}/shm/segment?slots=16");
        same([], $store->check());
        inChild(static function () use ($store): string {
            static $kept; // not released when the body is left
            $kept = $store->createLock('left');
            $kept->acquire();

            return '';
        });
        $kinds = array_map(static fn (string $text): string => explode(':', $text)[0], $store->check());
        sort($kinds);
        same(['holder', 'slot'], $kinds);
        same(true, $store->createLock('left')->acquire());
        same([], $store->check());
    });

    $t->test('signal::a handler that throws takes back what the call was granted, and no more', static function () use ($temp): void {
        mkdir("{$temp}/taken");
        $server = new Redis("{$temp}/taken");
        $store = Store::open("{$server->url}?io_timeout=60000");
        $others = Store::open($server->url)->createLock('taken');
        $interrupted = static function (bool $blocking) use ($store, $server): void {
            $lock = $store->createLock('taken', reentry: 'extend');
            $server->interrupt(static fn () => $lock->acquire($blocking));
            same(State::Idle, $lock->state());
        };
        foreach ([true, false] as $blocking) {
            $interrupted($blocking);
            same(true, $others->acquire(), 'what is new is given back');
            $others->release();
            $first = $store->createLock('taken', reentry: 'extend');
            $first->acquire();
            $interrupted($blocking);
            same([true, false], [$first->isAcquired(), $others->acquire()], 'held as before');
            $first->release();
        }
        $first = Store::open($server->url)->createLock('taken', ttl: 600.0);
        $first->acquire();
        $text = $first->export();
        $server->interrupt(static fn () => $store->adopt($text, ttl: 600.0, autoRelease: false));
        same(true, $others->acquire(), 'nobody else can adopt it');
        $others->release();
        $server->stop();
    });

    $t->test('signal::a handler that throws leaves the callbacks of a custom store alone', static function (): void {
        $drawer = new class () implements \Synlock\CustomStore {
            public bool $freesOnDeath = true;
            /** @var array<string, string> */
            public array $owners = [];

            public function attempt(\Synlock\Ask $ask): bool
            {
                return ($this->owners[$ask->name] ??= $ask->owner) === $ask->owner;
            }

            public function release(\Synlock\Ask $ask): bool
            {
                $held = $this->isHeld($ask);
                unset($this->owners[$ask->name]);

                return $held;
            }

            public function isHeld(\Synlock\Ask $ask): bool
            {
                return ($this->owners[$ask->name] ?? null) === $ask->owner;
            }

            /** @return list<\Synlock\Holder> */
            public function inspect(\Synlock\Ask $ask): array
            {
                $owner = $this->owners[$ask->name] ?? null;

                return $owner === null ? [] : [new \Synlock\Holder($owner, 'exclusive', 1, null, null, null, null, null, null)];
            }
        };
        $wait = static fn (\Closure $for): string => inChild(static function () use ($drawer, $for): string {
            $store = Store::custom($drawer);
            $holder = $store->createLock('x');
            $holder->acquire();
            pcntl_async_signals(true);
            pcntl_signal(SIGALRM, static fn () => throw new \DomainException('from the handler'));
            pcntl_alarm(1);
            try {
                $for($store);
            } catch (\DomainException) {
                $holder->release();

                return implode(' ', ['caught', var_export(pcntl_async_signals(), true), ...array_keys($drawer->owners)]);
            }

            return 'nothing was thrown';
        });
        same('caught true', $wait(static fn (Store $store) => $store->waitFree('x', 60.0)));
        same('caught true', $wait(static fn (Store $store) => $store->createLock('x')->acquire(true, 60.0)));
    });

    foreach (['logged lock', 'logged reader', 'logged set', 'logged manager', 'guard', 'text', 'rows'] as $what) {
        $t->test("signal::handlers that throw at any moment of a call: {$what}", static function () use ($what, $scripts, $package): void {
            $process = new Process([PHP_BINARY, "{$scripts}/storm.php", $package, $what, '300']);
            same(0, $process->wait(120), $process->output);
            same(['thrown' => 300, 'left' => 0, 'heard' => str_starts_with($what, 'logged')], json_decode($process->output, true));
        });
    }

    foreach ($urls as $scheme => $url) {
        $t->test("signal::{$scheme}: a handler runs during the wait, and the wait goes on", static function () use ($url): void {
            $store = Store::open($url);
            $holder = $store->createLock('signalled');
            $holder->acquire();
            $lock = $store->createLock('signalled');
            $start = microtime(true);
            $ran = [];
            pcntl_async_signals(true);
            pcntl_signal(SIGALRM, static function () use (&$ran, $start, $holder, $store): void {
                $ran[] = microtime(true) - $start;
                same(true, $store->createLock('from the handler', label: 'x')->acquire());
                throws(NotHeld::class, static fn () => $store->createLock('from the handler')->release());
                $holder->release();
            });
            pcntl_alarm(1);
            same(true, $lock->acquire(true, 60));
            pcntl_signal(SIGALRM, SIG_DFL);
            same(1, count($ran), 'runs of the handler');
            ok($ran[0] > 0.9 && $ran[0] < 20, "the handler ran after {$ran[0]} s");
            ok(microtime(true) - $start < 30, 'then the lock was free');
            $lock->release();
        });

        $t->test("signal::{$scheme}: a handler that throws ends the wait and leaves nothing behind", static function () use ($url): void {
            $store = Store::open($url);
            $holder = $store->createLock('thrown');
            $holder->acquire();
            $lock = $store->createLock('thrown');
            pcntl_signal(SIGALRM, static fn () => throw new \DomainException('from the handler'));
            pcntl_alarm(1);
            throws(\DomainException::class, static fn () => $lock->acquire(true, 60));
            pcntl_signal(SIGALRM, SIG_DFL);
            same(State::Idle, $lock->state());
            $holder->release();
            $next = $store->createLock('thrown');
            same(true, $next->acquire(), 'nobody stands in the way');
        });

        // A second process, which memory does not have.
        if ($scheme !== 'memory') {
            $t->test("signal::{$scheme}: a handler that returns costs the wait no place", static function () use ($url, $scripts, $package): void {
                $store = Store::open($url);
                $holder = $store->createLock('queued');
                $holder->acquire();
                $waiting = static fn (): ?int => $store->inspect('queued')->waiters;
                $start = static fn (): Process => new Process([PHP_BINARY, "{$scripts}/queued.php", $package, $url, 'queued']);
                $first = $start();
                until(static fn (): bool => $waiting() === 1, 30, 'the first one waits');
                $later = $start();
                until(static fn (): bool => $waiting() === 2, 30, 'the later one waits');
                for ($i = 0; $i < 3; ++$i) {
                    $first->signal(SIGALRM);
                    $first->expect('handled');
                    same(2, $waiting());
                }
                $holder->release();
                $first->expect('got it');
                same(false, $store->createLock('queued')->acquire(), 'the first one has it');
                $first->send('release');
                $later->expect('got it');
                $later->send('release');
                same([0, 0], [$first->wait(), $later->wait()]);
            });

            foreach (['SIGTERM' => SIGTERM, 'SIGINT' => SIGINT] as $name => $signal) {
                $t->test("signal::{$scheme}: {$name} ends a waiting process at once", static function () use ($url, $scripts, $package, $signal): void {
                    $store = Store::open($url);
                    $holder = $store->createLock('ended');
                    $holder->acquire();
                    $waiter = new Process([PHP_BINARY, "{$scripts}/queued.php", $package, $url, 'ended']);
                    until(static fn (): bool => $store->inspect('ended')->waiters === 1, 30, 'it waits');
                    Bystander::watch();
                    $start = microtime(true);
                    $waiter->signal($signal);
                    same(-$signal, $waiter->wait(60));
                    Bystander::within(1.0, microtime(true) - $start, 'the process is gone');
                    $holder->release();
                    same(true, $store->createLock('ended')->acquire(true, 20), 'nobody stands in the way');
                });
            }
        }

        $t->test("fork::{$scheme}: what a child may do", static function () use ($url): void {
            $store = Store::open($url);
            $held = $store->createLock('held at the fork');
            $idle = $store->createLock('idle at the fork');
            $held->acquire();
            foreach (['acquire', 'release', 'refresh', 'isAcquired', 'ensureHeld', 'promote', 'export'] as $method) {
                same(ForkedHandle::class, inChild(static fn () => $held->$method()), $method);
            }
            same('Forked', inChild(static fn () => $held->state()->name));
            same('works', inChild(static function () use ($idle): string {
                $result = $idle->acquire() && $idle->isAcquired() ? 'works' : 'does not';
                $idle->release();

                return $result;
            }));
            if (!str_starts_with($url, 'memory')) {
                same('busy', inChild(static fn () => $store->createLock('held at the fork')->acquire() ? 'taken' : 'busy'));
            }
            same(true, $held->isAcquired());
            $held->release();
        });

        foreach (FATES as $fate) {
            $t->test("fork::{$scheme}: the parent keeps its lock when a child {$fate}", static function () use ($url, $fate, $scripts, $package): void {
                for ($i = 0; $i < rounds(); ++$i) {
                    $name = 'fate ' . bin2hex(random_bytes(4));
                    $parent = new Process([PHP_BINARY, "{$scripts}/fork.php", $package, $url, $name, $fate]);
                    $parent->expect('as it should be');
                    $parent->expect('held');
                    if ($fate === 'exits') {
                        same(true, Store::open($url)->createLock("{$name} of the child")->acquire(), "the child's own lock is free");
                    }
                    $lock = Store::open($url)->createLock($name);
                    same($url === 'memory:', $lock->acquire(), 'another process gets it');
                    $start = microtime(true);
                    $parent->send('release');
                    $parent->expect('released');
                    same(true, $lock->acquire(true, 60));
                    $took = microtime(true) - $start;
                    ok($took < soon(0.1), "free {$took} s after the release");
                    $lock->release();
                    $parent->send('end');
                    same(0, $parent->wait());
                }
            });
        }

        if ($scheme !== 'memory') {
            $t->test("fork::{$scheme}: a child that outlives its parent keeps nothing", static function () use ($url, $scheme, $scripts, $package): void {
                // Long enough to be found held.
                $ttl = $scheme === 'redis' ? [getenv('SYNLOCK_LOAD') === 'full' ? '1.0' : '4.0'] : [];
                for ($i = 0; $i < rounds(); ++$i) {
                    $name = 'orphan ' . bin2hex(random_bytes(4));
                    $parent = new Process([PHP_BINARY, "{$scripts}/fork.php", $package, $url, $name, 'outlives its parent', ...$ttl]);
                    $parent->expect('as it should be');
                    $parent->expect('held');
                    $lock = Store::open($url)->createLock($name);
                    same(false, $lock->acquire());
                    $parent->signal(SIGKILL);
                    $start = microtime(true);
                    same(true, $lock->acquire(true, 60), 'free while the child lives');
                    $took = microtime(true) - $start;
                    ok($took < soon($scheme === 'redis' ? 1.05 : 0.1), "free after {$took} s");
                    $lock->release();
                    // The child lives until its input ends.
                    same(-SIGKILL, $parent->end());
                }
            });
        }

        $t->test("request::{$scheme}: the end of a request releases, and objects go on to work", static function () use ($url): void {
            $store = Store::open($url);
            $lock = $store->createLock('request');
            $kept = Store::open($url . (str_contains($url, '?') ? '&' : '?') . 'auto_release=0')->createLock('kept');
            $lock->acquire();
            $kept->acquire();
            Runtime::endRequest();
            same(true, Store::open($url)->createLock('request')->acquire(), 'released');
            Runtime::endRequest();
            same(false, $store->createLock('kept')->acquire(), 'auto-release off is exempt');
            same(State::Idle, $lock->state());
            throws(NotHeld::class, static fn () => $lock->release());
            same(true, $lock->acquire(), 'the old object works in the new request');
            $lock->release();
            same(true, $kept->isAcquired());
            $kept->release();
            same(true, $store->createLock('kept')->acquire());
        });
    }

    $t->test('fork::redis: a child writes nothing to the connection it inherited', static function () use ($redis, $scripts, $package, $temp): void {
        // Redis is the only unix socket here.
        foreach (['throws', 'forks again'] as $fate) {
            $trace = "{$temp}/trace";
            $parent = new Process([
                'strace', '-f', '-yy', '-o', $trace, '-e', 'trace=clone,fork,vfork,write,writev,sendto,sendmsg,shutdown',
                PHP_BINARY, "{$scripts}/fork.php", $package, $redis, 'traced', $fate,
            ]);
            $parent->expect('as it should be');
            $parent->expect('held');
            $parent->send('release');
            $parent->expect('released');
            $parent->send('end');
            same(0, $parent->wait(), $parent->output);
            $text = (string) file_get_contents($trace);
            // What another process' line cut in two is put together again.
            while (preg_match('/^(\d+) ([^\n]*) <unfinished \.\.\.>$(.*?)^\1 <\.\.\. \w+ resumed>([^\n]*)$/ms', $text, $cut, PREG_OFFSET_CAPTURE) === 1) {
                $text = substr_replace($text, "{$cut[1][0]} {$cut[2][0]}{$cut[4][0]}{$cut[3][0]}", $cut[0][1], strlen($cut[0][0]));
            }
            // A thread of the parent is no child: it is cloned without SIGCHLD.
            ok(preg_match_all('/(?:clone\(.*SIGCHLD.*|fork\(\)) += (\d+)$/m', $text, $children) >= 1, $text);
            $of = static fn (array $pids): int => preg_match_all('/^(?:' . implode('|', $pids) . ') .*<UNIX/m', $text);
            ok($of(['\d+']) > 0, 'the trace sees the connection');
            same(0, $of($children[1]), 'calls of the child on it');
        }
    });

    $t->test('request::no handle outlives its object or its request', static function (): void {
        Runtime::endRequest();
        Store::open('memory:'); // opens the scope of the next one
        $before = Runtime::countHandles();
        (static function (): void {
            $store = Store::open('memory:');
            $lock = $store->createLock('counted');
            $lock->acquire();
            $lock->acquire();
            $store->createLock('counted')->acquire(true, 0.5);
            $store->inspect('counted');
            iterator_to_array($store->list());
            $store->createLock('counted')->isAcquired();
            $store->waitFree('counted', 0.1);
            try {
                Store::open('memory:')->adopt('nonsense');
            } catch (\Throwable) {
            }
        })();
        gc_collect_cycles();
        same($before, Runtime::countHandles(), 'after destruction');
        for ($i = 0; $i < 3; ++$i) {
            $keep[] = $store = Store::open('memory:');
            $keep[] = $lock = $store->createLock('counted');
            $lock->acquire();
            Runtime::endRequest();
        }
        same($before - 1, Runtime::countHandles(), 'after the requests');
    });
};
