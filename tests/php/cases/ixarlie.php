<?php

// The samples of ixarlie's documentation and the guide for those who come from it: ixarlie/kernel.php runs them.

declare(strict_types=1);

namespace Synlock\Tests;

return static function (Runner $t, string $temp, string $package, string $redis): void {
    $samples = array_map(static fn (string $name): string => ROOT . "/tests/php/ixarlie/samples/{$name}.yaml", ['queue', 'service', 'listener']);
    $guide = (string) file_get_contents("{$package}/coming-from-ixarlie.md");
    preg_match_all('/^```yaml\n(.+?)^```$/ms', $guide, $yaml);
    $kernel = static function (string $name, array $configs) use ($temp, $package, $redis): array {
        is_dir($folder = "{$temp}/ixarlie-{$name}") || mkdir($folder);
        $script = ROOT . '/tests/php/ixarlie/kernel.php';
        $process = new Process([PHP_BINARY, '-d', 'error_reporting=-1', $script, $folder, substr($redis, strlen('redis+unix://')), ...$configs], [...getenv(), 'SYNLOCK_PACKAGE' => $package]);
        same([0, ''], [$process->wait(120), $process->output]);

        return json_decode((string) file_get_contents("{$folder}/found.json"), true, 16, JSON_THROW_ON_ERROR);
    };
    $config = static function (string $name, string $text) use ($temp): string {
        file_put_contents($file = "{$temp}/ixarlie-{$name}.yaml", $text);

        return $file;
    };
    $refused = [423, 'Resource is not available at this moment.'];
    $behave = static function (array $found) use ($refused): void {
        // Whether another one is refused or waits, and whether the other resource, or user, is another lock.
        foreach (['block' => true, 'resource' => true, 'check' => true, 'queue' => true, 'force' => true, 'queued' => true, 'queuedDefault' => true, 'fullName' => false, 'shortName' => false, 'noName' => false, 'user' => true] as $sample => $isOther) {
            $one = $found[$sample];
            $waits = str_starts_with($sample, 'queue');
            same([200, 'done'], $one['alone'], $sample);
            same($sample === 'check', $one['other gets in'], $sample);
            same(true, $one['free again'], $sample);
            same($waits || $sample === 'force' ? [200, 'done'] : $refused, $one['held'], $sample);
            same($isOther ? 200 : 423, $one['another'], $sample);
            same(!$waits && $sample !== 'force', $one['still theirs'], $sample);
        }
        same($found['fullName']['name'], $found['noName']['name']);
        same($found['shortName']['name'], $found['noName']['name']);
        same([200, 'paid 17'], $found['guide']);
        same(true, $found['factory']);
    };

    $t->test('ixarlie::its samples, beside the component on which it stood', static function () use ($kernel, $config, $samples, $yaml, $behave, $temp): void {
        mkdir("{$temp}/ixarlie-old/locks", recursive: true);
        $found = $kernel('old', [...$samples, $config('old', "{$yaml[1][1]}    flock: { files: { lock_dir: '{$temp}/ixarlie-old/locks' } }\n    semaphore: { main: ~ }\n")]);
        $behave($found);
        same(array_fill_keys(['flock.files', 'semaphore.main'], [true, false, true, false]), $found['beside']);
        $names = [
            'block' => 'Ixarlie_Samples__block__block_17', 'resource' => 'resource_17', 'noName' => 'foo',
            'queued' => 'Ixarlie_Samples__queued__queued_17',
        ];
        foreach ($names as $sample => $name) {
            same('ixarlie_mutex_' . md5($name), $found[$sample]['name'], $sample);
            ok($found[$sample]['ttl'] > 0 && $found[$sample]['ttl'] <= 300_000, 'the default TTL of its configuration');
        }
        ok(preg_match('/^ixarlie_mutex_[0-9a-f]{32}$/', $found['user']['name']) === 1, $found['user']['name']);
    });
    $t->test('ixarlie::its samples, with names of our own', static function () use ($kernel, $samples, $behave): void {
        $found = $kernel('native', $samples);
        $behave($found);
        same(['resource_17', 'foo'], [$found['resource']['name'], $found['noName']['name']]);
        ok(str_contains($found['nobody'][1], 'InvalidArgument'), 'who is not logged in: ' . $found['nobody'][1]);
    });
    $t->test('ixarlie::the guide', static function () use ($kernel, $config, $samples, $yaml, $guide, $package, $temp): void {
        // The third is of 2.1: symfony/with/factories.php.
        same([3, 1], [count($yaml[1]), preg_match_all('/^```php$/m', $guide)]);
        $found = $kernel('guide', [...$samples, $config('guide', str_replace('shm:app', "shm:{$temp}/ixarlie-guide/app", $yaml[1][0]))]);
        same([[200, 'paid 17'], true, -2], [$found['guide'], $found['factory'], $found['block']['ttl']]);
        // Every class that it names is there.
        preg_match_all('/`(Synlock\\\\[\w\\\\]+)`/', $guide, $named);
        foreach ($named[1] as $class) {
            $path = "{$package}/src/" . str_replace('\\', '/', substr($class, 8));
            ok(is_file("{$path}.php") || is_dir($path), $class);
        }
        ok(count($named[1]) >= 4, 'classes are named');
    });
};
