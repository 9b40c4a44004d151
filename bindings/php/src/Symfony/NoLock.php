<?php

declare(strict_types=1);

namespace Synlock\Symfony;

require_once __DIR__ . '/Internal/types.php';

/** A lock that is free for everybody, for tests. */
final class NoLock implements LockInterface
{
    public function acquire(bool $blocking = false): bool
    {
        return true;
    }

    public function refresh(?float $ttl = null): void
    {
    }

    public function isAcquired(): bool
    {
        return true;
    }

    public function release(): void
    {
    }

    public function isExpired(): bool
    {
        return false;
    }

    public function getRemainingLifetime(): ?float
    {
        return null;
    }
}
