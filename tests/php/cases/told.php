<?php

// What PHP is told: exceptions, warnings, a late release; and what PHP 8.1 is given to read.

declare(strict_types=1);

namespace Synlock\Tests;

use Synlock\Code;
use Synlock\Exception;
use Synlock\Internal\Native;
use Synlock\Store;

/**
 * The warnings that PHP raises while the body runs.
 *
 * @return list<string>
 */
function warnings(\Closure $body): array
{
    $heard = [];
    set_error_handler(static function (int $level, string $message) use (&$heard): bool {
        $heard[] = ($level === E_USER_WARNING ? '' : "level {$level}: ") . $message;

        return true;
    });
    try {
        $body();
    } finally {
        restore_error_handler();
    }

    return $heard;
}

/** A server that answers every request with the same bytes. */
function answering(string $temp, string $bytes): Process
{
    $code = '$s = stream_socket_server("unix://" . $argv[1]); echo "up\n"; while ($c = @stream_socket_accept($s, 30))'
        . ' { while (fread($c, 65536) !== "" && !feof($c)) { fwrite($c, stripcslashes($argv[2])); } }';
    $server = new Process([PHP_BINARY, '-r', $code, '--', "{$temp}/odd.sock", addcslashes($bytes, "\0..\37")]);
    $server->expect('up');

    return $server;
}

return static function (Runner $t, string $temp, string $package, string $redis): void {
    $urls = ['memory' => 'memory:', 'shm' => "shm:{$temp}/segment/locks", 'flock' => "flock:{$temp}/locks", 'redis' => $redis];
    $socket = substr($redis, strlen('redis+unix://'));
    $cli = static function (string ...$words) use ($socket): string {
        exec('redis-cli -s ' . implode(' ', array_map('escapeshellarg', [$socket, ...$words])) . ' 2>&1', $out);

        return implode("\n", $out);
    };

    foreach ($urls as $scheme => $url) {
        $t->test("warnings::{$scheme}: a loss that no call reports is an E_USER_WARNING", static function () use ($url): void {
            $store = Store::open($url);
            $lose = static function (string $name) use ($store): \Synlock\Lock {
                $lock = $store->createLock($name);
                same(true, $lock->acquire());
                same(true, $store->breakLock($name));

                return $lock;
            };
            same([], warnings(static function () use ($lose): void {
                $lock = $lose('reported');
                throws(Exception\LockLost::class, static fn () => $lock->release());
            }), 'an exception says it');
            $heard = warnings(static function () use ($lose): void {
                $lock = $lose('warned of');
                unset($lock);
            });
            same(1, count($heard), implode("\n", $heard));
            same(1, preg_match('/^synlock: lost "warned of" on \S+: the lock was lost/', $heard[0]), $heard[0]);
            $logged = [];
            $store->setLogger(static function (string $level, string $message, array $context) use (&$logged): void {
                $logged[] = "{$level} {$context['event']}";
            });
            same([], warnings(static function () use ($lose): void {
                $lock = $lose('logged');
                unset($lock);
            }), 'the logger hears it');
            ok(in_array('warning lost', $logged, true), implode(', ', $logged));
            $store->setLogger(null);
            same(1, count(warnings(static function () use ($lose): void {
                $lock = $lose('without a logger again');
                unset($lock);
            })));
        });

        $t->test("warnings::{$scheme}: an error handler that throws changes nothing", static function () use ($url): void {
            $store = Store::open($url);
            $lock = $store->createLock('thrown at');
            $lock->acquire();
            $store->breakLock('thrown at');
            ini_set('error_log', '/dev/null');
            set_error_handler(static fn () => throw new \ErrorException('as frameworks do'));
            try {
                unset($lock);
                same(true, $store->createLock('thrown at')->acquire());
            } finally {
                restore_error_handler();
                ini_restore('error_log');
            }
        });
    }

    foreach ($urls as $scheme => $url) {
        $t->test("events::{$scheme}: a logger hears where from, how long, and what was held at the end", static function () use ($package, $url, $temp): void {
            file_put_contents("{$temp}/logged.php", <<<'PHP'
                <?php require $argv[1] . '/autoload.php';
                $store = Synlock\Store::open($argv[2]);
                $store->setLogger(static function (string $level, string $message, array $context): void {
                    $asked = $context['attempts'] > 0 ? 'asked' : '-';
                    $waited = $context['event'] === 'refused' && $context['waited'] >= 0.05 ? 'waited' : '-';
                    $mine = $context['pid'] === getmypid() && $context['label'] === 'nightly' ? 'mine' : 'not mine';
                    echo "{$level} {$context['event']} {$mine} {$asked} {$waited} ", basename($context['caller']), "\n";
                });
                $lock = $store->createLock('logged', label: 'nightly');
                $lock->acquire();
                $store->createLock('logged', label: 'nightly')->acquire(true, 0.05);
                PHP);
            $script = new Process([PHP_BINARY, "{$temp}/logged.php", $package, $url]);
            same(0, $script->wait(), $script->output);
            same([
                'info acquired mine asked - logged.php:10',
                'debug waiting mine - - logged.php:11',
                'info refused mine asked waited logged.php:11',
                'notice forgotten mine - - ',
                'info released mine - - ',
            ], explode("\n", trim($script->output, "\n")));
        });
    }

    $t->test('warnings::a loss that the watchdog finds', static function () use ($redis, $cli): void {
        $store = Store::open($redis);
        $heard = warnings(static function () use ($store): void {
            $lock = $store->createLock('watched', 2.0, renew: true);
            same(true, $lock->acquire());
            same(true, $store->breakLock('watched'));
            until(static fn () => $lock->state() === \Synlock\State::Lost, 60, 'the watchdog finds it');
            unset($lock);
        });
        same(1, count($heard), implode("\n", $heard));
    });

    $t->test('warnings::at the end of a script they reach its error log', static function () use ($package, $redis, $cli): void {
        $code = 'require $argv[1] . "/autoload.php"; $s = Synlock\Store::open($argv[2]); $l = $s->createLock("at the end", 0.3, renew: true);'
            . ' $l->acquire(); $s->breakLock("at the end"); while ($l->state() !== Synlock\State::Lost) { usleep(5000); }';
        $script = new Process([PHP_BINARY, '-d', 'display_errors=1', '-r', $code, '--', $package, $redis]);
        same(0, $script->wait(), $script->output);
        ok(str_contains($script->output, 'Warning: synlock: lost "at the end" on redis'), $script->output);
    });

    $t->test('release::late, but still ours, is a release that says so', static function () use ($redis, $cli): void {
        $store = Store::open($redis);
        $lock = withinLease(2.0, static function (float $ttl) use ($store, $cli, &$keys, &$put): \Synlock\Lock {
            $lock = $store->createLock('late', $ttl);
            $lock->acquire();
            $keys = array_filter(explode("\n", $cli('--scan', '--pattern', '*:late')));
            // As if the server's clock went slower: a lease ends with its key.
            $put = $cli('PEXPIRE', (string) reset($keys), '600000');

            return $lock;
        });
        same([1, '1'], [count($keys), $put], implode("\n", $keys));
        same(false, $lock->wasLate());
        until(static fn (): bool => $lock->isExpired(), 300, 'the end of the lease');
        usleep(200_000); // what is kept of it for clocks that drift
        $lock->release();
        same(true, $lock->wasLate());
        same(true, $lock->acquire());
        $lock->release();
        same(false, $lock->wasLate());
    });

    $t->test('exceptions::every status has its class', static function (): void {
        ok(count(Code::TABLE) > 20, 'there is a table');
        $native = Native::current();
        foreach (Code::TABLE as $code => [$name, $class, $retriable]) {
            $error = $native->failure($code);
            same([$class, $code, $name, $retriable], [$error::class, $error->getCode(), $error->getStatus(), $error->isRetriable()]);
            ok($error instanceof Exception\SynlockException && $error instanceof \RuntimeException, $class);
            ok(constant(Code::class . "::{$name}") === $code, $name);
        }
        // One catch for all, and no class that no status has.
        $classes = array_map(static fn ($file) => 'Synlock\Exception\\' . basename($file, '.php'), glob(ROOT . '/bindings/php/src/Exception/*.php'));
        $thrown = [...array_column(Code::TABLE, 1), Exception\SynlockException::class, Exception\NotAvailable::class];
        sort($classes);
        $thrown = array_values(array_unique($thrown));
        sort($thrown);
        same($thrown, $classes);
    });

    $t->test('exceptions::of a server in trouble', static function () use ($temp): void {
        $password = new Redis("{$temp}/" . (mkdir("{$temp}/secret") ? 'secret' : ''), ['--requirepass', 'swordfish']);
        $error = throws(Exception\PermissionDenied::class, static fn () => Store::open($password->url)->createLock('x')->acquire());
        ok(!str_contains($error->getMessage(), 'swordfish'), 'no password is shown');
        $store = Store::open($password->url, ['password' => 'swordfish', 'io_timeout' => 1500]);
        $lock = $store->createLock('x', 60.0);
        same(true, $lock->acquire());
        $password->pause(true);
        $error = throws(Exception\Uncertain::class, static fn () => $lock->release());
        same(true, $error->isRetriable());
        $password->pause(false);
        until(static fn () => !Store::open($password->url, ['password' => 'swordfish'])->isLocked('x'), 60, 'the release arrives');
        $password->stop();

        $odd = answering($temp, "nonsense\r\n");
        throws(Exception\ProtocolError::class, static fn () => Store::open("redis+unix://{$temp}/odd.sock")->createLock('x')->acquire());
        $odd->signal(SIGKILL);
    });

    $t->test('exceptions::of a file system in trouble', static function () use ($temp, $package): void {
        file_put_contents("{$temp}/a file", '');
        $error = throws(Exception\SynlockException::class, static fn () => Store::open('flock:' . rawurlencode("{$temp}/a file"))->createLock('x')->acquire());
        ok(in_array($error::class, [Exception\StorageError::class, Exception\InvalidArgument::class, Exception\Unavailable::class, Exception\PermissionDenied::class], true), $error::class);
        $few = 'require $argv[1] . "/autoload.php"; $s = Synlock\Store::open("flock:" . $argv[2]); $s->createLock("x")->acquire();'
            . ' try { for ($i = 0; $i < 100; ++$i) { $keep[] = $l = $s->createLock("few $i"); $l->acquire(); } }'
            . ' catch (Synlock\Exception\Exhausted $error) { echo "exhausted\n"; $keep = []; echo $l->acquire() ? "works again\n" : "busy\n"; }';
        $script = new Process(['prlimit', '--nofile=40', PHP_BINARY, '-r', $few, '--', $package, "{$temp}/locks"]);
        $script->expect('exhausted');
        $script->expect('works again');
        same(0, $script->wait());
    });

    $t->test('syntax::the package is PHP 8.1', static function () use ($package): void {
        $wrong = [
            'readonly class A {}', 'final readonly class A {}', 'readonly final class A {}', 'trait T { const A = 1; }', 'interface I { function f(): null; }', 'function f(): null {}',
            'function f(): true { return true; }', 'function f(false $x) {}', 'class A { public true $x; }', 'fn (): false => false;',
            'class A { const string B = ""; }', 'function f((A&B)|null $x) {}', 'function f(null|(A&B) $x) {}', 'json_validate("");',
            'new Random\Randomizer();', '#[\Override] function f() {}', '$a = A::{$b};', 'class A { public private(set) string $x; }',
        ];
        foreach ($wrong as $code) {
            ok(Syntax81::check("<?php {$code}") !== [], "this is not 8.1: {$code}");
        }
        $right = 'final class A { private const B = null; public function __construct(public readonly ?int $x = new B(), private bool|null $y = null) {}'
            . ' function f(string|false $x): ?static { return $x === false ? null : $this->g(...); } function g(): never { exit; } } enum E: int { case A = 1; const B = self::A; }';
        same([], Syntax81::check("<?php {$right}"));
        $files = array_merge(glob(ROOT . '/bindings/php/{,*/,*/*/,src/Guard/*/}*.php', GLOB_BRACE), glob(ROOT . '/bindings/php/bin/*'));
        ok(count($files) > 35, 'all files');
        foreach ($files as $file) {
            same([], Syntax81::check((string) file_get_contents($file)), $file);
        }
    });

    $t->test('syntax::composer.json says what the package needs', static function (): void {
        $about = json_decode((string) file_get_contents(ROOT . '/bindings/php/composer.json'), true, 512, JSON_THROW_ON_ERROR);
        same(['php' => '>=8.1', 'ext-ffi' => '*'], $about['require']);
        foreach ($about['bin'] as $file) {
            ok(is_executable(ROOT . "/bindings/php/{$file}"), $file);
        }
        foreach (['description', 'license', 'keywords', 'suggest', 'autoload'] as $key) {
            ok(isset($about[$key]), $key);
        }
        exec('cd ' . escapeshellarg(ROOT . '/bindings/php') . ' && composer validate --strict --no-interaction 2>&1', $out, $status);
        same(0, $status, implode("\n", $out));
    });
};
