<?php

// The guide to PHP-FPM: its settings start one, and its code is what that serves.

declare(strict_types=1);

namespace Synlock\Tests;

use Synlock\Store;

return static function (Runner $t, string $temp, string $package, string $redis): void {
    $guide = (string) file_get_contents("{$package}/fpm.md");
    preg_match_all('/^```ini\n(.+?)^```$/ms', $guide, $inis);
    preg_match_all('#^```php\n// (\w+)\.php\n(.+?)^```$#ms', $guide, $code);
    $place = "{$temp}/fpm-guide";
    mkdir($place);
    foreach ($code[1] as $number => $name) {
        file_put_contents("{$place}/{$name}.php", "<?php\nrequire getenv('SYNLOCK_PACKAGE') . '/autoload.php';\n{$code[2][$number]}");
    }
    mkdir("{$place}/locks");
    foreach ([$place, "{$place}/locks"] as $folder) {
        chown($folder, 'www-data');
    }
    $printed = (string) shell_exec(PHP_BINARY . " {$package}/bin/synlock-check --ini --user=www-data 2>/dev/null");
    $settings = [
        "env[SYNLOCK_PACKAGE]" => $package,
        'env[LOCK_URL]' => $redis,
        'env[REPORT]' => "{$place}/report",
        'env[QUEUE]' => "{$place}/queue",
    ];
    $pool = parse_ini_string($inis[1][1] ?? '', false, INI_SCANNER_RAW);
    // Keys with brackets become arrays.
    $pool = array_filter($pool, is_string(...));
    unset($pool['listen']);
    $store = Store::open($redis);
    $children = [];

    $t->test('fpm guide::the ini file is the one that is printed', static function () use ($inis, $printed, $package): void {
        same($printed, str_replace('/srv/app/vendor/synlock/synlock', $package, $inis[1][0]));
        same("process_control_timeout = 60s\n", $inis[1][2]);
        same(1, preg_match('/^```ini\n(.+?)^```$/ms', (string) file_get_contents("{$package}/README.md"), $readme));
        same($inis[1][0], $readme[1], 'that of the README');
    });
    $t->test('fpm guide::each block is run', static function () use ($code, $guide): void {
        same(['invoice', 'report', 'import', 'worker', 'thumbnails'], $code[1]);
        same(5, preg_match_all('/^```php$/m', $guide));
    });
    $fpm = null;
    $t->test('fpm guide::the pool starts', static function () use (&$fpm, $temp, $printed, $pool, $settings): void {
        same(['static', '4', '500', '60s'], [$pool['pm'], $pool['pm.max_children'], $pool['pm.max_requests'], $pool['request_terminate_timeout']]);
        $fpm = new Fpm($temp, $printed, $settings + $pool);
        until(static fn (): bool => count($fpm->workers()) === 4, 60, 'its workers are there');
    });
    if ($fpm === null) {
        return;
    }
    $ask = static function (string $script, ?Fpm $of = null) use (&$fpm, $place): FastCgi {
        $request = ($of ?? $fpm)->request("{$place}/{$script}.php");
        $request->finish(60);

        return $request;
    };

    $t->test('fpm guide::a lock for one request', static function () use ($ask, $store): void {
        foreach (['alone', 'again'] as $time) {
            $request = $ask('invoice');
            same(['sent', ''], [trim($request->body), $request->errors], $time);
        }
        $lock = $store->createLock('invoice 42');
        $lock->acquire();
        $refused = $ask('invoice');
        same('busy', trim($refused->body));
        ok(str_contains($refused->headers(), 'Status: 503') && str_contains($refused->headers(), 'Retry-After: 5'), $refused->headers());
        $lock->release();
        same('sent', trim($ask('invoice')->body));
    });
    $t->test('fpm guide::work after the answer', static function () use ($ask, $store, $place): void {
        // The script goes on when it may open the pipe.
        posix_mkfifo("{$place}/report", 0o666);
        chmod("{$place}/report", 0o666);
        same('accepted', trim($ask('report')->body));
        same(true, $store->isLocked('report'));
        same('under way', trim($ask('report')->body));
        same("written\n", file_get_contents("{$place}/report"));
        until(static fn (): bool => !$store->isLocked('report'), 60, 'the script is over, and the lock is free');
        unlink("{$place}/report");
    });
    $t->test('fpm guide::a lock that outlives its request', static function () use ($ask, $store, $settings, $place): void {
        same('queued', trim($ask('import')->body));
        same('under way', trim($ask('import')->body));
        $environment = getenv();
        foreach ($settings as $name => $value) {
            $environment[substr($name, 4, -1)] = $value;
        }
        $work = static function () use ($environment, $place): Process {
            $worker = new Process([PHP_BINARY, "{$place}/worker.php"], $environment);
            $worker->wait(60);

            return $worker;
        };
        $worker = $work();
        same([0, 'importing'], [$worker->wait(), trim($worker->output)]);
        same(false, $store->isLocked('import'));
        $second = $work();
        ok($second->wait() !== 0 && str_contains($second->output, 'LockLost'), $second->output);
    });
    $t->test('fpm guide::connections outlive the request, and are made again', static function () use ($temp, $printed, $settings, $redis, $ask): void {
        $one = new Fpm($temp, $printed, $settings + ['pm.max_children' => '1']);
        $client = new \Redis();
        $client->connect(substr($redis, strlen('redis+unix://')));
        $of = static fn (): array => array_values(array_filter(
            $client->client('list'),
            static fn (array $each): bool => in_array((int) substr((string) $each['name'], strlen('synlock-')), $one->workers(), true),
        ));
        for ($i = 0; $i < 5; ++$i) {
            same('sent', trim($ask('invoice', $one)->body));
            $found[] = array_column($of(), 'id');
        }
        same([1, 1], [count($found[0]), count(array_unique(array_merge(...$found)))], 'one connection, and the same');
        same(true, $client->client('kill', $of()[0]['addr']));
        same('sent', trim($ask('invoice', $one)->body));
        same(1, count($of()));
        $one->stop();
    });
    $t->test('fpm guide::a program that a request started holds nothing', static function () use ($temp, $printed, $settings, $place, $ask): void {
        foreach (["flock:{$place}/locks", "shm:{$place}/locks/segment"] as $url) {
            $one = new Fpm($temp, $printed, ['env[LOCK_URL]' => $url] + $settings);
            foreach (['first', 'second'] as $time) {
                $child = (int) trim($ask('thumbnails', $one)->body);
                ok($child > 0 && posix_kill($child, 0), "{$url}: {$time}, its program lives");
                posix_kill($child, SIGKILL);
            }
            $one->stop();
        }
    });
    $t->test('fpm guide::a reload lets requests end, and holds with them', static function () use (&$fpm, $temp, $store, $redis): void {
        $go = "{$temp}/go-" . bin2hex(random_bytes(4));
        $hold = $fpm->request("{$temp}/scripts/hold.php", ['url' => $redis, 'name' => 'reloaded', 'end' => 'return'] + compact('go'));
        $holder = holder($hold);
        $others = array_diff($fpm->workers(), [$holder]);
        $fpm->reload();
        until(static fn (): bool => array_intersect($others, $fpm->workers()) === [], 60, 'the others have gone');
        same(true, $store->isLocked('reloaded'));
        touch($go);
        $hold->finish(60);
        until(static fn (): bool => !$store->isLocked('reloaded') && !in_array($holder, $fpm->workers(), true), 60, 'it is over');
        ok($fpm->isRunning(), 'the master lives');
    });
    $t->test('fpm guide::max_requests ends what auto-release exempted', static function () use ($temp, $printed, $settings, $place): void {
        $url = "shm:{$place}/locks/segment";
        $one = new Fpm($temp, $printed, ['env[LOCK_URL]' => $url, 'pm.max_requests' => '2', 'pm.max_children' => '1'] + $settings);
        touch($go = "{$temp}/go-" . bin2hex(random_bytes(4)));
        $query = ['name' => 'exempt', 'end' => 'return', 'options' => '{"autoRelease":false}'] + compact('url', 'go');
        $hold = static fn (): FastCgi => $one->request("{$temp}/scripts/hold.php", $query);
        $holder = holder($hold());
        // Its second request finds the lock that the first left, and is its last one.
        same('busy', trim($hold()->finish(60)));
        ok(holder($hold()) !== $holder, 'another worker has it');
        $one->stop();
    });
    $fpm->stop();
};
