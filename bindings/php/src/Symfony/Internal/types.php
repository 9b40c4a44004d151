<?php

// Loads the types that are those of Symfony's component where that is installed. PHP compares with a name that
// nobody has loaded yet as with a class of which there are no objects, in `catch`, `instanceof` and parameters. All are
// loaded together, lest an autoloader that comes later make them of two kinds.

declare(strict_types=1);

namespace Synlock\Symfony;

foreach ([
    Key::class,
    PersistingStoreInterface::class,
    BlockingStoreInterface::class,
    SharedLockStoreInterface::class,
    BlockingSharedLockStoreInterface::class,
    LockInterface::class,
    SharedLockInterface::class,
    Strategy\StrategyInterface::class,
    Exception\ExceptionInterface::class,
    Exception\InvalidArgumentException::class,
    Exception\InvalidTtlException::class,
    Exception\LockAcquiringException::class,
    Exception\LockConflictedException::class,
    Exception\LockExpiredException::class,
    Exception\LockReleasingException::class,
    Exception\LockStorageException::class,
    Exception\UnserializableKeyException::class,
    StoreInterface::class,
] as $type) {
    \class_exists($type);
}
