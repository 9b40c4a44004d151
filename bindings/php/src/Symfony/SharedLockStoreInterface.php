<?php

declare(strict_types=1);

namespace Synlock\Symfony;

if (\interface_exists(\Symfony\Component\Lock\SharedLockStoreInterface::class)) {
    \class_alias(\Symfony\Component\Lock\SharedLockStoreInterface::class, SharedLockStoreInterface::class);
} else {
    /** A store that knows readers. */
    interface SharedLockStoreInterface extends PersistingStoreInterface
    {
        /** @throws Exception\LockConflictedException */
        public function saveRead(Key $key): void;
    }
}

require_once __DIR__ . '/Internal/types.php';
