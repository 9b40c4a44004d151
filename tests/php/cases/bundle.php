<?php

// Request guards by the Symfony bundle, over HTTP: the application is scripts/guarded-symfony.php.

declare(strict_types=1);

namespace Synlock\Tests;

return static function (Runner $t, string $temp, string $package, string $redis): void {
    $place = "{$temp}/bundle";
    $script = "{$temp}/scripts/guarded-symfony.php";
    $site = new Site($package, $place, $script);
    framed($t, 'bundle', $site, $script);
    $t->test('bundle::annotations, and services by short and full names', static function () use ($site): void {
        $as = ['X-Annotations' => '1'];
        $one = $site->hold('a', ['name' => 'resource_{id}', 'mode' => 'block', 'ttl' => 30], '/orders/17', $as);
        same(true, $site->store->isLocked('resource_17'));
        foreach (['synlock.queued', 'ixarlie_mutex.synlock_factory.queued'] as $service) {
            $queue = ['name' => 'resource_{id}', 'mode' => 'queue', 'service' => $service, 'http' => ['code' => 409]];
            same(409, $site->ask($queue, '/orders/17', headers: $as)->answer()->status, 'after the service\'s patience');
        }
        same(200, $site->ask(['name' => 'resource_{id}', 'mode' => 'block', 'service' => 'flock.files'], '/orders/17', headers: $as)->answer()->status, 'another store');
        $site->go('a');
        same(200, $one->answer()->status);
    });
    $site->stop();
};
