<?php

// Request guards by the Symfony bundle, over HTTP: the application is scripts/guarded-symfony.php.

declare(strict_types=1);

namespace Synlock\Tests;

return static function (Runner $t, string $temp, string $package, string $redis): void {
    $place = "{$temp}/bundle";
    $script = "{$temp}/scripts/guarded-symfony.php";
    $site = new CliSite($package, $place, $script);
    framed($t, 'bundle', $site, $script);
    $t->test('bundle::each type of store, by its services', static function () use ($temp, $place, $redis): void {
        $memcached = memcached($temp);
        $process = new Process([PHP_BINARY, "{$temp}/scripts/bundle-stores.php", $place, substr($redis, strlen('redis+unix://')), "{$temp}/memcached.sock"]);
        same(0, $process->wait(60), $process->output);
        $memcached->signal(SIGTERM);
        $memcached->wait();
        $found = json_decode($process->output, true, 8, JSON_THROW_ON_ERROR);
        same([true, false], $found['default']);
        same([true, false, true, 7], $found['redis.cache'], 'its default_ttl');
        same([true, false, true, 9], $found['memcached.cache'], 'its default_ttl');
        // The memcached of each is one; the second server of a client would be another.
        ok(str_contains($found['two servers'], 'one server'), $found['two servers']);
        ok(str_contains($found['odd strategy'], 'not a Redis'), $found['odd strategy']);
        ok(str_contains($found['in a circle'], '"combined.b" is none'), $found['in a circle']);
        same(array_map(static fn (string $default): string => "i_xarlie_mutex.default: there is no store \"{$default}\", there are: synlock.main.", ['redis.nobody', 'nobody', 'ixarlie_mutex.redis_factory.nobody']), $found['unknown default']);
        same([true, false, null, true, false, null, null, true], $found['beside the component']);
        foreach (['flock.files', 'semaphore.main', 'combined.all', 'combined.most', 'combined.nested', 'custom.own', 'custom.component', 'synlock.shm'] as $service) {
            same([true, false, true], array_slice($found[$service], 0, 3), $service);
        }
        // Free: check, block. Held: block, check, queue, force, which takes it from the second one.
        $all = 'in in 423 423 423 in lost 1';
        $noForce = 'in in 423 423 423 UNSUPPORTED';
        $services = ['flock.files', 'semaphore.main', 'redis.cache', 'memcached.cache', 'combined.all', 'combined.most', 'combined.nested', 'custom.own', 'custom.component', 'synlock.shm'];
        $modes = [...array_fill_keys($services, $all), 'custom.component' => 'UNSUPPORTED in 423 UNSUPPORTED 423 UNSUPPORTED'];
        same($modes, $found['modes']['native']);
        // A file that a peer waits for cannot be replaced.
        same([...$modes, ...array_fill_keys(['flock.files', 'combined.all', 'combined.most', 'combined.nested'], $noForce)], $found['modes']['ixarlie']);
        // Held by another process.
        same(array_fill_keys(['native', 'ixarlie'], array_fill_keys(['combined.all', 'combined.most', 'combined.host'], ['in', 423, 'in'])), $found['far']);
    });
    $t->test('bundle::listeners: their order, when they let go, translation, the logger of a store', static function () use ($temp): void {
        $process = new Process([PHP_BINARY, '-d', 'error_reporting=-1', "{$temp}/scripts/bundle-listeners.php", "{$temp}/bundle-listeners"], null, "{$temp}/bundle-listeners.log");
        same(0, $process->wait(120), $process->output . file_get_contents("{$temp}/bundle-listeners.log"));
        // Refusals alone are logged.
        same(2, preg_match_all('/^\[error\]/m', (string) file_get_contents("{$temp}/bundle-listeners.log")));
        $found = json_decode($process->output, true, 16, JSON_THROW_ON_ERROR);
        same([['MutexDecoratorListener', 256], ['MutexRequestListener', 255]], $found['order']['kernel.controller']);
        same([['MutexExceptionListener', 255]], $found['order']['kernel.exception']);
        same([['MutexReleaseListener', -255]], $found['order']['kernel.terminate']);
        same(['kernel.controller' => [['MutexDecoratorListener', 8], ['MutexRequestListener', 7]], 'kernel.exception' => [['MutexExceptionListener', 255]]], $found['other order']);
        same([[], [200, 'in']], [$found['disabled'], $found['unguarded']]);
        same(true, $found['inside']);
        // After the response, after the kernel has terminated, after the end of PHP's request.
        same([[false, false, false], [true, false, false], [true, true, false]], [$found['response'], $found['terminate'], $found['never']]);
        same([['nobody answers', false], ['nobody answers', true]], [$found['caught'], $found['not let go']]);
        same(['sub', false, true, false], $found['sub request']);
        same([423, 'Gerade besetzt.', true, true], $found['translated']);
        // 2.1 hashes the whole token, the bundle before it what the token says of itself.
        same([
            'ixarlie' => 'ixarlie_mutex_' . md5("cart_{$found['token']['ixarlie']}"),
            'ixarlie2' => "cart{$found['token']['ixarlie2']}",
        ], $found['users']);
        same([409, 'Not now.', true, true], $found['plain']);
        same([], array_diff(['acquired', 'released'], array_column($found['log'], 0)));
        same(['here'], array_values(array_unique(array_column($found['log'], 1))));
    });
    $t->test('bundle::the panel of the profiler, and its timeline', static function () use ($site): void {
        $policy = ['name' => 'panel_{id}', 'mode' => 'block', 'ttl' => 30, 'label' => 'the first'];
        $first = $site->hold('panel', $policy, '/orders/17', ['X-Debug' => '1']);
        $refused = $site->ask($policy, '/orders/17')->answer();
        $site->go('panel');
        $shown = static function (Http $request, string $panel) use ($site): string {
            $token = $request->headers['x-debug-token'];
            // It is written when all is over.
            until(static function () use ($site, $token, $panel, &$page): bool {
                $page = $site->get("/_profiler/{$token}?panel={$panel}")->whole();

                return $page->status === 200 && !str_contains($page->body, 'Token not found');
            }, 60, 'the profile is there');

            // From its own title on; one blank between words, no tags.
            return trim((string) preg_replace('/\s+/', ' ', html_entity_decode(strip_tags((string) strstr($page->body, 'Mutexes of this request')))));
        };
        $panel = $shown($first->answer(), 'ixarlie_mutex');
        same(1, preg_match('/Holder panel_17 synlock\.main block ([\d.]+) ms ([\d.]+) ms 1 /', $panel, $times), $panel);
        ok((float) $times[2] > 0, 'it was held for a while');
        $panel = $shown($refused, 'ixarlie_mutex');
        same(1, preg_match('/Holder panel_17 synlock\.main block, refused ([\d.]+) ms 1 the first pid \d+/', $panel), $panel);
        $waits = $site->hold('panel2', [...$policy, 'name' => 'panel2']);
        $refused = $site->ask(['mode' => 'queue', 'name' => 'panel2', 'maxWait' => 0.05])->answer();
        $site->go('panel2');
        $waits->answer();
        $panel = $shown($refused, 'ixarlie_mutex');
        same(1, preg_match('/Holder panel2 synlock\.main queue, refused ([\d.]+) ms 1 the first/', $panel, $times), $panel);
        ok((float) $times[1] >= 50, $times[1]);
        $panel = $shown($site->ask([], do: 'profile')->answer(), 'ixarlie_mutex');
        ok(str_contains($panel, 'It was not guarded.'), $panel);
        $timeline = $site->get("/_profiler/{$first->headers['x-debug-token']}?panel=time")->whole()->body;
        // Escaped for a script.
        foreach (['mutex\u0020wait\u003A\u0020panel_17', 'mutex\u0020held\u003A\u0020panel_17'] as $event) {
            ok(str_contains($timeline, $event), $event);
        }
    });
    $t->test('bundle::annotations, and services by short and full names', static function () use ($site): void {
        $as = ['X-Annotations' => '1'];
        $one = $site->hold('a', ['name' => 'resource_{id}', 'mode' => 'block', 'ttl' => 30], '/orders/17', $as);
        same(true, $site->store->isLocked('resource_17'));
        foreach (['synlock.queued', 'ixarlie_mutex.synlock_factory.queued'] as $service) {
            $queue = ['name' => 'resource_{id}', 'mode' => 'queue', 'service' => $service, 'http' => ['code' => 409]];
            same(409, $site->ask($queue, '/orders/17', headers: $as)->answer()->status, 'after the service\'s patience');
        }
        same(200, $site->ask(['name' => 'resource_{id}', 'mode' => 'block', 'service' => 'flock.files'], '/orders/17', headers: $as)->answer()->status, 'another store');
        $both = [['name' => 'one_{id}', 'mode' => 'block'], ['name' => 'two_{id}', 'mode' => 'block']];
        foreach (['several' => '/orders/17', 'invoked' => '/invoked/17'] as $id => $path) {
            $two = $site->hold($id, $both, $path, $as);
            same([true, true], [$site->store->isLocked('one_17'), $site->store->isLocked('two_17')], $id);
            foreach ($both as $policy) {
                same(423, $site->ask($policy, $path, headers: $as)->answer()->status, $id);
            }
            $site->go($id);
            same([200, false, false], [$two->answer()->status, $site->store->isLocked('one_17'), $site->store->isLocked('two_17')], $id);
        }
        $site->go('a');
        same(200, $one->answer()->status);
    });
    $site->stop();
};
