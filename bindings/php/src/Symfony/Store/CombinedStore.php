<?php

declare(strict_types=1);

namespace Synlock\Symfony\Store;

use Synlock\Symfony\Exception\InvalidArgumentException;
use Synlock\Symfony\Exception\LockConflictedException;
use Synlock\Symfony\Exception\LockExpiredException;
use Synlock\Symfony\Key;
use Synlock\Symfony\PersistingStoreInterface;
use Synlock\Symfony\SharedLockStoreInterface;
use Synlock\Symfony\Strategy\StrategyInterface;

require_once __DIR__ . '/../Internal/types.php';

/**
 * A lock on several stores, asked one after the other. `new SynlockStore('quorum:…')` asks them side by side, keeps
 * the time that this takes off the lease, and tells members that are down from those that are taken.
 */
class CombinedStore implements SharedLockStoreInterface
{
    /** @var list<PersistingStoreInterface> */
    private readonly array $stores;
    private ?object $logger = null;

    /**
     * @param PersistingStoreInterface[] $stores
     *
     * @throws InvalidArgumentException
     */
    public function __construct(array $stores, private readonly StrategyInterface $strategy)
    {
        foreach ($stores as $store) {
            if (!$store instanceof PersistingStoreInterface) {
                throw new InvalidArgumentException(\sprintf('The store must implement "%s". Got "%s".', PersistingStoreInterface::class, \get_debug_type($store)));
            }
        }
        $this->stores = \array_values($stores);
    }

    /** @param object|null $logger a PSR-3 logger */
    public function setLogger(?object $logger): void
    {
        $this->logger = $logger;
    }

    public function save(Key $key): void
    {
        $this->take($key, static fn (PersistingStoreInterface $store) => $store->save($key));
    }

    public function saveRead(Key $key): void
    {
        $this->take($key, static function (PersistingStoreInterface $store) use ($key): void {
            $store instanceof SharedLockStoreInterface ? $store->saveRead($key) : $store->save($key);
        });
    }

    public function putOffExpiration(Key $key, float $ttl): void
    {
        $end = \hrtime(true) + (int) (\min($ttl, 1e9) * 1e9);
        $isMet = $this->ask($key, static function (PersistingStoreInterface $store) use ($key, $end): void {
            $left = ($end - \hrtime(true)) / 1e9;
            if ($left <= 0.0) {
                $key->reduceLifetime(0);
                throw new LockExpiredException('The time was over before all stores were asked.');
            }
            $store->putOffExpiration($key, $left);
        });
        $this->refuseExpired($key);
        if (!$isMet) {
            $this->logger?->log('notice', 'Failed to define the expiration for the "{resource}" lock. Quorum has not been met.', ['resource' => $key]);
            $this->delete($key);
            throw new LockConflictedException("Too few stores hold \"{$key}\".");
        }
    }

    public function delete(Key $key): void
    {
        foreach ($this->stores as $store) {
            try {
                $store->delete($key);
            } catch (\Exception $trouble) {
                $this->logger?->log('notice', 'One store failed to delete the "{resource}" lock.', ['resource' => $key, 'store' => $store, 'exception' => $trouble]);
            }
        }
    }

    public function exists(Key $key): bool
    {
        $all = \count($this->stores);
        $held = $lost = 0;
        foreach ($this->stores as $store) {
            try {
                $store->exists($key) ? ++$held : ++$lost;
            } catch (\Exception $trouble) {
                // One that cannot be asked has no say; Symfony's store lets its exception end the question.
                $this->logger?->log('debug', 'One store failed to tell of the "{resource}" lock.', ['resource' => $key, 'store' => $store, 'exception' => $trouble]);
                ++$lost;
            }
            if ($this->strategy->isMet($held, $all)) {
                return true;
            }
            if (!$this->strategy->canBeMet($lost, $all)) {
                return false;
            }
        }

        return false;
    }

    private function take(Key $key, \Closure $save): void
    {
        $isMet = $this->ask($key, $save);
        $this->refuseExpired($key);
        if (!$isMet) {
            $this->logger?->log('info', 'Failed to store the "{resource}" lock. Quorum has not been met.', ['resource' => $key]);
            // Also where saving failed: it may have reached the store.
            $this->delete($key);
            throw new LockConflictedException("Too few stores give \"{$key}\".");
        }
    }

    /** Asks all stores, unless it is hopeless; whether enough have agreed. */
    private function ask(Key $key, \Closure $question): bool
    {
        $all = \count($this->stores);
        $met = $failed = 0;
        foreach ($this->stores as $store) {
            try {
                $question($store);
                ++$met;
            } catch (\Exception $trouble) {
                $this->logger?->log('debug', 'One store failed to save the "{resource}" lock.', ['resource' => $key, 'store' => $store, 'exception' => $trouble]);
                ++$failed;
            }
            if (!$this->strategy->canBeMet($failed, $all)) {
                break;
            }
        }

        return $this->strategy->isMet($met, $all);
    }

    private function refuseExpired(Key $key): void
    {
        if ($key->isExpired()) {
            $this->delete($key);
            throw new LockExpiredException("The lease of \"{$key}\" was over before enough stores had it.");
        }
    }
}
