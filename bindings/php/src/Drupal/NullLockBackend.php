<?php

declare(strict_types=1);

namespace Synlock\Drupal;

/** Locks nothing: every acquire is granted. */
class NullLockBackend implements Contract
{
    private ?string $lockId = null;

    public function acquire($name, $timeout = 30.0): bool
    {
        return true;
    }

    public function lockMayBeAvailable($name): bool
    {
        return true;
    }

    public function wait($name, $delay = 30): bool
    {
        return false;
    }

    public function release($name): void
    {
    }

    public function releaseAll($lockId = null): void
    {
    }

    public function getLockId(): string
    {
        return $this->lockId ??= \uniqid((string) \mt_rand(), true);
    }
}
