<?php

// The library: where it is looked for, what is said when it cannot be used, and the programs.

declare(strict_types=1);

namespace Synlock\Tests;

/** Runs a program that opens a store, and returns what it prints. */
function opens(string $package, array $arguments, string $before = ''): string
{
    $code = "require '{$package}/autoload.php'; {$before} try { Synlock\\Store::open('memory:')->ping(); echo 'works'; }"
        . ' catch (Synlock\Exception\NotAvailable $error) { echo $error->getMessage(); }';
    $process = new Process([PHP_BINARY, ...$arguments, '-r', $code]);
    $process->wait();

    return $process->output;
}

return static function (Runner $t, string $temp, string $package, string $redis): void {
    $t->test('setup::the generated files are fresh', static function (): void {
        exec(PHP_BINARY . ' ' . escapeshellarg(ROOT . '/tests/php/generate') . ' --check 2>&1', $out, $status);
        same(0, $status, implode("\n", $out));
        same(
            file_get_contents(ROOT . '/include/synlock.ffi.h'),
            file_get_contents(ROOT . '/bindings/php/synlock.ffi.h'),
            'the header of the package',
        );
    });

    $t->test('setup::the library in the package folder', static function () use ($package): void {
        same('works', opens($package, []));
    });

    $t->test('setup::the library by constant and by ini', static function () use ($package, $temp): void {
        copy("{$package}/lib/libsynlock.so.0", "{$temp}/elsewhere.so");
        same('works', opens($package, [], "define('SYNLOCK_LIBRARY', '{$temp}/elsewhere.so');"));
        same('works', opens($package, ['-d', "synlock.library={$temp}/elsewhere.so"]));
        $text = opens($package, ['-d', 'synlock.library=/nowhere/libsynlock.so.0']);
        ok(str_contains($text, '/nowhere/libsynlock.so.0 (ini synlock.library): no such file'), $text);
        $text = opens($package, [], "define('SYNLOCK_LIBRARY', '/nowhere.so');");
        ok(str_contains($text, '/nowhere.so (constant SYNLOCK_LIBRARY)'), $text);
    });

    $t->test('setup::the library by the dynamic linker, and what is said without', static function () use ($package, $temp): void {
        exec('cp -R ' . escapeshellarg($package) . ' ' . escapeshellarg("{$temp}/bare") . " && rm -rf {$temp}/bare/lib");
        $text = opens("{$temp}/bare", []);
        foreach (["{$temp}/bare/lib/libsynlock.so.0", 'dynamic linker', 'synlock.library=', 'synlock-build'] as $part) {
            ok(str_contains($text, $part), $text);
        }
        ok(!preg_match('/libsynlock\.so(?!\.0)/', $text), 'never the -dev symlink');
        $process = new Process(
            [PHP_BINARY, '-r', "require '{$temp}/bare/autoload.php'; Synlock\\Store::open('memory:')->ping(); echo 'works';"],
            ['LD_LIBRARY_PATH' => "{$package}/lib"],
        );
        $process->wait();
        same('works', $process->output);
        $process = new Process(
            [PHP_BINARY, "{$temp}/bare/bin/synlock-check", '--ini', "--header={$temp}/bare/found.h"],
            ['LD_LIBRARY_PATH' => "{$package}/lib"],
        );
        same(0, $process->wait(), $process->output);
        $header = (string) file_get_contents("{$temp}/bare/found.h");
        ok(str_contains($header, "FFI_LIB \"{$package}/lib/libsynlock.so.0\""), 'FPM need not have this LD_LIBRARY_PATH');
    });

    $t->test('setup::ffi.enable=false is named', static function () use ($package): void {
        $text = opens($package, ['-d', 'ffi.enable=false']);
        ok(str_contains($text, 'ffi.enable') && str_contains($text, 'synlock-check --ini'), $text);
    });

    $t->test('setup::a PHP without FFI is told so', static function () use ($package): void {
        $text = opens($package, ['-n']);
        ok(str_contains($text, 'extension=ffi'), $text);
    });

    $t->test('setup::a library that is not synlock is refused', static function () use ($package): void {
        $other = trim((string) shell_exec("ldconfig -p | sed -n 's/.*libz\\.so\\.1 .*=> //p' | head -n 1"));
        ok(is_file($other), 'libz is there');
        $text = opens($package, ['-d', "synlock.library={$other}"]);
        ok(str_contains($text, $other), $text);
    });

    $t->test('setup::a library of another ABI is refused', static function () use ($package, $temp): void {
        $code = '';
        foreach (file(ROOT . '/include/symbols.txt') as $line) {
            if ($line[0] !== '#') {
                $name = strtok($line, " \n");
                $code .= "int {$name}(void) { return " . ($name === 'synlock_abi_version' ? 7 : 0) . "; }\n";
            }
        }
        file_put_contents("{$temp}/other.c", $code);
        exec("gcc -shared -fPIC -o {$temp}/other.so {$temp}/other.c 2>&1", $out, $status);
        same(0, $status, implode("\n", $out));
        $text = opens($package, ['-d', "synlock.library={$temp}/other.so"]);
        ok(str_contains($text, 'this synlock package speaks ABI 0 and the library that was found speaks ABI 7'), $text);
        ok(str_contains($text, "{$temp}/other.so"), $text);
    });

    $t->test('setup::synlock-check', static function () use ($package, $temp): void {
        $ini = "{$temp}/check.d";
        mkdir($ini);
        $check = static function () use ($package, $ini, &$status): string {
            exec("PHP_INI_SCAN_DIR=:{$ini} " . PHP_BINARY . " {$package}/bin/synlock-check 2>&1", $out, $status);

            return implode("\n", $out);
        };
        $text = $check();
        same(1, $status);
        ok(str_contains($text, 'NOT  opcache.preload=(not set)'), $text);
        exec(PHP_BINARY . " {$package}/bin/synlock-check --ini 2>/dev/null > {$ini}/99-synlock.ini");
        $text = $check();
        same(0, $status, $text);
        ok(!str_contains($text, 'NOT '), $text);
        ok(str_contains($text, 'ok   ffi.preload='), $text);
        exec(PHP_BINARY . " {$package}/bin/synlock-check --nonsense 2>&1", $out, $status);
        same(2, $status);
    });

    $t->test('setup::the examples of the README run', static function () use ($package, $temp): void {
        $found = preg_match_all('/^```php\n(.+?)^```$/ms', (string) file_get_contents(ROOT . '/bindings/php/README.md'), $examples);
        ok($found >= 4, 'there are examples');
        mkdir("{$temp}/segments", 0o700);
        foreach ($examples[1] as $example) {
            $example = str_replace('shm:app', "shm:{$temp}/segments/app", $example);
            file_put_contents("{$temp}/example.php", "<?php\nrequire '{$package}/autoload.php';\n{$example}\n");
            $process = new Process([PHP_BINARY, '-d', 'error_reporting=-1', "{$temp}/example.php"]);
            same(0, $process->wait(), $process->output . $example);
            ok(!str_contains($process->output, 'Warning'), $process->output);
        }
    });

    $t->test('setup::every php file is sound and small', static function (): void {
        $files = array_merge(
            glob(ROOT . '/bindings/php/{,*/,*/*/,*/*/*/}*.php', GLOB_BRACE),
            glob(ROOT . '/bindings/php/bin/*'),
            glob(ROOT . '/tests/php/{,*/}*.php', GLOB_BRACE),
        );
        foreach ($files as $file) {
            exec(PHP_BINARY . ' -l ' . escapeshellarg($file) . ' 2>&1', $out, $status);
            same(0, $status, implode("\n", $out));
        }
    });
};
