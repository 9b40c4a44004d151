<?php

declare(strict_types=1);

namespace Synlock\Symfony;

require_once __DIR__ . '/Internal/types.php';

/** Makes locks of one store, as Symfony's class of this name. */
class LockFactory
{
    private ?object $logger = null;

    public function __construct(private readonly PersistingStoreInterface $store)
    {
    }

    /** @param object|null $logger a PSR-3 logger, for the locks that are made from now on */
    public function setLogger(?object $logger): void
    {
        $this->logger = $logger;
    }

    /**
     * @param float|null $ttl         seconds after which the lock is free unless it is refreshed; null: none. On
     *                                stores that see their holder die and keep no leases, no matter
     * @param bool       $autoRelease release when the lock is destroyed
     */
    public function createLock(string $resource, ?float $ttl = 300.0, bool $autoRelease = true): SharedLockInterface
    {
        return $this->createLockFromKey(new Key($resource), $ttl, $autoRelease);
    }

    /** A lock of a key, which may come from another process. */
    public function createLockFromKey(Key $key, ?float $ttl = 300.0, bool $autoRelease = true): SharedLockInterface
    {
        $lock = new Lock($key, $this->store, $ttl, $autoRelease);
        $lock->setLogger($this->logger);

        return $lock;
    }
}
