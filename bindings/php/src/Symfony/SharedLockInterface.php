<?php

declare(strict_types=1);

namespace Synlock\Symfony;

if (\interface_exists(\Symfony\Component\Lock\SharedLockInterface::class)) {
    \class_alias(\Symfony\Component\Lock\SharedLockInterface::class, SharedLockInterface::class);
} else {
    /** A lock that can be read. */
    interface SharedLockInterface extends LockInterface
    {
        /**
         * Takes the lock together with other readers.
         *
         * @throws Exception\LockConflictedException
         * @throws Exception\LockAcquiringException
         */
        public function acquireRead(bool $blocking = false): bool;
    }
}

require_once __DIR__ . '/Internal/types.php';
