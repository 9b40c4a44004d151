<?php

declare(strict_types=1);

namespace Synlock\Symfony;

if (\interface_exists(\Symfony\Component\Lock\BlockingStoreInterface::class)) {
    \class_alias(\Symfony\Component\Lock\BlockingStoreInterface::class, BlockingStoreInterface::class);
} else {
    /** A store that can wait. */
    interface BlockingStoreInterface extends PersistingStoreInterface
    {
        /** @throws Exception\LockConflictedException */
        public function waitAndSave(Key $key): void;
    }
}

require_once __DIR__ . '/Internal/types.php';
