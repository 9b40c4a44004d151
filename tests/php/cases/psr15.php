<?php

// Request guards by PSR-15's middleware, over HTTP: PHP's own server with several workers, and the application in
// scripts/guarded.php.

declare(strict_types=1);

namespace Synlock\Tests;

use Synlock\Store;

return static function (Runner $t, string $temp, string $package, string $redis): void {
    $place = "{$temp}/guarded";
    mkdir($place, 0o700);
    $url = "shm:{$place}/segment";
    $store = Store::open($url);
    $port = (int) explode(':', (string) stream_socket_get_name($socket = stream_socket_server('tcp://127.0.0.1:0'), false))[1];
    fclose($socket);
    // FFI as under a web server: only for what is preloaded.
    $settings = ['opcache.enable=1', "opcache.preload={$package}/preload.php", 'ffi.enable=preload', 'output_buffering=0', ...(posix_getuid() === 0 ? ['opcache.preload_user=nobody'] : [])];
    $options = array_merge(...array_map(static fn (string $setting): array => ['-d', $setting], $settings));
    $server = new Process(
        ['setsid', PHP_BINARY, ...$options, '-S', "127.0.0.1:{$port}", "{$temp}/scripts/guarded.php"],
        [...getenv(), 'PHP_CLI_SERVER_WORKERS' => '6', 'GUARD_PLACE' => $place, 'GUARD_URL' => $url],
        "{$place}/log",
    );
    // Its workers do not end with it.
    $end = static fn () => posix_kill(-$server->pid, SIGKILL);
    register_shutdown_function($end);
    $log = static fn (): string => (string) file_get_contents("{$place}/log");

    /** @param array<string, mixed> $policy */
    $ask = static function (array $policy, string $path = '/demo', string $do = 'answer', string $id = '', bool $linger = false, array $headers = []) use ($port): Http {
        $query = ['policy' => json_encode($policy), 'do' => $do, 'id' => $id] + ($linger ? ['linger' => '1'] : []);

        return new Http($port, "{$path}?" . http_build_query($query), $headers);
    };
    $inside = static fn (string $id) => until(static fn (): bool => file_exists("{$place}/inside-{$id}"), 60, "{$id} is inside");
    $go = static fn (string $id) => touch("{$place}/go-{$id}");
    /** A request whose handler waits for go. */
    $hold = static function (string $id, array $policy, string $path = '/demo', array $headers = []) use ($ask, $inside): Http {
        $holder = $ask($policy, $path, 'wait', $id, headers: $headers);
        $inside($id);

        return $holder;
    };
    $entered = static fn (string $id): bool => file_exists("{$place}/inside-{$id}");

    $started = false;
    for ($patience = microtime(true) + 60; !$started && microtime(true) < $patience && $server->isRunning(); usleep(5000)) {
        $started = @fsockopen('127.0.0.1', $port) !== false;
    }
    $t->test('psr15::the server starts', static fn () => ok($started, $log()));

    $t->test('psr15::block lets exactly one in', static function () use ($ask, $hold, $go, $entered): void {
        $policy = ['name' => 'order_{id}', 'ttl' => 600];
        $one = $hold('b', $policy, '/orders/17');
        $others = [];
        for ($i = 0; $i < 7; ++$i) {
            $others[] = $ask($policy, '/orders/17', id: 'b-other');
        }
        foreach ($others as $other) {
            $other->answer();
            same([423, 'Resource is not available at this moment.', 'no-store'], [$other->status, $other->body, $other->headers['cache-control']]);
            $left = (int) ($other->headers['retry-after'] ?? 0);
            ok($left > 0 && $left <= 600, "Retry-After: {$left}");
        }
        same(false, $entered('b-other'));
        same(200, $ask($policy, '/orders/18')->answer()->status, 'another order');
        $go('b');
        same([200, 'order_17'], [$one->answer()->status, $one->body]);
        same(200, $ask($policy, '/orders/17')->answer()->status, 'afterwards');
        same(false, isset($ask(['name' => 'free'])->answer()->headers['retry-after']));
    });

    $t->test('psr15::a holder without a lease has no end that is known', static function () use ($ask, $hold, $go): void {
        $one = $hold('l', ['name' => 'l']);
        $other = $ask(['name' => 'l', 'http' => ['code' => 409, 'message' => 'later']])->answer();
        same([409, 'later', false], [$other->status, $other->body, isset($other->headers['retry-after'])]);
        $go('l');
        same(200, $one->answer()->status);
    });

    $t->test('psr15::requests at once never meet inside', static function () use ($ask, $place): void {
        foreach (['block', 'queue'] as $mode) {
            $all = [];
            for ($i = 0; $i < 12; ++$i) {
                $all[] = $ask(['mode' => $mode, 'name' => 'alone', 'maxWait' => 60], '/alone', 'alone', "m{$i}");
            }
            $seen = array_count_values(array_map(static fn (Http $one): int => $one->answer()->status, $all));
            same([], array_diff(array_keys($seen), $mode === 'queue' ? [200] : [200, 423]), json_encode($seen));
            ok($seen[200] >= 1, 'one was inside');
        }
    });

    $t->test('psr15::queue serves all in their order', static function () use ($ask, $hold, $go, $place, $store): void {
        $policy = ['mode' => 'queue', 'name' => 'line', 'maxWait' => 60];
        // The place in the line is kept from the first millisecond of waiting on.
        $all = [$hold('q', $policy)];
        @unlink("{$place}/order");
        foreach (['q1', 'q2', 'q3'] as $number => $id) {
            $all[] = $ask($policy, '/line', 'alone', $id);
            until(static fn (): bool => $store->inspect('line')->waiters === $number + 1, 60, "{$id} waits");
        }
        $go('q');
        foreach ($all as $one) {
            same(200, $one->answer()->status, $one->body);
        }
        same("q1\nq2\nq3\n", file_get_contents("{$place}/order"));
    });

    $t->test('psr15::queue is bounded', static function () use ($ask, $hold, $go): void {
        $one = $hold('w', ['name' => 'w']);
        same(423, $ask(['mode' => 'queue', 'name' => 'w', 'maxWait' => 0.05])->answer()->status);
        $go('w');
        same(200, $one->answer()->status);
    });

    $t->test('psr15::check lets in without acquiring', static function () use ($ask, $hold, $go, $store): void {
        $check = $hold('c', ['mode' => 'check', 'name' => 'c']);
        same(false, $store->isLocked('c'));
        same(200, $ask(['mode' => 'check', 'name' => 'c'])->answer()->status);
        $one = $hold('c2', ['name' => 'c']);
        same(423, $ask(['mode' => 'check', 'name' => 'c'])->answer()->status);
        array_map($go, ['c', 'c2']);
        same([200, 200], [$check->answer()->status, $one->answer()->status]);
    });

    $t->test('psr15::force takes over, and the victim is told by whom', static function () use ($ask, $hold, $go): void {
        $victim = $hold('v', ['name' => 'f', 'ttl' => 600]);
        $boss = $hold('boss', ['mode' => 'force', 'name' => 'f', 'ttl' => 600, 'label' => 'the boss']);
        $go('v');
        same(409, $victim->answer()->status, $victim->body);
        ok(str_contains($victim->body, 'broken by the boss'), $victim->body);
        same(423, $ask(['name' => 'f'])->answer()->status, 'the victim has released nothing of the boss\'s');
        $go('boss');
        same(200, $boss->answer()->status, $boss->body);
    });

    $t->test('psr15::isolated users', static function () use ($ask, $hold, $go): void {
        $policy = ['name' => 'cart', 'userIsolation' => true];
        $bob = $hold('u', $policy, headers: ['X-User' => 'bob', 'X-Session' => 'one']);
        same(423, $ask($policy, headers: ['X-User' => 'bob', 'X-Session' => 'two'])->answer()->status, 'bob from elsewhere');
        same(200, $ask($policy, headers: ['X-User' => 'eve', 'X-Session' => 'one'])->answer()->status);
        $nobody = $ask($policy)->answer();
        same(500, $nobody->status);
        ok(str_starts_with($nobody->body, 'Synlock\Exception\InvalidArgument: '), $nobody->body);
        $session = [...$policy, 'anonymous' => 'session'];
        $one = $hold('u1', $session, headers: ['X-Session' => 'one']);
        same(423, $ask($session, headers: ['X-Session' => 'one'])->answer()->status);
        same(200, $ask($session, headers: ['X-Session' => 'two'])->answer()->status);
        array_map($go, ['u', 'u1']);
        same([200, 200], [$bob->answer()->status, $one->answer()->status]);
    });

    foreach (['answer' => 200, 'throw' => 500, 'empty' => 204] as $do => $status) {
        $t->test("psr15::free with the last byte of the answer, {$do}", static function () use ($ask, $go, $do, $status): void {
            // The script stays, so that its end is not what releases.
            $one = $ask(['name' => "r-{$do}"], do: $do, id: "r-{$do}", linger: true)->answer();
            same($status, $one->status, $one->body);
            same(200, $ask(['name' => "r-{$do}"])->answer()->status);
            $go("r-{$do}");
        });
    }

    $t->test('psr15::the policies before one that refuses are let go of', static function () use ($ask, $hold, $go): void {
        $one = $hold('p', ['name' => 'p']);
        same(423, $ask([['name' => 'p-first'], ['name' => 'p']], id: 'p2', linger: true)->answer()->status);
        same(200, $ask(['name' => 'p-first'])->answer()->status);
        array_map($go, ['p', 'p2']);
        same(200, $one->answer()->status);
    });

    $t->test('psr15::the release point terminate comes after the answer', static function () use ($ask, $go, $store): void {
        same(200, $ask(['name' => 't', 'release' => 'terminate'], id: 't', linger: true)->answer()->status);
        same(423, $ask(['name' => 't'])->answer()->status);
        $go('t');
        until(static fn (): bool => !$store->isLocked('t'), 60, 'the script has ended');
    });

    $t->test('psr15::a streamed body is held until its end', static function () use ($ask, $go, $inside, $store): void {
        $one = $ask(['name' => 's'], do: 'drip', id: 's');
        $inside('s');
        same(423, $ask(['name' => 's'])->answer()->status);
        $one->hangUp();
        until(static fn (): bool => !$store->isLocked('s'), 60, 'the client is gone');
        same(200, $ask(['name' => 's'])->answer()->status);
        $ask(['name' => 's2'], do: 'stream', id: 's2', linger: true)->hangUp();
        until(static fn (): bool => !$store->isLocked('s2'), 60, 'its end');
        $go('s2');
    });

    $t->test('psr15::nothing was warned of but the lock that force took', static function () use ($log): void {
        preg_match_all('/^.*(?:Warning|Notice|Deprecated|Fatal error).*$/m', $log(), $lines);
        same(1, count($lines[0]), implode("\n", $lines[0]));
        ok(str_contains($lines[0][0], 'the lock "f" of a request'), $lines[0][0]);
    });

    $t->test('psr15::a killed worker', static function () use ($ask, $hold, $place, $store): void {
        $one = $hold('k', ['name' => 'k']);
        same(true, $store->isLocked('k'));
        posix_kill((int) file_get_contents("{$place}/inside-k"), SIGKILL);
        until(static fn (): bool => !$store->isLocked('k'), 60, 'the worker is gone');
    });
    $end();
};
