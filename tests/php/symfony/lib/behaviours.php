<?php

// What any store of the component must do, as its own abstract tests have it (FORMATS 1.17), on a store that
// a test gives. Its keys are those of the classes that are there.

declare(strict_types=1);

namespace Synlock\Tests;

use Synlock\Symfony\Exception\InvalidTtlException;
use Synlock\Symfony\Exception\LockConflictedException;
use Synlock\Symfony\Exception\LockExpiredException;
use Synlock\Symfony\Exception\UnserializableKeyException;

/**
 * @param \Closure     $make  a store; for `brief`, one on the same locks that takes leases of so many whole seconds
 * @param list<string> $kinds of `shared`, `promote`, `ttl`, `serializable`; `alone`: other processes have other locks;
 *                            `whole`: leases are of a second at least; `ends`: wait for the end of one; `brief`: where an end is seen, not all that is held is let go of, and lasts as it was taken
 * @param float        $delay seconds within which an expiry is seen
 */
function behaviours(Runner $t, Setup $setup, string $name, \Closure $make, array $kinds, float $delay = 0.3): void
{
    $has = static fn (string $kind): bool => in_array($kind, $kinds, true);
    $new = static fn (): object => $setup->key('n' . bin2hex(random_bytes(6)));
    $same = static fn (object $key): object => $setup->key((string) $key);
    $refused = static fn (\Closure $save): \Throwable => throws(LockConflictedException::class, $save);
    $store = $make();
    $test = static fn (string $what, \Closure $body) => $t->test("{$setup->mode} {$name}::{$what}", $body);

    $test('save, delete', static function () use ($store, $new): void {
        $key = $new();
        same(false, $store->exists($key));
        $store->save($key);
        same(true, $store->exists($key));
        $store->delete($key);
        same(false, $store->exists($key));
        $store->delete($key);
    });

    $test('different resources', static function () use ($store, $new): void {
        [$a, $b] = [$new(), $new()];
        $store->save($a);
        same([true, false], [$store->exists($a), $store->exists($b)]);
        $store->save($b);
        same([true, true], [$store->exists($a), $store->exists($b)]);
        $store->delete($a);
        same([false, true], [$store->exists($a), $store->exists($b)]);
        $store->delete($b);
        same([false, false], [$store->exists($a), $store->exists($b)]);
    });

    $test('different keys of one resource', static function () use ($store, $new, $same, $refused): void {
        $a = $new();
        $b = $same($a);
        $store->save($a);
        same([true, false], [$store->exists($a), $store->exists($b)]);
        $refused(static fn () => $store->save($b));
        same([true, false], [$store->exists($a), $store->exists($b)]);
        $store->delete($a);
        same([false, false], [$store->exists($a), $store->exists($b)]);
        $store->save($b);
        same([false, true], [$store->exists($a), $store->exists($b)]);
        $store->delete($a);
        same(true, $store->exists($b), 'a key that is not held frees nothing');
        $store->delete($b);
    });

    $test('save twice', static function () use ($store, $new, $same): void {
        $key = $new();
        $store->save($key);
        $store->save($key);
        same(true, $store->exists($key));
        $store->delete($key);
        $store->save($other = $same($key));
        $store->delete($other);
    });

    $wait = static function (string $save) use ($setup, $store, $new, $refused): void {
        $key = $new();
        $sync = "{$setup->temp}/" . $key;
        $parent = getmypid();
        $pid = pcntl_fork();
        if ($pid === 0) {
            // The child holds, until the parent is refused.
            $child = $setup->key((string) $key);
            $store->save($child);
            touch("{$sync}.held");
            while (!file_exists("{$sync}.refused") && posix_getppid() === $parent) {
                usleep(1000);
            }
            usleep(50_000);
            $store->delete($child);
            posix_kill(getmypid(), SIGKILL); // the test's own ends are not its business
        }
        until(static fn (): bool => file_exists("{$sync}.held"), 30, 'the child holds');
        $refused(static fn () => $store->$save($key));
        touch("{$sync}.refused");
        if ($store instanceof \Synlock\Symfony\BlockingStoreInterface) {
            $store->{'waitAnd' . ucfirst($save)}($key);
        } else {
            until(static function () use ($store, $save, $key): bool {
                try {
                    $store->$save($key);

                    return true;
                } catch (LockConflictedException) {
                    return false;
                }
            }, 30, 'the child lets go');
        }
        same(true, $store->exists($key));
        pcntl_waitpid($pid, $status);
        $store->delete($key);
    };
    $has('alone') || $test('a wait ends with the holder', static fn () => $wait('save'));
    $has('alone') || !$has('shared') || $test('a reader\'s wait ends with the writer', static fn () => $wait('saveRead'));

    if ($has('ttl')) {
        $has('ends') && $test('a lock ends with its TTL', static function () use ($store, $make, $has, $new, $same, $delay): void {
            // A disk can be so slow that the lease is over before anybody has looked: then a longer one is looked at.
            $ttl = 5.0 * $delay;
            do {
                $ttl *= 2.0;
                ok($ttl < 300.0, 'a lease outlasts a look at it');
                $brief = $has('brief') ? $make((int) $ttl) : $store;
                $key = $new();
                $start = microtime(true);
                try {
                    $brief->save($key);
                    $brief->putOffExpiration($key, $ttl);
                } catch (LockExpiredException) {
                    ok(microtime(true) - $start > 0.5 * $ttl, "{$ttl} s are not over yet");
                    continue;
                }
                $seen = [$brief->exists($key), $key->getRemainingLifetime() > 0, $key->isExpired()];
                ok($key->getRemainingLifetime() <= $ttl, 'the lifetime of the key');
            } while (microtime(true) - $start > 0.5 * $ttl);
            same([true, true, false], $seen);
            until(static fn (): bool => !$brief->exists($key), $ttl + 30, 'it ends');
            // The holder's clock ends a little earlier than the store's.
            $other = $same($key);
            until(static function () use ($store, $other): bool {
                try {
                    $store->save($other);

                    return true;
                } catch (LockConflictedException) {
                    return false;
                }
            }, $ttl + 30, 'it is free');
            $store->delete($other);
        });

        $test('a TTL that is over at once', static function () use ($store, $new, $same, $has): void {
            $key = $new();
            $store->save($key);
            if ($has('whole')) {
                foreach ([0.000001, 0.5] as $ttl) {
                    throws(InvalidTtlException::class, static fn () => $store->putOffExpiration($key, $ttl));
                }
                $store->delete($key);
            } else {
                throws(LockExpiredException::class, static fn () => $store->putOffExpiration($key, 0.000001));
            }
            $store->save($other = $same($key));
            $store->delete($other);
        });

        $test('a key that is expired already leaves nothing behind', static function () use ($store, $new, $same): void {
            $key = $new();
            $key->reduceLifetime(0.0);
            throws(LockExpiredException::class, static fn () => $store->save($key));
            $store->save($other = $same($key));
            $store->delete($other);
        });
    }

    if ($has('shared')) {
        $test('readers first', static function () use ($store, $new, $same, $refused): void {
            [$a, $b, $c] = [$key = $new(), $same($key), $same($key)];
            $store->saveRead($a);
            $store->saveRead($b);
            $refused(static fn () => $store->save($c));
            same([true, true, false], [$store->exists($a), $store->exists($b), $store->exists($c)]);
            $store->delete($a);
            $refused(static fn () => $store->save($c));
            $store->delete($b);
            $store->save($c);
            same([false, false, true], [$store->exists($a), $store->exists($b), $store->exists($c)]);
            $store->delete($c);
        });

        $test('a writer first', static function () use ($store, $new, $same, $refused): void {
            [$a, $b] = [$key = $new(), $same($key)];
            $store->save($a);
            $refused(static fn () => $store->saveRead($b));
            same([true, false], [$store->exists($a), $store->exists($b)]);
            $store->delete($a);
            $store->saveRead($b);
            same(true, $store->exists($b));
            $store->delete($b);
        });
    }

    if ($has('promote')) {
        $test('a reader among others is no writer, and stays a reader', static function () use ($store, $new, $same, $refused): void {
            [$a, $b] = [$key = $new(), $same($key)];
            $store->saveRead($a);
            $store->saveRead($b);
            $refused(static fn () => $store->save($a));
            same([true, true], [$store->exists($a), $store->exists($b)]);
            $store->delete($b);
            $store->save($a);
            same(true, $store->exists($a));
            $refused(static fn () => $store->saveRead($b));
            $store->delete($a);
            $store->saveRead($b);
            $store->delete($b);
        });

        $test('a writer becomes a reader', static function () use ($store, $new, $same): void {
            [$a, $b] = [$key = $new(), $same($key)];
            $store->save($a);
            $store->saveRead($a);
            $store->saveRead($b);
            same([true, true], [$store->exists($a), $store->exists($b)]);
            $store->delete($a);
            $store->delete($b);
        });
    }

    $test('serialized keys', static function () use ($store, $new, $has, $setup): void {
        $key = $new();
        same((string) $key, (string) unserialize(serialize($key)), 'one that holds nothing always');
        $store->save($key);
        if (!$has('serializable')) {
            throws(UnserializableKeyException::class, static fn () => serialize($key));
            $store->delete($key);

            return;
        }
        $heir = unserialize(serialize($key));
        same(true, $store->exists($heir));
        throws(LockConflictedException::class, static fn () => $store->save($setup->key((string) $key)));
        $store->delete($heir);
        same(false, $store->exists($heir));
        $store->save($other = $setup->key((string) $key));
        $store->delete($other);
    });
}
