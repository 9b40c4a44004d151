<?php

declare(strict_types=1);

namespace Synlock\Symfony;

use Symfony\Component\Console\Attribute\AsCommand;
use Symfony\Component\Console\Exception\LogicException;
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
     * @param string|null $name null: the command's, which that of an invokable one has from its attribute `AsCommand`
     *
     * @throws \LogicException if it has its lock already, or no name
     */
    private function lock(?string $name = null, bool $blocking = false): bool
    {
        if ($this->lock !== null) {
            throw self::complaint('A lock is already in place.');
        }
        $this->lockFactory ??= new LockFactory(new SemaphoreStore());
        $lock = $this->lockFactory->createLock($name ?: $this->commandName());
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

    private function commandName(): string
    {
        if (\method_exists($this, 'getName')) {
            return $this->getName();
        }
        $attribute = (new \ReflectionClass($this))->getAttributes(AsCommand::class)[0] ?? null;

        return $attribute?->newInstance()->name ?? throw self::complaint('The lock has no name: give it one, or the command by #[AsCommand].');
    }

    /** The console's own exception, where there is a console. */
    private static function complaint(string $words): \LogicException
    {
        return \class_exists(LogicException::class) ? new LogicException($words) : new \LogicException($words);
    }
}
