<?php

declare(strict_types=1);

namespace Synlock\Symfony;

use Synlock\Capabilities;
use Synlock\Exception\ForkedHandle;
use Synlock\Exception\InvalidArgument;
use Synlock\Exception\LockLost;
use Synlock\Exception\LockTimeout;
use Synlock\Exception\NotHeld;
use Synlock\Exception\SynlockException;
use Synlock\Exception\Unsupported;
use Synlock\Store;
use Synlock\Symfony\Exception\InvalidArgumentException;
use Synlock\Symfony\Exception\InvalidTtlException;
use Synlock\Symfony\Exception\LockAcquiringException;
use Synlock\Symfony\Exception\LockConflictedException;
use Synlock\Symfony\Exception\LockExpiredException;
use Synlock\Symfony\Exception\LockReleasingException;
use Synlock\Symfony\Exception\LockStorageException;
use Synlock\Symfony\Internal\Hold;
use Synlock\Symfony\Internal\Inheritable;
use Synlock\Symfony\Internal\Wish;

require_once __DIR__ . '/Internal/types.php';

/**
 * Any store of synlock as one of Symfony's Lock component: for its `LockFactory` and `CombinedStore` where the
 * component is installed, for those of this package everywhere. Waits are waits, not polls, where the store can.
 *
 * A store without shared locks takes readers for writers, as the component does; one without leases
 * (`flock:`, `sysv:`, advisory locks, `zookeeper:`) takes no notice of a TTL and frees the lock with the process.
 */
class SynlockStore implements BlockingStoreInterface, BlockingSharedLockStoreInterface
{
    /** @var \WeakMap<Store, array{string, Capabilities}>|null */
    private static ?\WeakMap $known = null;
    private ?Store $opened = null;
    private readonly float $initialTtl;

    /**
     * @param string|Store                               $store      a URL such as `redis://localhost`, `shm:app`
     * @param array<string, string|int|float|bool|null>  $options    of the URL
     * @param float                                      $initialTtl lease in seconds of a lock that was made
     *                                                               without a TTL, on stores that do not see their
     *                                                               holder die
     *
     * @throws InvalidTtlException
     */
    public function __construct(
        private readonly string|Store $store,
        private readonly array $options = [],
        float $initialTtl = 300.0,
    ) {
        if (!($initialTtl > 0)) {
            throw new InvalidTtlException(\sprintf('%s expects a positive initial TTL, not %s.', static::class, $initialTtl));
        }
        $this->initialTtl = $initialTtl;
    }

    public function save(Key $key): void
    {
        $this->take($key, false, false);
    }

    public function saveRead(Key $key): void
    {
        $this->take($key, true, false);
    }

    public function waitAndSave(Key $key): void
    {
        $this->take($key, false, true);
    }

    public function waitAndSaveRead(Key $key): void
    {
        $this->take($key, true, true);
    }

    public function putOffExpiration(Key $key, float $ttl): void
    {
        try {
            $store = $this->storeFor((string) $key);
            $hold = self::find($key, $store);
            if ($hold === null || $hold->isOver()) {
                throw new LockConflictedException("The lock \"{$key}\" is not held any more.");
            }
            $hasLease = self::known($store)[1]->ttl;
            if ($hasLease) {
                $key->reduceLifetime($ttl);
            }
            $lock = $this->lockOf($hold, $key, $store);
            $hold->putOff($lock, $ttl, $hasLease);
            $left = $lock->getRemainingLifetime();
            if ($left !== null) {
                $key->reduceLifetime($left);
            }
        } catch (LockLost | NotHeld | ForkedHandle $lost) {
            throw new LockConflictedException($lost->getMessage(), 0, $lost);
        } catch (InvalidArgument $invalid) {
            throw new InvalidTtlException($invalid->getMessage(), 0, $invalid);
        } catch (SynlockException $trouble) {
            throw new LockStorageException($trouble->getMessage(), 0, $trouble);
        }
        $this->checkNotExpired($key);
    }

    public function delete(Key $key): void
    {
        try {
            $store = $this->storeFor((string) $key);
            $hold = self::find($key, $store);
            if ($hold !== null) {
                $this->lockOf($hold, $key, $store)->release();
            }
        } catch (LockLost | NotHeld | ForkedHandle) {
            // Nobody else's lock is touched, and there is nothing of ours.
        } catch (SynlockException $trouble) {
            throw new LockReleasingException($trouble->getMessage(), 0, $trouble);
        }
        $key->removeState(self::known($store)[0]);
    }

    public function exists(Key $key): bool
    {
        try {
            $store = $this->storeFor((string) $key);
            $hold = self::find($key, $store);
            if ($hold?->isOver()) {
                $this->delete($key);

                return false;
            }

            return $hold !== null && $this->lockOf($hold, $key, $store)->isAcquired();
        } catch (LockLost | ForkedHandle) {
            return false;
        } catch (SynlockException | LockReleasingException $trouble) {
            throw new LockStorageException($trouble->getMessage(), 0, $trouble);
        }
    }

    /**
     * The store that keeps the lock of this name.
     *
     * @throws SynlockException
     */
    protected function storeFor(string $name): Store
    {
        return $this->opened ??= $this->store instanceof Store ? $this->store : Store::open($this->store, $this->options());
    }

    /** What hands holds on by their owner tokens, where the core's export does not. */
    protected function inheritable(): ?Inheritable
    {
        return null;
    }

    private function lockOf(Hold $hold, Key $key, Store $store): \Synlock\Lock
    {
        return $hold->lock($store, (string) $key, $this->inheritable());
    }

    /** @return array<string, string|int|float|bool|null> */
    private function options(): array
    {
        // A quorum grants no lease longer than its `max_ttl`, a minute unless it is told.
        if (\str_starts_with((string) $this->store, 'quorum:') && !\preg_match('/[?&]max_ttl=/', (string) $this->store)) {
            return $this->options + ['max_ttl' => (int) \ceil($this->initialTtl * 1000)];
        }

        return $this->options;
    }

    private function take(Key $key, bool $read, bool $blocking): void
    {
        try {
            $store = $this->storeFor((string) $key);
            [$place, $can] = self::known($store);
            $wish = Wish::of($key);
            $ttl = $this->lease($wish, $can);
            $hold = self::find($key, $store);
            $read = $read && $can->shared;
            if ($hold?->isOver()) {
                $this->delete($key); // its own lease may last longer
                $hold = null;
            }
            if ($hold?->isHeld($store, (string) $key, $this->inheritable())) {
                $lock = $this->lockOf($hold, $key, $store);
            } else {
                $hold = null;
                $lock = $store->createLock((string) $key, $ttl, $wish->autoRelease ?? !$can->ttl);
            }
            $granted = $read ? $lock->acquireRead($blocking) : $lock->acquire($blocking);
        } catch (LockTimeout $timeout) {
            throw new LockConflictedException($timeout->getMessage(), 0, $timeout);
        } catch (InvalidArgument $invalid) {
            $isTtl = isset($ttl) && ($ttl < 1 || $ttl > 30 * 86400);
            $class = $isTtl ? InvalidTtlException::class : InvalidArgumentException::class;
            throw new $class($invalid->getMessage(), 0, $invalid);
        } catch (SynlockException | LockReleasingException $trouble) {
            throw new LockAcquiringException($trouble->getMessage(), 0, $trouble);
        }
        if (!$granted) {
            throw new LockConflictedException("The lock \"{$key}\" is taken.");
        }
        if ($hold === null) {
            // A lock that has a TTL asks for it next.
            $key->setState($place, Hold::of($lock, $wish?->ttl === null ? null : $ttl, $this->inheritable()));
        } else {
            $hold->taken(null);
        }
        if (!$can->export && $this->inheritable() === null) {
            $key->markUnserializable();
        }
        $left = $lock->getRemainingLifetime();
        if ($left !== null) {
            $key->reduceLifetime($left);
        }
        $this->checkNotExpired($key);
    }

    private function lease(?Wish $wish, Capabilities $can): ?float
    {
        if (!$can->ttl) {
            if ($wish?->ttl !== null && ($this->options['strict'] ?? false)) {
                throw new Unsupported("{$can->store} has no leases, and strict=1 refuses a TTL");
            }

            return null;
        }

        return $wish?->ttl ?? ($wish !== null && $can->freesOnDeath ? null : $this->initialTtl);
    }

    private static function find(Key $key, Store $store): ?Hold
    {
        $place = self::known($store)[0];

        return $key->hasState($place) ? $key->getState($place) : null;
    }

    /**
     * Under which name a key remembers its hold, equal in every process, and what the store can do.
     *
     * @return array{string, Capabilities}
     */
    private static function known(Store $store): array
    {
        self::$known ??= new \WeakMap();

        return self::$known[$store] ??= ['synlock ' . $store->fingerprint(), $store->capabilities()];
    }

    private function checkNotExpired(Key $key): void
    {
        if (!$key->isExpired()) {
            return;
        }
        try {
            $this->delete($key);
        } catch (\Exception) {
            // What matters is said below.
        }
        throw new LockExpiredException("The lease of \"{$key}\" was over before it could be used.");
    }
}
