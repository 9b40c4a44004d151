<?php

// Locks and the life of requests, over FastCGI: two workers, Debian's stock php.ini, and exactly the
// ini file that `synlock-check --ini` prints.

declare(strict_types=1);

namespace Synlock\Tests;

const ENDS = ['return', 'exit', 'exception', 'memory', 'time', 'finished', 'abort', 'early-exit'];

function take(Fpm $fpm, string $scripts, string $url, string $name, float $seconds): FastCgi
{
    $take = $fpm->request("{$scripts}/take.php", ['url' => $url, 'name' => $name, 'seconds' => $seconds]);
    $take->expect('started');

    return $take;
}

/**
 * @return array<string, mixed>
 */
function answer(FastCgi $take): array
{
    $lines = explode("\n", trim($take->finish()));
    $answer = json_decode((string) end($lines), true);
    ok(is_array($answer) && !isset($answer['error']), "an answer: {$take->body} {$take->errors}");

    return $answer;
}

function ends(Fpm $fpm, string $temp, string $url, string $end): void
{
    $scripts = "{$temp}/scripts";
    $name = 'fpm ' . $end . bin2hex(random_bytes(4));
    $go = "{$temp}/go-" . bin2hex(random_bytes(4));
    $hold = $fpm->request("{$scripts}/hold.php", compact('url', 'name', 'go', 'end'));
    $holder = holder($hold);
    if ($end === 'finished') {
        $hold->finish();
    }
    $take = $end === 'early-exit' ? null : take($fpm, $scripts, $url, $name, 60);
    usleep(200_000);
    ok($take === null || !$take->isOver(), 'the lock is held meanwhile');
    Bystander::watch();
    touch($go);
    if ($end === 'abort') {
        $hold->abort();
        $over = microtime(true);
    } elseif ($end === 'finished') {
        until(static fn () => is_file("{$go}.end"), 60, 'the script ends after fastcgi_finish_request');
        $over = (float) file_get_contents("{$go}.end");
    } else {
        $hold->finish();
        $over = microtime(true);
    }
    if ($end === 'early-exit') {
        // Our shutdown function never ran: the worker's next use of synlock lets go of the lock.
        until(static function () use ($fpm, $scripts, $url, $holder): bool {
            return answer(take($fpm, $scripts, $url, 'another', 20))['pid'] === $holder;
        }, 60, 'the same worker serves again');
        $take = take($fpm, $scripts, $url, $name, 60);
        $over = microtime(true);
    }
    $answer = answer($take);
    same(true, $answer['got'], 'taken');
    Bystander::within(1.0, $answer['at'] - $over, 'free');
    ok($end === 'early-exit' || $answer['pid'] !== $holder, 'another worker took it');
    ok(in_array($holder, $fpm->workers(), true), 'the first worker lives');
}

/** A hold that is not released by itself outlives its request, whatever ended that. */
function stays(Fpm $fpm, string $temp, string $url, string $store, string $end): void
{
    $scripts = "{$temp}/scripts";
    $name = 'stays ' . bin2hex(random_bytes(4));
    $go = "{$temp}/go-" . bin2hex(random_bytes(4));
    touch($go);
    // A second of CPU may take long, and so may the end of an aborted request: that lease is not waited for.
    $seconds = $store !== 'redis' ? 0.0 : (in_array($end, ['time', 'finished', 'abort'], true) ? 60.0 : 3.0);
    $hold = static function (float $ttl) use ($fpm, $scripts, $url, $name, $go, $end): array {
        $options = json_encode(['autoRelease' => false] + ($ttl > 0 ? ['ttl' => $ttl] : []));
        $hold = $fpm->request("{$scripts}/hold.php", compact('url', 'name', 'go', 'options', 'end'));
        $holder = holder($hold);
        $end === 'abort' ? $hold->abort() : $hold->finish();
        $got = [];
        // The one that held is asked too, which serves again when its request is over, whatever the client saw.
        until(static function () use ($fpm, $scripts, $url, $name, $holder, &$got): bool {
            $answer = answer(take($fpm, $scripts, $url, $name, 0.1));
            $got[] = $answer['got'];

            return $answer['pid'] === $holder;
        }, 60, 'the same worker serves again');
        $got[] = answer(take($fpm, $scripts, $url, $name, 0.1))['got'];

        return [$holder, $got];
    };
    [$holder, $got] = $seconds !== 3.0 ? $hold($seconds) : withinLease($seconds, static function (float $ttl) use ($hold, $url, $name): array {
        \Synlock\Store::open($url)->breakLock($name);

        return $hold($ttl);
    });
    same([], array_filter($got), 'free after the request');
    if ($seconds === 3.0) {
        same(true, answer(take($fpm, $scripts, $url, $name, 300))['got'], 'taken when the lease is over');
    } elseif ($store !== 'redis') {
        ok(in_array($holder, $fpm->workers(), true), 'the first worker lives');
        posix_kill($holder, SIGKILL);
        until(static fn () => !in_array($holder, $fpm->workers(), true), 60, 'the worker is dead');
        same(true, answer(take($fpm, $scripts, $url, $name, 60))['got'], 'free when its worker is dead');
    }
}

return static function (Runner $t, string $temp, string $package, string $redis): void {
    $ini = (string) shell_exec(PHP_BINARY . " {$package}/bin/synlock-check --ini 2>/dev/null");
    $scripts = "{$temp}/scripts";
    $masters = ['root master' => null, 'unprivileged master' => '65534'];
    foreach ($masters as $user) {
        // Each user makes its own lock files and segment: another's are refused.
        $folder = "{$temp}/locks-" . ($user ?? 'root');
        mkdir($folder);
        chmod($folder, 0o700);
        chown($folder, $user === null ? 'www-data' : (int) $user);
    }
    $of = static function (?string $user) use ($temp, $redis): array {
        $folder = "{$temp}/locks-" . ($user ?? 'root');

        return ['shm' => "shm:{$folder}/segment", 'flock' => "flock:{$folder}", 'redis' => $redis];
    };

    $t->test('fpm::the ini file has three lines', static function () use ($ini): void {
        same(1, preg_match('#\Aopcache\.preload=/.+\nopcache\.preload_user=\S+\nffi\.preload=/.+\n\z#', $ini), $ini);
    });

    foreach ($masters as $master => $user) {
        $urls = $of($user);
        $fpm = null;
        $t->test("fpm::{$master}: starts with the three lines", static function () use (&$fpm, $temp, $ini, $user, $package): void {
            same(0, posix_getuid(), 'the tests of FPM need root; user');
            $fpm = new Fpm($temp, $ini, ["env[SYNLOCK_PACKAGE]" => $package], $user);
        });
        if ($fpm === null) {
            continue;
        }
        $t->test("fpm::{$master}: the header is preloaded", static function () use ($fpm, $scripts): void {
            same('', trim($fpm->request("{$scripts}/scope.php")->finish()));
        });
        $t->test("fpm::{$master}: Symfony's locks, and the end of their request", static function () use ($fpm, $scripts, $urls): void {
            foreach ($urls as $url) {
                // Each finds that the one before has released.
                foreach (['return', 'memory', 'return'] as $end) {
                    $request = $fpm->request("{$scripts}/symfony.php", compact('url', 'end'));
                    $text = $request->finish();
                    ok(str_starts_with($text, "false\n[true,false,true]\n"), "{$text} {$request->errors}");
                }
            }
        });
        foreach ($urls as $store => $url) {
            foreach (ENDS as $end) {
                $t->test("fpm::{$master}: {$store}, {$end}", static fn () => ends($fpm, $temp, $url, $end));
            }
            foreach (array_diff(ENDS, ['early-exit']) as $end) {
                $t->test("fpm::{$master}: {$store}, auto-release off stays after {$end}", static fn () => stays($fpm, $temp, $url, $store, $end));
            }
        }
        $t->test("fpm::{$master}: no handle is left over", static function () use ($fpm, $scripts, $urls): void {
            for ($i = 0; $i < 4; ++$i) {
                $text = $fpm->request("{$scripts}/leak.php", ['url' => $urls['redis']])->finish();
                same(1, preg_match('/^before (\d+) during (\d+)$/m', $text, $parts), $text);
                // Of this request: a scope, a store, its warnings, a lock. Of holds with auto-release off on
                // Redis nothing is left but their leases; the workers of the others are dead.
                ok((int) $parts[1] === 0 && (int) $parts[2] === 4, $text);
            }
        });
        $t->test("fpm::{$master}: an unbounded wait ends after max_wait", static function () use ($fpm, $temp, $scripts, $urls): void {
            $name = 'bounded';
            $go = "{$temp}/go-" . bin2hex(random_bytes(4));
            $hold = $fpm->request("{$scripts}/hold.php", ['url' => $urls['flock']] + compact('name', 'go') + ['end' => 'return']);
            holder($hold);
            $start = microtime(true);
            $text = $fpm->request("{$scripts}/unbounded.php", ['url' => $urls['flock'], 'name' => $name, 'max' => '0.5'])->finish();
            same("30\nSynlock\\Exception\\LockTimeout", trim($text));
            ok(microtime(true) - $start < 20, 'soon');
            touch($go);
            $hold->finish();
        });
        $fpm->stop();
    }

    foreach ($masters as $master => $user) {
        $t->test("fpm::{$master}: request_terminate_timeout frees shm and flock within a second, redis within the lease", static function () use ($temp, $ini, $of, $user, $scripts, $package): void {
            $fpm = new Fpm($temp, $ini, ["env[SYNLOCK_PACKAGE]" => $package, 'request_terminate_timeout' => '2'], $user);
            foreach ($of($user) as $store => $url) {
                $name = 'terminated';
                $go = "{$temp}/go-" . bin2hex(random_bytes(4));
                touch($go);
                $options = json_encode($store === 'redis' ? ['ttl' => 4.0] : []);
                $hold = $fpm->request("{$scripts}/hold.php", compact('url', 'name', 'go', 'options') + ['end' => 'never']);
                $holder = holder($hold);
                $taken = microtime(true);
                $hold->finish();
                until(static fn () => !in_array($holder, $fpm->workers(), true), 60, 'the worker died');
                $bound = $store === 'redis' ? 4.5 - (microtime(true) - $taken) : 1.0;
                Bystander::watch();
                $took = until(static function () use ($fpm, $scripts, $url, $name): bool {
                    return answer(take($fpm, $scripts, $url, $name, 0.3))['got'];
                }, 30, "{$store} is free");
                Bystander::within($bound, $took, "{$store} is free");
            }
            $fpm->stop();
        });
    }
    $urls = $of(null);

    $t->test('fpm::row 49, a worker that waits honours the end of its master', static function () use ($temp, $ini, $urls, $scripts, $package): void {
        foreach ($urls as $url) {
            $fpm = new Fpm($temp, $ini, ["env[SYNLOCK_PACKAGE]" => $package]);
            $name = 'waited for';
            $hold = $fpm->request("{$scripts}/hold.php", compact('url', 'name') + ['go' => "{$temp}/never", 'end' => 'never', 'options' => '{"autoRelease":true}']);
            holder($hold);
            take($fpm, $scripts, $url, $name, 30);
            usleep(300_000);
            $workers = $fpm->workers();
            Bystander::watch();
            $start = microtime(true);
            $fpm->stop();
            Bystander::within(1.0, microtime(true) - $start, 'the master and its workers are gone');
            same(2, count($workers));
            foreach ($workers as $pid) {
                ok(!file_exists("/proc/{$pid}/exe"), 'the worker is gone');
            }
        }
    });

    $t->test('fpm::not set up, it says what to do', static function () use ($temp, $urls, $scripts, $package): void {
        $fpm = new Fpm($temp, '', ["env[SYNLOCK_PACKAGE]" => $package]);
        $text = $fpm->request("{$scripts}/take.php", ['url' => $urls['redis'], 'name' => 'x'])->finish();
        foreach (['Exception\\\\NotAvailable', 'ffi.enable=preload', 'opcache.preload=', 'synlock-check --ini', 'lib\/libsynlock.so.0'] as $part) {
            ok(str_contains($text, $part), "the text has {$part}: {$text}");
        }
        $fpm->stop();
    });

    $t->test('fpm::the preload file works inside another one, without ffi.preload', static function () use ($temp, $urls, $scripts, $package): void {
        file_put_contents("{$temp}/own-preload.php", "<?php\nrequire '{$package}/preload.php';\nfinal class Mine {}\n");
        $fpm = new Fpm($temp, "opcache.preload={$temp}/own-preload.php\nopcache.preload_user=www-data\n", ["env[SYNLOCK_PACKAGE]" => $package]);
        same(true, answer(take($fpm, $scripts, $urls['redis'], 'x', 20))['got']);
        $fpm->stop();
    });

    foreach ($urls as $store => $url) {
        $t->test("fpm::row 49, {$store}: 16 workers that come and go lose no count", static function () use ($temp, $ini, $scripts, $package, $store, $url): void {
            [$least, $seconds] = getenv('SYNLOCK_LOAD') === 'full' ? [5000, 120.0] : [800, 0.0];
            // What a killed worker held on Redis is free when its lease is over: few are killed at the quick load.
            $ttl = $store === 'redis' ? ($seconds === 0.0 ? 5.0 : 2.0) : null;
            $every = $ttl !== null && $seconds === 0.0 ? 200 : 40;
            file_put_contents("{$temp}/dying.php", "<?php\nrequire '{$package}/preload.php';\nrequire '{$scripts}/death.php';\n");
            $ini = preg_replace('#^opcache\.preload=.+$#m', "opcache.preload={$temp}/dying.php", $ini);
            $fpm = new Fpm($temp, $ini, ['pm.max_children' => '16', 'pm.max_requests' => '50', "env[SYNLOCK_PACKAGE]" => $package]);
            $file = "{$temp}/count-{$store}/number";
            mkdir(dirname($file));
            file_put_contents($file, '0000000000');
            file_put_contents("{$file}.log", '');
            foreach ([$file, "{$file}.log", dirname($file)] as $path) {
                chown($path, 'www-data');
            }
            $running = [];
            $counted = $broken = $sent = $doomed = $spared = $killed = 0;
            $took = 1000;
            $start = $reloaded = microtime(true);
            $goesOn = static function () use (&$sent, $least, $start, $seconds): bool {
                return $sent < $least || microtime(true) - $start < $seconds;
            };
            // Beside those that are sent anyway; in place of one that was through before its death, another.
            $isDoomed = static function () use (&$sent, &$doomed, &$killed, $every): bool {
                return $doomed + $killed < intdiv($sent, $every);
            };
            while ($goesOn() || $isDoomed() || $running !== []) {
                while (count($running) < 24 && (($dies = $isDoomed()) || $goesOn())) {
                    $query = ['url' => $url, 'name' => 'count', 'file' => $file] + ($ttl ? compact('ttl') : []) + ($dies ? ['dies' => random_int(1, $took)] : []);
                    try {
                        $running[] = [$fpm->request("{$scripts}/count.php", $query), $dies];
                    } catch (\RuntimeException) {
                        usleep(20_000); // the socket is away for a moment while FPM reloads
                        continue;
                    }
                    $dies ? ++$doomed : ++$sent;
                    if ((!$dies && $sent === $least >> 1) || microtime(true) - $reloaded > 20) {
                        $fpm->reload();
                        $reloaded = microtime(true);
                    }
                }
                [$oldest, $dies] = array_shift($running);
                try {
                    $text = $oldest->finish(120);
                } catch (\RuntimeException) {
                    throw new \LogicException('a request is stuck');
                }
                $isCounted = preg_match('/^counted (\d+)$/m', $text, $parts) === 1;
                $isCounted ? ++$counted : ++$broken;
                if ($dies) {
                    --$doomed;
                    $isCounted ? ++$spared : ++$killed;
                }
                $took = (int) ($parts[1] ?? $took);
                ok(!str_contains($text, 'timeout'), 'nobody waits for a minute');
                ok($spared < 20 * ($killed + 10), 'a part of the doomed die');
            }
            // A worker that was killed between its two writes leaves a number that comes twice in the log.
            $numbers = array_map('intval', file("{$file}.log", FILE_IGNORE_NEW_LINES));
            [$jumps, $repeats] = [[], 0];
            foreach ($numbers as $i => $number) {
                $step = $number - ($numbers[$i - 1] ?? 0);
                $repeats += $step === 0 ? 1 : 0;
                if ($step !== 0 && $step !== 1) {
                    $jumps[] = ($numbers[$i - 1] ?? 0) . " then {$number}";
                }
            }
            same([], $jumps, 'numbers that do not follow');
            ok($repeats <= $broken, "{$repeats} repeats, {$broken} requests broken off");
            ok((int) file_get_contents($file) >= $counted, "every count is in: {$counted}");
            ok($counted > $broken * 4, "{$counted} counted, {$broken} broken");
            // SIGTERM is FPM's own, to one that takes long to end while it reloads.
            preg_match_all('/exited on signal (\d+)/', $fpm->logged(), $signals);
            same([SIGKILL], array_values(array_diff(array_map('intval', array_unique($signals[1])), [SIGTERM])), 'what workers died of');
            same(true, $fpm->isRunning(), 'the master lives');
            $fpm->stop(20);
        });
    }
};
