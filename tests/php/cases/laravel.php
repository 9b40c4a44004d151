<?php

// Request guards by Laravel's middleware, over HTTP: the application is scripts/guarded-laravel.php.

declare(strict_types=1);

namespace Synlock\Tests;

return static function (Runner $t, string $temp, string $package, string $redis): void {
    $place = "{$temp}/laravel";
    $script = "{$temp}/scripts/guarded-laravel.php";
    $site = new CliSite($package, $place, $script);
    framed($t, 'laravel', $site, $script);
    $t->test('laravel::a policy in the words of a route', static function () use ($site): void {
        $one = $site->hold('w1', ['name' => 'never asked for'], '/worded/17');
        same([true, false], [$site->store->isLocked('worded_17'), $site->store->isLocked('never asked for')]);
        $other = $site->ask([], '/worded/17')->answer();
        same([423, true], [$other->status, isset($other->headers['retry-after'])], 'after its patience');
        same(200, $site->ask([], '/worded/18')->answer()->status);
        $site->go('w1');
        same([200, 'worded_17'], [$one->answer()->status, $one->body]);
        $bad = $site->ask([], '/misspelt')->answer();
        same([500, 'Synlock\Exception\InvalidArgument: the words of a middleware have no option "nmae"'], [$bad->status, $bad->body]);
    });
    $t->test('laravel::middleware around another', static function () use ($site): void {
        $one = $site->hold('n', ['name' => 'inner_{id}'], '/nested/1');
        same([true, true], [$site->store->isLocked('outer'), $site->store->isLocked('inner_1')]);
        same(423, $site->ask(['name' => 'inner_{id}'], '/nested/2')->answer()->status);
        $site->go('n');
        same(200, $one->answer()->status);
        same([false, false], [$site->store->isLocked('outer'), $site->store->isLocked('inner_1')]);
        $between = $site->ask(['name' => 'inner_{id}'], '/between/1', linger: true, id: 'between')->answer();
        same([200, 'held'], [$between->status, $between->headers['x-outer']], 'until what is between the two is done');
        same([false, false], [$site->store->isLocked('outer'), $site->store->isLocked('inner_1')]);
        $site->go('between');
        $inner = $site->store->createLock('inner_1');
        $inner->acquire();
        same([423, false], [$site->ask(['name' => 'inner_{id}'], '/between/1')->answer()->status, $site->store->isLocked('outer')]);
        $inner->release();
    });
    $t->test('laravel::closures with attributes, and cached ones that have lost them', static function () use ($site): void {
        $lock = $site->store->createLock('closure_17');
        $lock->acquire();
        same(423, $site->ask([], '/closure/17')->answer()->status);
        same([200, 'closure'], [$site->ask([], '/closure/18')->answer()->status, $site->ask([], '/closure/18')->answer()->body]);
        $lock->release();
        $cached = $site->ask([], '/cached')->answer();
        same(500, $cached->status);
        ok(str_contains($cached->body, 'InvalidArgument: the route cached is a cached closure'), $cached->body);
    });
    $t->test('laravel::services, and words of a language file', static function () use ($site): void {
        $one = $site->hold('s1', ['name' => 'words'], '/any');
        same(200, $site->ask(['name' => 'words', 'service' => 'other'])->answer()->status, 'another store');
        $refused = $site->ask(['name' => 'words', 'http' => ['message' => 'Not now.', 'domain' => 'mutex']])->answer();
        same([423, 'Later, please.'], [$refused->status, $refused->body]);
        $refused = $site->ask(['name' => 'words', 'http' => ['message' => 'Unknown.', 'domain' => 'mutex']])->answer();
        same([423, 'Unknown.'], [$refused->status, $refused->body]);
        $site->go('s1');
        same(200, $one->answer()->status);
    });
    $t->test('laravel::the guide', static function () use ($site): void {
        $invoice = $site->store->createLock('invoice_17');
        $report = $site->store->createLock('report_2026');
        same([true, true], [$invoice->acquire(), $report->acquire()]);
        same(423, $site->get('/invoices/17')->answer()->status);
        $waits = $site->get('/reports/2026');
        until(static fn (): bool => $site->store->inspect('report_2026')->waiters === 1, 60, 'the report waits');
        $invoice->release();
        $report->release();
        same([200, 'report 2026'], [$waits->whole()->status, $waits->body]);
        $free = $site->get('/invoices/17')->whole();
        same([200, 'invoice 17'], [$free->status, $free->body]);
    });
    $site->stop();
};
