<?php

declare(strict_types=1);

namespace Synlock\Symfony;

use Synlock\Symfony\Exception\InvalidArgumentException;
use Synlock\Symfony\Exception\LockAcquiringException;
use Synlock\Symfony\Exception\LockConflictedException;
use Synlock\Symfony\Exception\LockExpiredException;
use Synlock\Symfony\Exception\LockReleasingException;

require_once __DIR__ . '/Internal/types.php';

/** A lock as Symfony's component has it: two of them for one resource are two owners. */
final class Lock implements SharedLockInterface
{
    /** Between two questions to a store that cannot wait, µs: 90 to 110 ms. */
    private const PAUSE = [90_000, 110_000];

    private bool $dirty = false;
    private ?object $logger = null;

    /**
     * @param float|null $ttl         seconds; null or 0: until release, as far as the store knows that
     * @param bool       $autoRelease release when this object is destroyed, and at the end of the script
     */
    public function __construct(
        private readonly Key $key,
        private readonly PersistingStoreInterface $store,
        private readonly ?float $ttl = null,
        private readonly bool $autoRelease = true,
    ) {
    }

    public function __destruct()
    {
        if ($this->autoRelease && $this->dirty && $this->isAcquired()) {
            $this->release();
        }
    }

    public function __serialize(): array
    {
        throw new \BadMethodCallException('Cannot serialize ' . self::class);
    }

    public function __unserialize(array $data): void
    {
        throw new \BadMethodCallException('Cannot unserialize ' . self::class);
    }

    /** @param object|null $logger a PSR-3 logger */
    public function setLogger(?object $logger): void
    {
        $this->logger = $logger;
    }

    public function acquire(bool $blocking = false): bool
    {
        return $this->take($blocking, '', function () use ($blocking): void {
            if ($blocking && $this->store instanceof BlockingStoreInterface) {
                $this->store->waitAndSave($this->key);
            } else {
                $this->ask($blocking, $this->store->save(...));
            }
        });
    }

    public function acquireRead(bool $blocking = false): bool
    {
        if (!$this->store instanceof SharedLockStoreInterface) {
            $this->log('debug', 'Store does not support ReadLocks, fallback to WriteLock.');

            return $this->acquire($blocking);
        }

        return $this->take($blocking, ' for reading', function () use ($blocking): void {
            if ($blocking && $this->store instanceof BlockingSharedLockStoreInterface) {
                $this->store->waitAndSaveRead($this->key);
            } else {
                $this->ask($blocking, $this->store->saveRead(...));
            }
        });
    }

    public function refresh(?float $ttl = null): void
    {
        $ttl ??= $this->ttl;
        if (!$ttl) {
            throw new InvalidArgumentException('You have to define an expiration duration.');
        }
        try {
            $this->key->resetLifetime();
            $this->store->putOffExpiration($this->key, $ttl);
            $this->dirty = true;
            $this->refuseExpired('Failed to put off the expiration of the "%s" lock within the specified time.');
            $this->log('debug', 'Expiration defined for "{resource}" lock for "{ttl}" seconds.', ['ttl' => $ttl]);
        } catch (LockConflictedException $conflict) {
            $this->dirty = false;
            $this->log('notice', 'Failed to define an expiration for the "{resource}" lock, someone else acquired the lock.');
            throw $conflict;
        } catch (\Exception $trouble) {
            $this->log('notice', 'Failed to define an expiration for the "{resource}" lock.', ['exception' => $trouble]);
            throw new LockAcquiringException("Failed to define an expiration for the \"{$this->key}\" lock.", 0, $trouble);
        }
    }

    public function isAcquired(): bool
    {
        return $this->dirty = $this->store->exists($this->key);
    }

    /** Without effect, and without an exception, on a lock that is not held. */
    public function release(): void
    {
        try {
            try {
                $this->store->delete($this->key);
                $this->dirty = false;
            } catch (LockReleasingException $trouble) {
                throw $trouble;
            } catch (\Exception $trouble) {
                throw new LockReleasingException("Failed to release the \"{$this->key}\" lock.", 0, $trouble);
            }
            if ($this->store->exists($this->key)) {
                throw new LockReleasingException("Failed to release the \"{$this->key}\" lock, the resource is still locked.");
            }
            $this->log('debug', 'Successfully released the "{resource}" lock.');
        } catch (LockReleasingException $trouble) {
            $this->log('notice', 'Failed to release the "{resource}" lock.');
            throw $trouble;
        }
    }

    public function isExpired(): bool
    {
        return $this->key->isExpired();
    }

    public function getRemainingLifetime(): ?float
    {
        return $this->key->getRemainingLifetime();
    }

    private function take(bool $blocking, string $how, \Closure $save): bool
    {
        $this->key->resetLifetime();
        try {
            $save();
            $this->dirty = true;
            $this->log('debug', "Successfully acquired the \"{resource}\" lock{$how}.");
            if ($this->ttl) {
                $this->refresh();
            }
            $this->refuseExpired('Failed to store the "%s" lock.');

            return true;
        } catch (LockConflictedException $conflict) {
            $this->dirty = false;
            $this->log('info', 'Failed to acquire the "{resource}" lock. Someone else already acquired the lock.');

            return $blocking ? throw $conflict : false;
        } catch (\Exception $trouble) {
            $this->log('notice', 'Failed to acquire the "{resource}" lock.', ['exception' => $trouble]);
            throw new LockAcquiringException("Failed to acquire the \"{$this->key}\" lock.", 0, $trouble);
        }
    }

    /** Asks a store that cannot wait, again and again where the caller can. */
    private function ask(bool $blocking, \Closure $save): void
    {
        while (true) {
            try {
                $save($this->key);

                return;
            } catch (LockConflictedException $conflict) {
                if (!$blocking) {
                    throw $conflict;
                }
                \usleep(\random_int(...self::PAUSE));
            }
        }
    }

    /** @param literal-string $words */
    private function refuseExpired(string $words): void
    {
        if (!$this->key->isExpired()) {
            return;
        }
        try {
            $this->release();
        } catch (\Exception) {
            // What matters is said below.
        }
        throw new LockExpiredException(\sprintf($words, $this->key));
    }

    private function log(string $level, string $words, array $context = []): void
    {
        $this->logger?->log($level, $words, ['resource' => $this->key] + $context);
    }
}
