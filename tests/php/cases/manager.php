<?php

// The manager of semaphores, and Avtonom's bundle over it in Symfony's kernel.

declare(strict_types=1);

namespace Synlock\Tests;

use Synlock\Code;
use Synlock\Exception;
use Synlock\Runtime;
use Synlock\Semaphore\Exception\SemaphoreAcquireException;
use Synlock\Semaphore\Exception\SemaphoreException;
use Synlock\Semaphore\Exception\SemaphoreReleaseException;
use Synlock\Semaphore\SemaphoreManager;
use Synlock\Store;

enum Suit: string
{
    case Hearts = 'H/é';
    case Spades = 'S';
}

enum Rank: int
{
    case Ace = 1;
}

enum Plain
{
    case Case;
}

return static function (Runner $t, string $temp, string $package, string $redis): void {
    $fresh = static function (): Store {
        static $number = 0;

        return Store::open('memory:manager-' . ++$number);
    };
    $logger = static function (array &$lines): \Closure {
        return static function (string $level, string $message, array $context) use (&$lines): void {
            $lines[] = [$level, $message, $context];
        };
    };

    $t->test('manager::keys become the names of the vectors', static function (): void {
        $file = json_decode((string) file_get_contents(ROOT . '/tests/vectors/avtonom_key.json'), true, 512, JSON_THROW_ON_ERROR);
        $manager = new SemaphoreManager('memory:');
        $bytes = static fn (mixed $part): mixed => \is_array($part) && array_keys($part) === ['hex'] ? hex2bin($part['hex']) : $part;
        foreach ($file['rows'] as ['name' => $key, 'expect' => $expect]) {
            $key = \is_array($key) ? array_map($bytes, $key) : $key;
            same($expect['key'], $manager->getKey($key), (string) json_encode($key));
            same($expect['key'], SemaphoreManager::keyName($key, 'lock_'));
        }
        ok(count($file['rows']) >= 47, 'there are rows');
    });

    $t->test('manager::templates make the names of the vectors', static function (): void {
        $lines = file(ROOT . '/tests/vectors/templates.tsv', FILE_IGNORE_NEW_LINES);
        $lines = array_filter($lines, static fn (string $line): bool => $line[0] !== '#');
        ok(count($lines) >= 28, 'there are lines');
        foreach ($lines as $line) {
            [$template, $wanted] = $fields = explode("\t", $line);
            $values = [];
            foreach (array_slice($fields, 2) as $field) {
                [$name, $value] = explode('=', $field, 2);
                $values[$name] = $value;
            }
            if ($wanted === '!') {
                $error = throws(Exception\InvalidArgument::class, static fn () => SemaphoreManager::templateName($template, $values));
                ok(str_contains($error->getMessage(), 'no value'), $error->getMessage());
            } else {
                same($wanted, SemaphoreManager::templateName($template, $values), $line);
            }
        }
        $values = ['a' => 17, 'b' => PHP_INT_MIN, 'c' => "\xff\0", 7 => 'ü'];
        same("17--9223372036854775808-\xff\0-ü", SemaphoreManager::templateName('{a}-{b}-{c}-{7}', $values));
        foreach ([1.5, true, null, [], new \ArrayObject()] as $value) {
            $error = throws(Exception\InvalidArgument::class, static fn () => SemaphoreManager::templateName('{a}', ['a' => $value]));
            ok(str_contains($error->getMessage(), 'value of a'), $error->getMessage());
        }
    });

    $t->test('manager::names are those of the original for whatever numbers and text', static function (): void {
        $manager = new SemaphoreManager('memory:');
        mt_srand(7);
        for ($i = 0; $i < 2000; ++$i) {
            $double = unpack('d', pack('q', mt_rand() << 33 ^ mt_rand() << 8 ^ mt_rand()))[1];
            $rounded = round(mt_rand() / 10 ** mt_rand(0, 12), mt_rand(0, 9));
            $text = mb_convert_encoding(random_bytes(8), 'UTF-8', 'ISO-8859-1') . random_bytes(1);
            $key = ["k{$i}/", is_finite($double) ? $double : 0.5, $rounded, -$rounded, mt_rand(), $text, ['a"' => [$rounded], 5 => null]];
            $source = json_encode($key);
            same('lock_' . $key[0] . md5((string) $source), $manager->getKey($key), (string) $source);
        }
        $first = [1e15, 0.1 + 0.2, -1.5e-7, 123456789.125, 1e14, 12345678901234.5];
        foreach ($first as $number) {
            same('lock_' . $number . md5((string) json_encode([$number])), $manager->getKey([$number]));
        }
    });

    $t->test('manager::objects in a key are what json_encode() makes of them', static function (): void {
        $manager = new SemaphoreManager('memory:');
        $own = new class extends \DateTimeImmutable {
            public int $own = 5;
            protected int $hidden = 6;
        };
        $parent = new class {
            public int $shown = 1;
            public ?object $none = null;
            public int $unset;
            protected int $hidden = 2;
            private int $secret = 3;
        };
        $text = new class {
            public int $x = 1;

            public function __toString(): string
            {
                return 'text';
            }
        };
        $told = new class implements \JsonSerializable {
            public int $x = 1;
            public mixed $told = null;

            public function jsonSerialize(): mixed
            {
                return $this->told ?? $this;
            }

            public function __toString(): string
            {
                return 'text';
            }
        };
        $says = clone $told;
        $says->told = ['at' => new \DateTimeImmutable('2020-01-01 Europe/Berlin')];
        $parts = [
            new \DateTimeImmutable('2020-01-01 Europe/Berlin'), new \DateTime('2020-01-02 UTC'), $own, new \DateTimeZone('UTC'),
            new \DateInterval('P1D'), Suit::Hearts, Rank::Ace, $text, $told, $says, $parent, new \stdClass(),
            (object) ['5' => 1, '' => 2, 'list' => [1 => 2]], new \ArrayObject([1, 2]), new \ArrayObject(['a' => [Suit::Spades]]),
            new \ArrayIterator([3]), new \ArrayObject($parent), new \SplFixedArray(2), new \SplObjectStorage(), static fn () => 1,
        ];
        $names = [];
        foreach ($parts as $part) {
            foreach ([['k', $part], ['k', ['in' => [1, $part]]]] as $key) {
                $source = json_encode($key, JSON_THROW_ON_ERROR);
                same('lock_k' . md5($source), $names[] = $manager->getKey($key), $source);
            }
        }
        ok(count(array_unique($names)) >= 32, 'they differ');
        $first = clone $told;
        $first->told = 'text';
        same('lock_text' . md5('["text",1]'), $manager->getKey([$first, 1]), 'first of all');
        foreach ([['k', Plain::Case], [$text, 1], [$told, 1]] as $bad) {
            throws(Exception\InvalidArgument::class, static fn () => $manager->getKey($bad));
        }
    });

    $t->test('manager::an object is named as Symfony\'s ACL names it', static function (): void {
        $manager = new SemaphoreManager('memory:');
        $entity = new class {
            public function getId(): int
            {
                return 5;
            }
        };
        same('lock_ObjectIdentity(5, ' . $entity::class . ')', $manager->getKey($entity));
        foreach ([new \stdClass(), 5, null, [], [[1]], ['a' => 1], ['k', NAN], ['k', fopen('php://memory', 'r')]] as $bad) {
            throws(Exception\InvalidArgument::class, static fn () => $manager->getKey($bad));
        }
    });

    $t->test('manager::acquire, ask again, release, and a line in the log for each', static function () use ($fresh, $logger): void {
        $store = $fresh();
        $lines = [];
        $manager = new SemaphoreManager($store, logger: $logger($lines));
        $name = 'lock_M_K_378261a619eba75d288b4929dc312ddf';
        same($name, $manager->acquire(['M_K_', 1], 'A::first', 10));
        same(true, $store->isLocked($name));
        same(true, $manager->isAcquired(['M_K_', 1]));
        $error = throws(SemaphoreAcquireException::class, static fn () => $manager->acquire(['M_K_', 1], 'B::second'));
        same(Code::REENTERED, $error->getCode());
        ok(str_starts_with($error->getMessage(), "Retrying to acquire key-lock: ({$name}) [\"M_K_\",1]: "), $error->getMessage());
        ok($error->getPrevious() instanceof Exception\Reentered, 'the cause is there');
        $manager->refresh(['M_K_', 1], 90);
        $manager->release(['M_K_', 1], 'A::first');
        $error = throws(SemaphoreReleaseException::class, static fn () => $manager->release(['M_K_', 1], 'A::late'));
        ok(str_starts_with($error->getMessage(), 'Retrying to release key-lock: '), $error->getMessage());
        same(['debug', 'error', 'debug', 'debug', 'error'], array_column($lines, 0));
        $pid = getmypid();
        ok(str_starts_with($lines[0][1], "[{$pid}] A::first->acquire: acquired (ttl 10 s). Key: {$name} [\"M_K_\",1] (store memory:"), $lines[0][1]);
        ok(str_starts_with($lines[1][1], "[{$pid}] B::second->acquire: "), $lines[1][1]);
        ok(str_starts_with($lines[4][1], "[{$pid}] A::late->release: "), $lines[4][1]);
        $manager->acquire('unnamed');
        same(__FILE__ . ':' . (__LINE__ - 1), end($lines)[2]['caller']);
        $manager->release('unnamed');
        same(['A::first', '["M_K_",1]', $name, 1], [$lines[0][2]['caller'], $lines[0][2]['key'], $lines[0][2]['resource'], $lines[0][2]['attempts']]);
    });

    $t->test('manager::what another holds is waited for, and left alone', static function () use ($fresh): void {
        $store = $fresh();
        $manager = new SemaphoreManager($store, tryCount: 2, sleepTime: 10000);
        $other = $store->createLock('lock_k');
        same(true, $other->acquire());
        $error = throws(SemaphoreAcquireException::class, static fn () => $manager->acquire('k'));
        ok(str_starts_with($error->getMessage(), 'Key lock time expired: (lock_k) "k": '), $error->getMessage());
        same(true, $other->isAcquired());
        $other->release();
        $manager->acquire('k');
        same(true, $store->breakLock('lock_k'));
        same(true, $other->acquire());
        $error = throws(SemaphoreReleaseException::class, static fn () => $manager->release('k'));
        ok(str_starts_with($error->getMessage(), 'Trying to release a non existent key: '), $error->getMessage());
        same(true, $other->isAcquired());
    });

    $t->test('manager::the original\'s loop excludes us, and is excluded', static function () use ($redis): void {
        $client = new \Redis();
        $client->connect(substr($redis, strlen('redis+unix://')));
        // SETNX, EXPIRE, and GET before DEL; the value is the number of the process.
        $acquire = static function (string $key, int $ttl, int $tries = 1) use ($client): bool {
            for ($try = 0; $try < $tries; ++$try) {
                if ($client->setnx($key, (string) getmypid())) {
                    $client->expire($key, $ttl);

                    return true;
                }
                usleep(50_000);
            }

            return false;
        };
        $release = static function (string $key) use ($client): bool {
            return $client->get($key) === (string) getmypid() && $client->del($key) === 1;
        };
        $store = Store::open("{$redis}?dialect=plain");
        [$manager, $patient] = [new SemaphoreManager($store, tryCount: 1, sleepTime: 0), new SemaphoreManager($store)];
        $key = $manager->getKey(['original_', 1]);
        same(true, $acquire($key, 600));
        $error = throws(SemaphoreAcquireException::class, static fn () => $manager->acquire(['original_', 1]));
        ok(str_starts_with($error->getMessage(), 'Key lock time expired: '), $error->getMessage());
        throws(SemaphoreReleaseException::class, static fn () => $manager->release(['original_', 1]));
        same(true, $release($key), 'it is as it was');
        $manager->acquire(['original_', 1], ttl: 600);
        same([false, false], [$acquire($key, 600, 3), $release($key)]);
        ok($manager->isAcquired(['original_', 1]) && $client->ttl($key) > 60, 'and so is ours');
        $manager->release(['original_', 1]);
        same(true, $acquire($key, 1), 'free again');
        $patient->acquire(['original_', 1], ttl: 1);
        same(true, $acquire($key, 600, 1000), 'what has died is taken over, by either');
        throws(SemaphoreReleaseException::class, static fn () => $patient->release(['original_', 1]));
        same(true, $release($key));
    });

    $stores = [
        'memory' => 'memory:died',
        'shm' => "shm:{$temp}/died/locks",
        'sqlite' => "sqlite:{$temp}/died/locks.db?io_timeout=10000",
        'redis' => "{$redis}?prefix=died:",
        'redis-plain' => "{$redis}?prefix=died:&dialect=plain",
    ];
    foreach ($stores as $kind => $url) {
        $t->test("manager::{$kind}: a key that died of its TTL is told of, with who had acquired it", static function () use ($url, $logger, $temp): void {
            @mkdir("{$temp}/died", 0o700);
            $store = Store::open($url);
            $lines = [];
            $manager = new SemaphoreManager($store, logger: $logger($lines));
            $manager->acquire('k', 'Job::dies', 1);
            // PHP hears of it with the manager's next call, be that about another key.
            until(static function () use ($manager, &$lines): bool {
                $manager->isAcquired('another');

                return count($lines) > 1;
            }, 60, 'it is told');
            same(['warning', 'lost', 'Job::dies'], [$lines[1][0], $lines[1][2]['event'], $lines[1][2]['caller']]);
            ok(str_contains($lines[1][1], 'Job::dies->hold: ') && str_contains($lines[1][1], 'Key: lock_k "k"'), $lines[1][1]);
            until(static fn (): bool => !$store->isLocked('lock_k'), 60, 'it is free');
            throws(SemaphoreReleaseException::class, static fn () => $manager->release('k', 'Job::late'));
        });
    }

    $t->test('manager::a repetition extends where that was chosen', static function () use ($fresh, $logger): void {
        $store = $fresh();
        $lines = [];
        $manager = new SemaphoreManager($store, isExceptionRepeatBlockKey: false, logger: $logger($lines));
        $manager->acquire('k', 'a', 5);
        $manager->acquire('k', 'b', 50);
        ok(in_array('warning', array_column($lines, 0), true), 'a warning is logged');
        ok($store->inspect('lock_k')->holders[0]->remaining > 20, 'the lease is longer');
        $manager->release('k');
        same(false, $store->isLocked('lock_k'));
    });

    $t->test('manager::a signal handler that throws leaves nothing behind', static function () use ($fresh): void {
        $store = $fresh();
        $manager = new SemaphoreManager($store);
        $other = $store->createLock('lock_k');
        same(true, $other->acquire());
        $before = pcntl_signal_get_handler(SIGALRM);
        pcntl_async_signals(true);
        pcntl_signal(SIGALRM, static fn () => throw new \DomainException('alarm'));
        pcntl_alarm(1);
        throws(\DomainException::class, static fn () => $manager->acquire('k'));
        pcntl_signal(SIGALRM, $before);
        same(0, $store->inspect('lock_k')->waiters);
        $other->release();
        $manager->acquire('k');
        $manager->release('k');
    });

    $t->test('manager::a signal handler that throws while a repetition extends leaves the hold', static function () use ($temp): void {
        mkdir("{$temp}/extends");
        $server = new Redis("{$temp}/extends");
        $manager = new SemaphoreManager("{$server->url}?io_timeout=60000", isExceptionRepeatBlockKey: false);
        $other = Store::open($server->url)->createLock('lock_k');
        $interrupted = static fn () => $server->interrupt(static fn () => $manager->acquire('k'));
        $manager->acquire('k');
        $interrupted();
        same([true, false], [$manager->isAcquired('k'), $other->acquire()], 'held as before');
        $manager->release('k');
        $interrupted();
        same([false, true], [$manager->isAcquired('k'), $other->acquire()], 'what is new is given back');
        $server->stop();
    });

    $t->test('manager::what is forgotten is logged and released, and the manager lives on', static function () use ($logger, $temp): void {
        $store = Store::open("flock:{$temp}/manager");
        $lines = [];
        $manager = new SemaphoreManager($store, logger: $logger($lines));
        $manager->acquire(['job_', 7], 'Job::run');
        Runtime::endRequest();
        same(['debug', 'error', 'debug'], array_column($lines, 0));
        ok(str_contains($lines[1][1], '] Job::run->end: ') && str_contains($lines[1][1], '["job_",7]'), $lines[1][1]);
        $lines = [];
        $manager->acquire(['job_', 7], 'Job::run');
        unset($manager);
        same(['debug', 'error', 'debug'], array_column($lines, 0));
        same([], iterator_to_array($store->list()));
    });

    $t->test('manager::a forked child holds nothing and takes nothing away', static function () use ($temp): void {
        $store = Store::open("flock:{$temp}/manager-fork");
        $manager = new SemaphoreManager($store, tryCount: 1, sleepTime: 0);
        $manager->acquire('k');
        $child = pcntl_fork();
        if ($child === 0) {
            $code = 0;
            try {
                throws(SemaphoreReleaseException::class, static fn () => $manager->release('k'));
                throws(SemaphoreAcquireException::class, static fn () => $manager->acquire('k'));
                $manager->acquire('other');
                $manager->release('other');
            } catch (\Throwable $error) {
                fwrite(STDERR, $error->getMessage() . "\n");
                $code = 1;
            }
            unset($manager);
            posix_kill(posix_getpid(), $code === 0 ? SIGKILL : SIGABRT);
        }
        pcntl_waitpid($child, $status);
        same(SIGKILL, pcntl_wtermsig($status), 'the child was content');
        same(true, $manager->isAcquired('k'));
        $manager->release('k');
    });

    $t->test('manager::demo', static function () use ($fresh, $logger): void {
        $store = $fresh();
        $lines = [];
        $manager = new SemaphoreManager($store, logger: $logger($lines), mode: 'demo');
        $manager->acquire('k');
        $manager->acquire('k');
        same(false, $store->isLocked('lock_k'));
        $manager->release('k');
        same(['debug', 'debug', 'debug'], array_column($lines, 0));
        throws(SemaphoreException::class, static fn () => new SemaphoreManager($store, mode: 'dmeo'));
        throws(Exception\InvalidArgument::class, static fn () => new SemaphoreManager($store, tryCount: 0));
    });

    $t->test('manager::numbers for Prometheus', static function () use ($fresh): void {
        $store = $fresh();
        $store->measure();
        $manager = new SemaphoreManager($store);
        $manager->measure();
        $manager->acquire('k');
        throws(SemaphoreAcquireException::class, static fn () => $manager->acquire('k'));
        $manager->release('k');
        $store->createLock('x')->acquire();
        $text = Runtime::metrics();
        $label = "store=\"{$store->url()}\"";
        foreach (["acquires_total{{$label},outcome=\"granted\"} 2", "acquires_total{{$label},outcome=\"reentered\"} 1", "forgotten_total{{$label}} 1"] as $line) {
            ok(str_contains($text, "synlock_{$line}\n"), "{$line} in {$text}");
        }
    });

    // The kernel runs in a process of its own, for its classes and its end.
    $kernel = static function (string $folder, string $config) use ($package, $redis): array {
        $script = ROOT . '/tests/php/semaphore/kernel.php';
        mkdir($folder);
        $socket = substr($redis, strlen('redis+unix://'));
        $process = new Process([PHP_BINARY, '-d', 'error_reporting=-1', $script, $folder, $config, $socket], ['SYNLOCK_PACKAGE' => $package]);
        same(0, $process->wait(120), $process->output);
        $logs = glob("{$folder}/var/log/dev.semaphore*.log");
        same(1, count($logs), 'one log');

        return [json_decode((string) file_get_contents("{$folder}/found.json"), true), (string) file_get_contents($logs[0])];
    };

    $t->test('manager::the samples of Avtonom\'s documentation run in Symfony\'s kernel', static function () use ($kernel, $temp): void {
        [$found, $log] = $kernel("{$temp}/kernel", ROOT . '/tests/php/semaphore/config.yaml');
        same(SemaphoreManager::class, $found['class']);
        same('Application\Avtonom\SemaphoreBundle\SemaphoreKeyStorage', $found['storage']);
        same([
            'adapter' => 'avtonom_semaphore.adapter.redis',
            'mode' => null,
            'try_count' => 240,
            'sleep_time' => 500000,
            'max_lock_time' => 60,
            'prefix' => 'lock_',
            'use_extended_methods' => true,
            'is_exception_repeat_block_key' => true,
        ], $found['parameters']);
        same([true, true, []], [$found['name'], $found['old code is refused'], $found['left']]);
        ok($found['ttl'] > 0 && $found['ttl'] <= 10000, "ttl {$found['ttl']}");
        ok(str_starts_with($found['again'], 'Retrying to acquire key-lock: '), $found['again']);
        ok(str_contains($log, 'semaphore.DEBUG: ['), $log);
        ok(str_contains($log, 'Application\Avtonom\SemaphoreBundle\Sample::run->acquire: acquired (ttl 10 s).'), $log);
        ok(str_contains($log, '] again->acquire: this process holds the key already'), $log);
        ok(preg_match('/semaphore\.ERROR: .*Sample::forgets->end: .*lock_forgotten/', $log) === 1, $log);
    });

    $t->test('manager::the bundle takes a URL, a store, demo and other parameters', static function () use ($kernel, $temp): void {
        file_put_contents("{$temp}/url.yaml", <<<YAML
            avtonom_semaphore:
                adapter: 'shm:{$temp}/kernel-segment/locks'
                mode: demo
                key_storage_class: Application\\Avtonom\\SemaphoreBundle\\SemaphoreKeyStorage
            parameters:
                avtonom_semaphore.try_count: 3
            YAML);
        [$found] = $kernel("{$temp}/kernel-url", "{$temp}/url.yaml");
        same(['shm:' . "{$temp}/kernel-segment/locks", 'demo', 3], [$found['parameters']['adapter'], $found['parameters']['mode'], $found['parameters']['try_count']]);
        same('acquired', $found['again'], 'a demo refuses nothing');
        file_put_contents("{$temp}/store.yaml", str_replace(["'shm:{$temp}/kernel-segment/locks'", 'demo'], ['spare', '~'], (string) file_get_contents("{$temp}/url.yaml")));
        [$found, $log] = $kernel("{$temp}/kernel-store", "{$temp}/store.yaml");
        ok(str_contains($log, '(store memory:spare,'), $log);
    });

    $t->test('manager::each adapter of the original, a manager of one\'s own, the timeline', static function () use ($temp, $redis): void {
        $memcached = memcached($temp);
        $script = "{$temp}/scripts/adapters.php";
        $process = new Process([PHP_BINARY, '-d', 'error_reporting=-1', $script, "{$temp}/adapters", substr($redis, strlen('redis+unix://')), "{$temp}/memcached.sock"]);
        same(0, $process->wait(60), $process->output);
        $memcached->signal(SIGTERM);
        $memcached->wait();
        $found = json_decode($process->output, true, 8, JSON_THROW_ON_ERROR);
        foreach (['avtonom_semaphore.adapter.redis', 'millwright_semaphore.adapter.redis', 'millwright_semaphore.adapter.memcached', 'millwright_semaphore.adapter.sem', 'millwright_semaphore.adapter.apc', 'millwright_semaphore.adapter.flock'] as $adapter) {
            same([true, false, true], $found[$adapter], $adapter);
        }
        same(true, $found['prefix'], 'the prefix of the client');
        same([true, false, ['site:lock_p'], true, []], $found['predis'], 'type: predis');
        // There is no Monolog in that script.
        $log = (string) file_get_contents("{$temp}/adapters/test.semaphore.log");
        $line = static fn (string $level, string $words): string => "/^\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d\] semaphore\.{$level}: \[\d+\] script->{$words}\\. Key: lock_p \"p\" \(store redis:.*\)$/m";
        foreach ([['DEBUG', 'acquire: acquired \(ttl 10 s\)'], ['DEBUG', 'release: released']] as [$level, $words]) {
            same(2, preg_match_all($line($level, $words), $log), "{$level} {$words} in {$log}");
        }
        same(1, preg_match($line('ERROR', 'acquire: this process holds the key already, through another manager'), $log), $log);
        ok(preg_match('/\.(?!000)\d{3}[+-]/', $log) === 1 && !str_contains($log, "\n\n"), "to the millisecond: {$log}");
        same(['OwnManager', 'own_lock_x', null], $found['own']);
        same([
            'semaphore wait: lock_x' => ['synlock', 2],
            'semaphore held: lock_x' => ['synlock', 1],
            'semaphore wait: lock_kept' => ['synlock', 1],
            // It goes on.
            'semaphore held: lock_kept' => ['synlock', 0],
        ], array_diff_key($found['timeline'], ['__section__' => 1]));
    });

    $t->test('manager::the guide for those who come from Avtonom', static function () use ($kernel, $temp, $package): void {
        $guide = (string) file_get_contents("{$package}/coming-from-avtonom.md");
        same(1, preg_match_all('/^```yaml\n(.+?)^```$/ms', $guide, $settings));
        same(1, preg_match_all('/^```php\n(.+?)^```$/ms', $guide, $examples));
        @mkdir("{$temp}/guide", 0o700);
        file_put_contents("{$temp}/guide.yaml", str_replace('shm:app', "shm:{$temp}/guide/app", $settings[1][0]));
        [$found, $log] = $kernel("{$temp}/kernel-guide", "{$temp}/guide.yaml");
        same([20, true], [$found['parameters']['try_count'], $found['name']]);
        ok(str_starts_with($found['again'], 'Retrying to acquire key-lock: '), $found['again']);
        ok(str_contains($log, "(store shm:{$temp}/guide/app"), $log);
        file_put_contents("{$temp}/guide.php", "<?php\nrequire '{$package}/autoload.php';\n" . str_replace('shm:app', "shm:{$temp}/guide/app", $examples[1][0]));
        $process = new Process([PHP_BINARY, '-d', 'error_reporting=-1', "{$temp}/guide.php"]);
        same([0, ''], [$process->wait(), $process->output]);
        // Every class that it names is there.
        preg_match_all('/`(Synlock\\\\[\w\\\\]+)`/', $guide, $named);
        foreach ($named[1] as $class) {
            $path = "{$package}/src/" . str_replace('\\', '/', substr($class, 8));
            ok(is_file("{$path}.php") || is_dir($path), $class);
        }
        ok(count($named[1]) >= 4, 'classes are named');
    });
};
