<?php

declare(strict_types=1);

namespace Synlock\Symfony;

if (\interface_exists(\Symfony\Component\Lock\BlockingSharedLockStoreInterface::class)) {
    \class_alias(\Symfony\Component\Lock\BlockingSharedLockStoreInterface::class, BlockingSharedLockStoreInterface::class);
} else {
    /** A store whose readers can wait. */
    interface BlockingSharedLockStoreInterface extends SharedLockStoreInterface
    {
        /** @throws Exception\LockConflictedException */
        public function waitAndSaveRead(Key $key): void;
    }
}

require_once __DIR__ . '/Internal/types.php';
