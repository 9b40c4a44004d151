<?php

declare(strict_types=1);

namespace Synlock\Tests;

/** What every face of request guards does, on a site of its own. */
function guarded(Runner $t, string $face, Site $site, bool $warns = true): void
{
    $t->test("{$face}::the server starts", static fn () => $site->start());

    $t->test("{$face}::block lets exactly one in", static function () use ($site): void {
        $policy = ['name' => 'order_{id}', 'ttl' => 600];
        $one = $site->hold('b', $policy, '/orders/17');
        $others = [];
        for ($i = 0; $i < 7; ++$i) {
            $others[] = $site->ask($policy, '/orders/17', id: 'b-other');
        }
        foreach ($others as $other) {
            $other->answer();
            same([423, 'Resource is not available at this moment.', 'no-store'], [$other->status, $other->body, explode(',', $other->headers['cache-control'])[0]]);
            $left = (int) ($other->headers['retry-after'] ?? 0);
            ok($left > 0 && $left <= 600, "Retry-After: {$left}");
        }
        same(false, $site->entered('b-other'));
        same(200, $site->ask($policy, '/orders/18')->answer()->status, 'another order');
        $site->go('b');
        same([200, 'order_17'], [$one->answer()->status, $one->body]);
        same(200, $site->ask($policy, '/orders/17')->answer()->status, 'afterwards');
        same(false, isset($site->ask(['name' => 'free'])->answer()->headers['retry-after']));
    });

    // A worker of PHP's own server may take a second one in before it is done with the first.
    str_starts_with($face, 'fpm ') && $t->test("{$face}::of several that come at once exactly one gets in", static function () use ($site): void {
        // As many as there are workers.
        $all = array_map(static fn (): Http => $site->ask(['name' => 'rush'], do: 'wait', id: 'rush'), range(1, 6));
        $answered = static fn (): int => count(array_filter($all, static fn (Http $one): bool => $one->isAnswered()));
        until(static fn (): bool => $answered() >= 5, 60, 'all but one have their answers');
        $site->go('rush');
        $seen = array_count_values(array_map(static fn (Http $one): int => $one->answer()->status, $all));
        ksort($seen);
        same([200 => 1, 423 => 5], $seen);
    });

    $t->test("{$face}::a holder without a lease has no end that is known", static function () use ($site, $face): void {
        $one = $site->hold('l', ['name' => 'l']);
        $other = $site->ask(['name' => 'l', 'http' => ['code' => 409, 'message' => 'later']])->answer();
        same([409, 'later', false], [$other->status, $other->body, isset($other->headers['retry-after'])]);
        if (str_ends_with($face, 'psr15')) { // whose answer is its own
            same('busy (app)', $site->ask(['name' => 'l', 'http' => ['message' => 'busy', 'domain' => 'app']])->answer()->body);
        }
        $site->go('l');
        same(200, $one->answer()->status);
    });

    $t->test("{$face}::requests at once never meet inside", static function () use ($site): void {
        foreach (['block', 'queue'] as $mode) {
            $all = [];
            for ($i = 0; $i < 12; ++$i) {
                $all[] = $site->ask(['mode' => $mode, 'name' => 'alone', 'maxWait' => 60], '/alone', 'alone', "m{$i}");
            }
            $seen = array_count_values(array_map(static fn (Http $one): int => $one->answer()->status, $all));
            same([], array_diff(array_keys($seen), $mode === 'queue' ? [200] : [200, 423]), json_encode($seen));
            ok($seen[200] >= 1, 'one was inside');
        }
    });

    $t->test("{$face}::queue serves all in their order", static function () use ($site): void {
        $policy = ['mode' => 'queue', 'name' => 'line', 'maxWait' => 60];
        // The place in the line is kept from the first millisecond of waiting on.
        $all = [$site->hold('q', $policy)];
        @unlink("{$site->place}/order");
        foreach (['q1', 'q2', 'q3'] as $number => $id) {
            $all[] = $site->ask($policy, '/line', 'alone', $id);
            until(static fn (): bool => $site->store->inspect('line')->waiters === $number + 1, 60, "{$id} waits");
        }
        $site->go('q');
        foreach ($all as $one) {
            same(200, $one->answer()->status, $one->body);
        }
        same("q1\nq2\nq3\n", file_get_contents("{$site->place}/order"));
    });

    $t->test("{$face}::queue is bounded", static function () use ($site): void {
        $one = $site->hold('w', ['name' => 'w']);
        same(423, $site->ask(['mode' => 'queue', 'name' => 'w', 'maxWait' => 0.05])->answer()->status);
        $site->go('w');
        same(200, $one->answer()->status);
    });

    $t->test("{$face}::check lets in without acquiring", static function () use ($site): void {
        $check = $site->hold('c', ['mode' => 'check', 'name' => 'c']);
        same(false, $site->store->isLocked('c'));
        same(200, $site->ask(['mode' => 'check', 'name' => 'c'])->answer()->status);
        $one = $site->hold('c2', ['name' => 'c']);
        same(423, $site->ask(['mode' => 'check', 'name' => 'c'])->answer()->status);
        array_map($site->go(...), ['c', 'c2']);
        same([200, 200], [$check->answer()->status, $one->answer()->status]);
    });

    $t->test("{$face}::force takes over, and the victim is told by whom", static function () use ($site): void {
        $victim = $site->hold('v', ['name' => 'f', 'ttl' => 600]);
        $boss = $site->hold('boss', ['mode' => 'force', 'name' => 'f', 'ttl' => 600, 'label' => 'the boss']);
        $site->go('v');
        same(409, $victim->answer()->status, $victim->body);
        ok(preg_match('/broken by the boss, pid \d+, host ' . preg_quote((string) gethostname(), '/') . '\b/', $victim->body) === 1, $victim->body);
        same(423, $site->ask(['name' => 'f'])->answer()->status, 'the victim has released nothing of the boss\'s');
        $site->go('boss');
        same(200, $boss->answer()->status, $boss->body);
    });

    $t->test("{$face}::isolated users", static function () use ($site): void {
        $policy = ['name' => 'cart', 'userIsolation' => true];
        $bob = $site->hold('u', $policy, headers: ['X-User' => 'bob', 'X-Session' => 'one']);
        same(423, $site->ask($policy, headers: ['X-User' => 'bob', 'X-Session' => 'two'])->answer()->status, 'bob from elsewhere');
        same(200, $site->ask($policy, headers: ['X-User' => 'eve', 'X-Session' => 'one'])->answer()->status);
        $nobody = $site->ask($policy)->answer();
        same(500, $nobody->status);
        ok(str_starts_with($nobody->body, 'Synlock\Exception\InvalidArgument: '), $nobody->body);
        $session = [...$policy, 'anonymous' => 'session'];
        $one = $site->hold('u1', $session, headers: ['X-Session' => 'one']);
        same(423, $site->ask($session, headers: ['X-Session' => 'one'])->answer()->status);
        same(200, $site->ask($session, headers: ['X-Session' => 'two'])->answer()->status);
        array_map($site->go(...), ['u', 'u1']);
        same([200, 200], [$bob->answer()->status, $one->answer()->status]);
    });

    $t->test("{$face}::anonymous requests, shared or by their address", static function () use ($site): void {
        $policy = ['name' => 'basket', 'userIsolation' => true, 'anonymous' => 'share'];
        $shared = $site->hold('as', $policy);
        same(423, $site->ask($policy, headers: ['X-Session' => 'two'], from: '127.0.0.2')->answer()->status, 'nobody else');
        same(200, $site->ask($policy, headers: ['X-User' => 'bob'])->answer()->status);
        $ip = [...$policy, 'anonymous' => 'ip'];
        $one = $site->hold('ai', $ip);
        same(423, $site->ask($ip, headers: ['X-Session' => 'two'])->answer()->status, 'from the same address');
        same(200, $site->ask($ip, from: '127.0.0.2')->answer()->status);
        array_map($site->go(...), ['as', 'ai']);
        same([200, 200], [$shared->answer()->status, $one->answer()->status]);
    });

    // The script stays, so that its end is not what releases.
    $isFree = static function (string $name, int $status, string $do, string $method = 'GET') use ($site): void {
        $one = $site->ask(['name' => $name], do: $do, id: $name, linger: true, method: $method)->answer();
        same($status, $one->status, $one->body);
        same(200, $site->ask(['name' => $name])->answer()->status);
        $site->go($name);
    };
    foreach (['answer' => 200, 'throw' => 500, 'empty' => 204, 'unchanged' => 304] as $do => $status) {
        $t->test("{$face}::free with the last byte of the answer, {$do}", static fn () => $isFree("r-{$do}", $status, $do));
    }
    foreach (['answer', 'stream', ...(str_ends_with($face, 'psr15') ? [] : ['sized', 'file'])] as $do) {
        $t->test("{$face}::free with the head of an answer that has no body, {$do}", static fn () => $isFree("h-{$do}", 200, $do, 'HEAD'));
    }

    $t->test("{$face}::an exception inside a body lets go", static function () use ($site): void {
        $one = $site->ask(['name' => 'crumble'], do: 'crumble', id: 'crumble', linger: true);
        $site->inside('crumble');
        until(static fn (): bool => !$site->store->isLocked('crumble'), 30, 'free, while the script has half a minute to go');
        $site->go('crumble');
        $one->close();
    });

    $t->test("{$face}::the policies before one that refuses are let go of", static function () use ($site): void {
        $one = $site->hold('p', ['name' => 'p']);
        same(423, $site->ask([['name' => 'p-first'], ['name' => 'p']], id: 'p2', linger: true)->answer()->status);
        same(200, $site->ask(['name' => 'p-first'])->answer()->status);
        array_map($site->go(...), ['p', 'p2']);
        same(200, $one->answer()->status);
    });

    $t->test("{$face}::the release point terminate comes after the answer", static function () use ($site): void {
        same(200, $site->ask(['name' => 't', 'release' => 'terminate'], id: 't', linger: true)->answer()->status);
        same(423, $site->ask(['name' => 't'])->answer()->status);
        $site->go('t');
        until(static fn (): bool => !$site->store->isLocked('t'), 60, 'the script has ended');
    });

    $t->test("{$face}::a streamed body is held until its end", static function () use ($site): void {
        $one = $site->ask(['name' => 's'], do: 'drip', id: 's');
        $site->inside('s');
        same(423, $site->ask(['name' => 's'])->answer()->status);
        $one->hangUp();
        until(static fn (): bool => !$site->store->isLocked('s'), 60, 'the client is gone');
        same(200, $site->ask(['name' => 's'])->answer()->status);
        $site->ask(['name' => 's2'], do: 'stream', id: 's2', linger: true)->hangUp();
        until(static fn (): bool => !$site->store->isLocked('s2'), 60, 'its end');
        $site->go('s2');
    });

    $t->test("{$face}::nothing was warned of but the lock that force took", static function () use ($site, $warns): void {
        preg_match_all('/^.*(?:Warning|Notice|Deprecated|Fatal error).*$/m', $site->log(), $lines);
        same($warns ? 1 : 0, count($lines[0]), implode("\n", $lines[0]));
        ok(stripos($site->log(), 'the lock "f" of a request') !== false, $site->log());
    });

    foreach (['memory', 'time'] as $limit) {
        $t->test("{$face}::the {$limit} limit ends a request, and its locks", static function () use ($site, $limit): void {
            $one = $site->ask(['name' => "limit-{$limit}"], do: $limit, id: "limit-{$limit}");
            $site->inside("limit-{$limit}");
            $worker = (int) file_get_contents("{$site->place}/inside-limit-{$limit}");
            until(static fn (): bool => !$site->store->isLocked("limit-{$limit}"), 60, 'free');
            same(true, posix_kill($worker, 0), 'its worker lives');
            ok($one->answer()->status >= 500, "{$one->status}");
            ok(str_contains($site->log(), $limit === 'memory' ? 'Allowed memory size' : 'Maximum execution time'), 'it was the limit');
            same(200, $site->ask(['name' => "limit-{$limit}"])->answer()->status);
        });
    }

    $t->test("{$face}::a killed worker", static function () use ($site): void {
        $one = $site->hold('k', ['name' => 'k']);
        same(true, $site->store->isLocked('k'));
        posix_kill((int) file_get_contents("{$site->place}/inside-k"), SIGKILL);
        until(static fn (): bool => !$site->store->isLocked('k'), 60, 'the worker is gone');
    });
}

/** What every framework does besides, whose application is `$script`. */
function framed(Runner $t, string $face, Site $site, string $script): void
{
    $t->test("{$face}::the application boots", static function () use ($site, $script): void {
        $process = $site->boot($script);
        same(0, $process->wait(), $process->output);
        same('', $process->output);
    });
    guarded($t, $face, $site, warns: false);
    $t->test("{$face}::an application without users", static function () use ($site): void {
        $as = ['X-No-Users' => '1'];
        same([200, 'plain'], [$site->ask(['name' => 'plain'], headers: $as)->answer()->status, $site->ask(['name' => 'plain'], headers: $as)->answer()->body]);
        foreach (['refuse', 'share'] as $anonymous) {
            $nobody = $site->ask(['name' => 'cart', 'userIsolation' => true, 'anonymous' => $anonymous], headers: $as)->answer();
            same([500, 'Synlock\Exception\InvalidArgument'], [$nobody->status, strstr($nobody->body, ':', true)]);
            ok(str_contains($nobody->body, 'the application has no source of users'), $nobody->body);
        }
    });
    $t->test("{$face}::bodies whose length is known are held until their last byte", static function () use ($site): void {
        same('sized body', $site->ask(['name' => 'sized'], do: 'sized', id: 'sized')->answer()->body);
        same(200, $site->ask(['name' => 'sized'])->answer()->status, 'while the script still writes nothing');
        $site->go('sized');
        same(100_000, strlen($site->ask(['name' => 'file'], do: 'file', id: 'file', linger: true)->answer()->body));
        same(200, $site->ask(['name' => 'file'])->answer()->status);
        $site->go('file');
    });
}
