<?php

// SynlockSemaphoreStore in Symfony's Semaphore component, Debian's.

declare(strict_types=1);

namespace Synlock\Tests;

use Symfony\Component\Semaphore\Exception\SemaphoreExpiredException;
use Symfony\Component\Semaphore\Key;
use Symfony\Component\Semaphore\SemaphoreFactory;
use Synlock\Store;
use Synlock\Symfony\SynlockSemaphoreStore;

return static function (Runner $t, Setup $setup): void {
    require_once 'Symfony/Component/Semaphore/autoload.php';
    $t->test('semaphore::its key ends with the lease, however slow the store was', static function (): void {
        $slow = new class () implements \Synlock\CustomStore {
            public bool $survivesRestart = true;
            public bool $permits = true;

            public function attempt(\Synlock\Ask $ask): bool
            {
                sleep(2);

                return true;
            }

            public function extend(\Synlock\Ask $ask): bool
            {
                sleep(2);

                return true;
            }

            public function release(\Synlock\Ask $ask): bool
            {
                return true;
            }

            public function isHeld(\Synlock\Ask $ask): bool
            {
                return true;
            }
        };
        $semaphore = (new SemaphoreFactory(new SynlockSemaphoreStore(Store::custom($slow))))->createSemaphore('slow', 2, 1, 100);
        same(true, $semaphore->acquire());
        $left = $semaphore->getRemainingLifetime();
        ok($left > 0 && $left < 98.1, "{$left} s are left");
        $semaphore->refresh(200);
        $left = $semaphore->getRemainingLifetime();
        ok($left > 0 && $left < 198.1, "{$left} s are left after a refresh");
    });
    foreach ($setup->urls() as $name => $url) {
        $can = Store::open($url)->capabilities();
        if (!$can->permits) {
            $t->test("semaphore {$name}::says that it has no permits", static function () use ($url): void {
                $semaphore = (new SemaphoreFactory(new SynlockSemaphoreStore($url)))->createSemaphore('none', 2);
                throws(\Symfony\Component\Semaphore\Exception\RuntimeException::class, static fn () => $semaphore->acquire());
            });
            continue;
        }
        $t->test("semaphore {$name}::so many and no more", static function () use ($url, $can): void {
            $factory = new SemaphoreFactory(new SynlockSemaphoreStore($url));
            $make = static fn (int $weight = 1) => $factory->createSemaphore('places', 3, $weight, 30);
            [$a, $b, $c, $d] = [$make(2), $make(), $make(), $make(3)];
            same([true, true, false, false], [$a->acquire(), $b->acquire(), $c->acquire(), $d->acquire()]);
            same([true, true, false], [$a->isAcquired(), $b->isAcquired(), $c->isAcquired()]);
            same(true, $a->acquire(), 'again');
            $a->refresh(60);
            ok($a->getRemainingLifetime() > 50, 'its lifetime');
            if ($can->ttl) {
                $left = max(array_map(static fn ($holder): float => $holder->remaining, Store::open($url)->inspect('places')->holders));
                ok($left > 50 && $left <= 60, "the store's: {$left}");
            }
            $a->release();
            same([true, false], [$c->acquire(), $d->acquire()]);
            unset($b, $c);
            same(true, $d->acquire(), 'what is destroyed is released');
            $d->release();
            $d->release();
            $lock = Store::open($url)->createLock('places');
            same([true, false], [$lock->acquire(), $a->acquire()]);
            $lock->release();
            same([true, false], [$a->acquire(), $lock->acquire()]);
            $a->release();
        });
    }

    $t->test('semaphore::the guide says which stores have permits', static function () use ($setup): void {
        preg_match('/^\| URL \| permits \|\n(?:\|.+\n)+/m', (string) file_get_contents("{$setup->package}/symfony.md"), $table);
        $can = array_map(static fn (string $url) => Store::open($url)->capabilities(), $setup->urls());
        // As the three rows have it.
        $rows = [static fn ($can): bool => $can->permits && $can->ttl, static fn ($can): bool => $can->permits && !$can->ttl, static fn ($can): bool => !$can->permits];
        $lines = array_slice(explode("\n", trim($table[0])), 2);
        same(count($rows), count($lines));
        foreach ($rows as $number => $belongs) {
            preg_match_all('/`([a-z+]+):`/', $lines[$number], $named);
            $expected = array_keys(array_filter($can, $belongs));
            same([], array_merge(array_diff($expected, $named[1]), array_diff($named[1], $expected)), $lines[$number]);
        }
        same(false, Store::open('sysv:?dialect=symfony&keys=md5')->capabilities()->permits);
        $at = static fn (string $name): string => strtok($setup->urls()[$name], '?');
        $dialects = ['redis' => ['plain', 'symfony'], 'zookeeper' => ['kazoo', 'curator', 'symfony']]
            + array_fill_keys(['sqlite', 'postgres', 'mysql'], ['symfony', 'drupal', 'laravel']);
        foreach ($dialects as $name => $words) {
            foreach ($words as $word) {
                same(false, Store::open("{$at($name)}?dialect={$word}")->capabilities()->permits, "{$name}, {$word}");
            }
        }
    });

    $t->test('semaphore::one that is lost, and one that ends with its TTL', static function () use ($setup): void {
        $factory = new SemaphoreFactory(new SynlockSemaphoreStore($url = $setup->urls()['redis']));
        $semaphore = $factory->createSemaphore('lost', 2, 2, 30);
        $semaphore->acquire();
        Store::open($url)->breakLock('lost');
        throws(SemaphoreExpiredException::class, static fn () => $semaphore->refresh());
        same(false, $semaphore->isAcquired());
        $semaphore->release();
        $short = $factory->createSemaphoreFromKey(new Key('lost', 2, 2), 0.3);
        same(true, $short->acquire());
        until(static fn (): bool => !$short->isAcquired(), 30, 'it ends');
        until(static fn (): bool => $factory->createSemaphore('lost', 2)->acquire(), 30, 'its permits are free');
    });

    $t->test('semaphore::one whose last TTL is over is taken anew, although its lease lasts', static function () use ($setup): void {
        foreach (['redis', 'shm'] as $name) {
            $semaphore = (new SemaphoreFactory(new SynlockSemaphoreStore($setup->urls()[$name])))->createSemaphore('short permits', 2, 2, 30);
            $semaphore->acquire();
            $semaphore->refresh(600);
            $semaphore->refresh(0.1);
            until(static fn (): bool => $semaphore->isExpired(), 30, 'it ends');
            same([true, true], [$semaphore->acquire(), $semaphore->isAcquired()], $name);
            $semaphore->release();
        }
    });

    $t->test('semaphore::a process that dies leaves nothing on a store that sees it', static function () use ($setup): void {
        $url = $setup->urls()['shm'];
        $process = $setup->process(
            'require_once "Symfony/Component/Semaphore/autoload.php"; $s = (new \Symfony\Component\Semaphore\SemaphoreFactory(new \Synlock\Symfony\SynlockSemaphoreStore($arguments[0])))'
            . '->createSemaphore("dies", 2, 2, 60); $s->acquire(); echo "held\n"; sleep(60);',
            [$url],
        );
        $process->expect('held');
        $semaphore = (new SemaphoreFactory(new SynlockSemaphoreStore($url)))->createSemaphore('dies', 2, 1, 60);
        same(false, $semaphore->acquire());
        $process->signal(SIGKILL);
        $process->wait();
        until(static fn (): bool => $semaphore->acquire(), 30, 'its permits are free');
    });
};
