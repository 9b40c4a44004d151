<?php

declare(strict_types=1);

namespace Synlock\Symfony;

use Synlock\Symfony\Store\SemaphoreStore;

/**
 * For commands of Symfony's Console that must not run twice at a time: its trait of this name, with a store that may be
 * another one, and without the Lock component too. On a store whose leases outlast their process the lock lasts for
 * 300 s, as there: a command that takes longer needs `shm:`, `flock:`, or one of the others that see their holder die.
 */
trait LockableTrait
{
    private ?LockInterface $lock = null;
    /** What the command's constructor may set. Null: semaphores of this host, as the trait of 6.3 and later. */
    private LockFactory|\Symfony\Component\Lock\LockFactory|null $lockFactory = null;

    /**
     * @param string|null $name null: the command's
     *
     * @throws \LogicException if it has its lock already
     */
    private function lock(?string $name = null, bool $blocking = false): bool
    {
        if ($this->lock !== null) {
            throw new \LogicException('A lock is already in place.');
        }
        $this->lockFactory ??= new LockFactory(new SemaphoreStore());
        $lock = $this->lockFactory->createLock($name ?: $this->getName());
        if (!$lock->acquire($blocking)) {
            return false;
        }
        $this->lock = $lock;

        return true;
    }

    /** Without effect if there is none. */
    private function release(): void
    {
        $this->lock?->release();
        $this->lock = null;
    }
}
