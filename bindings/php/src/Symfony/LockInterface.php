<?php

declare(strict_types=1);

namespace Synlock\Symfony;

if (\interface_exists(\Symfony\Component\Lock\LockInterface::class)) {
    \class_alias(\Symfony\Component\Lock\LockInterface::class, LockInterface::class);
} else {
    /** A lock. */
    interface LockInterface
    {
        /**
         * @param bool $blocking wait until the lock is free
         *
         * @throws Exception\LockConflictedException
         * @throws Exception\LockAcquiringException
         */
        public function acquire(bool $blocking = false): bool;

        /**
         * @param float|null $ttl seconds from now; null: those that the lock was made with
         *
         * @throws Exception\LockConflictedException
         * @throws Exception\LockAcquiringException
         */
        public function refresh(?float $ttl = null): void;

        /** Asks the store. */
        public function isAcquired(): bool;

        /** @throws Exception\LockReleasingException */
        public function release(): void;

        public function isExpired(): bool;

        /** Seconds, or null without an end. */
        public function getRemainingLifetime(): ?float;
    }
}

require_once __DIR__ . '/Internal/types.php';
