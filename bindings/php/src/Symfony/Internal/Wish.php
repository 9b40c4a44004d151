<?php

declare(strict_types=1);

namespace Synlock\Symfony\Internal;

use Synlock\Symfony\Lock;

/**
 * What the lock that calls a store will ask for next. `save()` says no TTL: Symfony takes each lock for its
 * store's initial TTL and shortens that with a second request, and a process that dies in between leaves the
 * lock for five minutes. A lease of synlock is never shortened, so it has to be known before it is taken.
 *
 * @internal
 */
final class Wish
{
    private function __construct(public readonly ?float $ttl, public readonly bool $autoRelease)
    {
    }

    /** Null if no lock stands behind the call. */
    public static function of(object $key): ?self
    {
        foreach (\debug_backtrace(\DEBUG_BACKTRACE_PROVIDE_OBJECT | \DEBUG_BACKTRACE_IGNORE_ARGS, 16) as $frame) {
            $lock = $frame['object'] ?? null;
            $isLock = $lock instanceof Lock || $lock instanceof \Symfony\Component\Lock\Lock;
            if ($isLock || $lock instanceof \Symfony\Component\Semaphore\Semaphore) {
                // These classes are final and have these properties, private, in every version.
                $own = (array) $lock;
                $of = "\0" . $lock::class . "\0";
                $ttl = $of . ($isLock ? 'ttl' : 'ttlInSecond');
                if (($own["{$of}key"] ?? null) === $key && \array_key_exists($ttl, $own)) {
                    return new self($own[$ttl] ?: null, $own["{$of}autoRelease"] ?? true);
                }
            }
        }

        return null;
    }
}
