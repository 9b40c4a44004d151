<?php

// Request guards under PHP-FPM behind nginx: what they do under PHP's own server, and what is FPM's alone.

declare(strict_types=1);

namespace Synlock\Tests;

return static function (Runner $t, string $temp, string $package, string $redis): void {
    foreach (['psr15' => 'guarded', 'bundle' => 'guarded-symfony', 'laravel' => 'guarded-laravel'] as $name => $script) {
        $face = "fpm {$name}";
        $script = "{$temp}/scripts/{$script}.php";
        $site = new FpmSite($package, "{$temp}/fpm-{$name}", $script);
        $name === 'psr15' ? guarded($t, $face, $site) : framed($t, $face, $site, $script);

        $t->test("{$face}::work after fastcgi_finish_request is guarded by the release point terminate", static function () use ($site): void {
            foreach (['response' => 200, 'terminate' => 423] as $release => $meanwhile) {
                $policy = ['name' => "after-{$release}", 'release' => $release];
                same("after-{$release}", $site->ask($policy, do: 'finished', id: $release, linger: true)->whole()->body, 'the connection is over');
                same($meanwhile, $site->ask($policy, do: 'finished')->answer()->status, "{$release}, while the script works on");
                $site->go($release);
                until(static fn (): bool => !$site->store->isLocked("after-{$release}"), 60, 'the script has ended');
            }
        });

        $t->test("{$face}::a client that hangs up on a handler at work lets nobody in beside it", static function () use ($site): void {
            $site->hold('gone', ['name' => 'gone'])->close();
            same(423, $site->ask(['name' => 'gone'])->answer()->status);
            $site->go('gone');
            until(static fn (): bool => !$site->store->isLocked('gone'), 60, 'the handler has ended');
        });
        $site->stop();
    }
    $t->test('fpm psr15::request_terminate_timeout ends a request, and its locks', static function () use ($temp, $package): void {
        $site = new FpmSite($package, "{$temp}/fpm-timeout", "{$temp}/scripts/guarded.php", ['request_terminate_timeout' => '3s']);
        $site->start();
        // The handler sleeps, where PHP's own limit does not run.
        $site->hold('slow', ['name' => 'slow']);
        same(423, $site->ask(['name' => 'slow'])->answer()->status);
        until(static fn (): bool => !$site->store->isLocked('slow'), 60, 'free');
        same(false, is_file("{$site->place}/go-slow"));
        same(200, $site->ask(['name' => 'slow'])->answer()->status);
        ok(str_contains($site->log(), 'execution timed out'), 'it was the limit');
        $site->stop();
    });
};
