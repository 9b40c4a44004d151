<?php

declare(strict_types=1);

namespace Synlock\Symfony;

use Symfony\Component\Semaphore\Exception\SemaphoreAcquiringException;
use Symfony\Component\Semaphore\Exception\SemaphoreExpiredException;
use Symfony\Component\Semaphore\Exception\SemaphoreReleasingException;
use Symfony\Component\Semaphore\Key;
use Symfony\Component\Semaphore\PersistingStoreInterface;
use Synlock\Exception\ForkedHandle;
use Synlock\Exception\LockLost;
use Synlock\Exception\NotHeld;
use Synlock\Exception\SynlockException;
use Synlock\Lock;
use Synlock\Store;
use Synlock\Symfony\Internal\Hold;
use Synlock\Symfony\Internal\Wish;

/**
 * Any store of synlock that knows permits (`shm:`, `sysv:`, `redis:`, `postgres:`, …) as the store of Symfony's
 * Semaphore component. A key's weight is what it takes, its limit how many there are, and all who use a name must
 * say the same limit. The store's clock counts, not the callers'.
 */
final class SynlockSemaphoreStore implements PersistingStoreInterface
{
    private ?Store $opened = null;

    /**
     * @param string|Store                              $store   a URL, or what it has opened
     * @param array<string, string|int|float|bool|null> $options of the URL
     */
    public function __construct(private readonly string|Store $store, private readonly array $options = [])
    {
    }

    public function save(Key $key, float $ttlInSecond): void
    {
        $store = $this->store();
        $can = $store->capabilities();
        $hold = $this->find($key);
        if ($hold?->isOver()) {
            $this->delete($key); // its own lease may last longer
            $hold = null;
        }
        if ($hold?->isHeld($store, (string) $key, null)) {
            $lock = $hold->lock($store, (string) $key, null);
        } else {
            $hold = null;
            $ttl = $can->ttl ? $ttlInSecond : null;
            $autoRelease = Wish::of($key)?->autoRelease ?? !$can->ttl;
            $lock = $store->createLock((string) $key, $ttl, $autoRelease, permits: $key->getWeight(), of: $key->getLimit());
        }
        if (!$lock->acquire()) {
            throw new SemaphoreAcquiringException($key, 'too few permits are free');
        }
        $hold === null ? $key->setState($this->place(), Hold::of($lock, null, null)) : $hold->taken(null);
        self::reduceLifetime($key, $lock);
    }

    public function putOffExpiration(Key $key, float $ttlInSecond): void
    {
        $hold = $this->find($key);
        if ($hold === null || $hold->isOver()) {
            throw new SemaphoreExpiredException($key, 'it is not held');
        }
        $store = $this->store();
        try {
            $lock = $hold->lock($store, (string) $key, null);
            $hold->putOff($lock, $ttlInSecond, $store->capabilities()->ttl);
            self::reduceLifetime($key, $lock);
        } catch (LockLost | NotHeld | ForkedHandle $lost) {
            throw new SemaphoreExpiredException($key, $lost->getMessage());
        }
    }

    public function delete(Key $key): void
    {
        try {
            $this->find($key)?->lock($this->store(), (string) $key, null)->release();
        } catch (LockLost | NotHeld | ForkedHandle) {
            // There is nothing of ours.
        } catch (SynlockException $trouble) {
            throw new SemaphoreReleasingException($key, $trouble->getMessage());
        }
        $key->removeState($this->place());
    }

    public function exists(Key $key): bool
    {
        $hold = $this->find($key);
        if ($hold?->isOver()) {
            $this->delete($key);

            return false;
        }
        try {
            return $hold?->lock($this->store(), (string) $key, null)->isAcquired() ?? false;
        } catch (LockLost | ForkedHandle) {
            return false;
        }
    }

    /** The component counts from the answer, the lease from when it was asked for. */
    private static function reduceLifetime(Key $key, Lock $lock): void
    {
        $left = $lock->getRemainingLifetime();
        if ($left !== null) {
            $key->reduceLifetime($left);
        }
    }

    private function store(): Store
    {
        return $this->opened ??= $this->store instanceof Store ? $this->store : Store::open($this->store, $this->options);
    }

    private function place(): string
    {
        return 'synlock ' . $this->store()->fingerprint();
    }

    private function find(Key $key): ?Hold
    {
        $place = $this->place();

        return $key->hasState($place) ? $key->getState($place) : null;
    }
}
