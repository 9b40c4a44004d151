<?php

// Several locks at once: all or none.

declare(strict_types=1);

namespace Synlock\Tests;

use Synlock\Exception\AlreadyHeld;
use Synlock\Exception\InvalidArgument;
use Synlock\Exception\NotHeld;
use Synlock\LockSet;
use Synlock\Runtime;
use Synlock\State;
use Synlock\Store;

return static function (Runner $t, string $temp, string $package, string $redis): void {
    $urls = ['memory' => 'memory:', 'shm' => "shm:{$temp}/sets/locks", 'flock' => "flock:{$temp}/sets-locks", 'redis' => $redis];
    @mkdir("{$temp}/sets", 0700);
    foreach ($urls as $kind => $url) {
        $make = static fn (Store $store, string $stem): array => array_map(static fn (string $letter) => $store->createLock("{$stem}/{$letter}"), ['c', 'a', 'b']);
        $held = static fn (array $locks): array => array_map(static fn ($lock): bool => $lock->state() === State::Held, $locks);

        $t->test("set::{$kind}: it is taken whole and given back whole", static function () use ($url, $make, $held): void {
            $store = Store::open($url);
            [$mine, $theirs] = [$make($store, 'whole'), $make($store, 'whole')];
            $set = new LockSet(...$mine);
            same(null, $set->lastAcquired());
            same(true, $set->acquire());
            same([[true, true, true], true, false], [$held($mine), $set->isAcquired(), $set->lastAcquired()->contended]);
            $set->ensureHeld();
            same([false, false, false], array_map(static fn ($lock): bool => $lock->acquire(), $theirs));
            // Held already: its leases are renewed, if it has any.
            same(true, $set->acquire());
            $set->release();
            same([false, false, false], $held($mine));
            throws(NotHeld::class, static fn () => $set->release());
            same([$mine, false], [$set->locks(), $set->isAcquired()]);
        });

        $t->test("set::{$kind}: refused, it holds nothing", static function () use ($url, $make, $held): void {
            $store = Store::open($url);
            [$mine, $theirs] = [$make($store, 'refused'), $make($store, 'refused')];
            $set = new LockSet(...$mine);
            foreach ($theirs as $taken) {
                same(true, $taken->acquire());
                same([false, false], [$set->acquire(), $set->acquire(true, 0.05)]);
                same([false, false, false], $held($mine));
                $taken->release();
            }
            same(true, $set->acquire(true, 60));
            unset($set);
            same([false, false, false], $held($mine), 'a set that is destroyed gives back');
            same(true, (new LockSet(...$theirs))->acquire());
        });

        $t->test("set::{$kind}: a handler of a signal that throws leaves nothing held", static function () use ($url, $make, $held): void {
            $store = Store::open($url);
            [$mine, $theirs] = [$make($store, 'signal'), $make($store, 'signal')];
            $theirs[0]->acquire();
            $before = pcntl_signal_get_handler(SIGALRM);
            pcntl_signal(SIGALRM, static fn () => throw new \DomainException('rung'));
            pcntl_alarm(1);
            throws(\DomainException::class, static fn () => (new LockSet(...$mine))->acquire(true, 60));
            pcntl_signal(SIGALRM, $before);
            same([[false, false, false], true, true], [$held($mine), $theirs[1]->acquire(true, 60), $theirs[2]->acquire(true, 60)]);
        });

        $t->test("set::{$kind}: another mode, and another request", static function () use ($url): void {
            $store = Store::open($url);
            [$read, $write, $other] = [$store->createLock('set-mode/1', shared: true), $store->createLock('set-mode/2'), $store->createLock('set-mode/1')];
            $set = new LockSet($read, $write);
            same([true, false, true], [$set->acquire(), $other->acquire(), $other->acquireRead()]);
            $other->release();
            Runtime::endRequest();
            // What it held went with its request.
            same([true, true], [$other->acquire(), $store->createLock('set-mode/2')->acquire()]);
            same(false, $set->acquire());
            $other->release();
            Runtime::endRequest();
            same(true, $set->acquire());
            $set->release();
        });
    }

    $t->test('set: what is held by hand, or in another mode, is none of its own', static function () use ($urls): void {
        foreach ($urls as $kind => $url) {
            $store = Store::open($url);
            [$mine, $theirs] = [$store->createLock('by-hand'), $store->createLock('by-hand')];
            [$ours, $its] = [new LockSet($mine), new LockSet($theirs)];
            same([true, true], [$mine->acquireRead(), $theirs->acquireRead()], $kind);
            foreach ([$ours, $its] as $set) {
                throws(AlreadyHeld::class, static fn () => $set->acquire());
            }
            $theirs->release();
            same(true, $mine->acquire(), "{$kind}: the only reader");
            throws(AlreadyHeld::class, static fn () => $ours->acquire());
            throws(NotHeld::class, static fn () => $ours->release());
            $mine->release();
            same([true, true], [$ours->acquire(), $ours->acquire()], "{$kind}: what it took is its own");
            $mine->demote();
            throws(AlreadyHeld::class, static fn () => $ours->acquire());
            same(true, $theirs->acquireRead(), "{$kind}: it is a reader");
            $theirs->release();
            $mine->promote();
            same(true, $ours->acquire(), $kind);
            $mine->release();
            $mine->acquire();
            throws(AlreadyHeld::class, static fn () => $ours->acquire());
            $mine->release();
        }
    });

    $t->test('set: what is none', static function (): void {
        $store = Store::open('memory:');
        throws(InvalidArgument::class, static fn () => new LockSet());
        throws(InvalidArgument::class, static fn () => new LockSet($store->createLock('x'), $store->createLock('x')));
        throws(InvalidArgument::class, static fn () => (new LockSet($store->createLock('x')))->acquire(false, 1.0));
        throws(\Synlock\Exception\Unsupported::class, static fn () => serialize(new LockSet($store->createLock('x'))));
    });
};
