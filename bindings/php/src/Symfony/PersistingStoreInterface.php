<?php

declare(strict_types=1);

namespace Synlock\Symfony;

if (\interface_exists(\Symfony\Component\Lock\PersistingStoreInterface::class)) {
    \class_alias(\Symfony\Component\Lock\PersistingStoreInterface::class, PersistingStoreInterface::class);
} else {
    /** What a store is asked. */
    interface PersistingStoreInterface
    {
        /**
         * Takes the lock if nobody else has it.
         *
         * @throws Exception\LockAcquiringException
         * @throws Exception\LockConflictedException
         */
        public function save(Key $key): void;

        /**
         * Lets go of it, if the key has it.
         *
         * @throws Exception\LockReleasingException
         */
        public function delete(Key $key): void;

        public function exists(Key $key): bool;

        /**
         * @param float $ttl seconds from now
         *
         * @throws Exception\LockConflictedException if the key does not have it any more
         */
        public function putOffExpiration(Key $key, float $ttl): void;
    }
}

require_once __DIR__ . '/Internal/types.php';
