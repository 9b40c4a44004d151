<?php

// The types of symfony/lock and symfony/semaphore 6.4 that stores and locks have to fit, declared as there.

declare(strict_types=1);

namespace Symfony\Component\Lock\Exception {
    interface ExceptionInterface extends \Throwable
    {
    }
    class InvalidArgumentException extends \InvalidArgumentException implements ExceptionInterface
    {
    }
    class InvalidTtlException extends InvalidArgumentException implements ExceptionInterface
    {
    }
    class LockAcquiringException extends \RuntimeException implements ExceptionInterface
    {
    }
    class LockConflictedException extends \RuntimeException implements ExceptionInterface
    {
    }
    class LockExpiredException extends \RuntimeException implements ExceptionInterface
    {
    }
    class LockReleasingException extends \RuntimeException implements ExceptionInterface
    {
    }
    class LockStorageException extends \RuntimeException implements ExceptionInterface
    {
    }
    class UnserializableKeyException extends \RuntimeException implements ExceptionInterface
    {
    }
}

namespace Symfony\Component\Lock\Strategy {
    interface StrategyInterface
    {
        public function isMet(int $numberOfSuccess, int $numberOfItems): bool;

        public function canBeMet(int $numberOfFailure, int $numberOfItems): bool;
    }
}

namespace Symfony\Component\Lock {
    final class Key
    {
        private string $resource;
        private ?float $expiringTime = null;
        private array $state = [];
        private bool $serializable = true;

        public function __construct(string $resource)
        {
            $this->resource = $resource;
        }

        public function __toString(): string
        {
            return $this->resource;
        }

        public function hasState(string $stateKey): bool
        {
            return isset($this->state[$stateKey]);
        }

        public function setState(string $stateKey, mixed $state): void
        {
            $this->state[$stateKey] = $state;
        }

        public function removeState(string $stateKey): void
        {
            unset($this->state[$stateKey]);
        }

        public function getState(string $stateKey): mixed
        {
            return $this->state[$stateKey];
        }

        public function markUnserializable(): void
        {
            $this->serializable = false;
        }

        public function resetLifetime()
        {
            $this->expiringTime = null;
        }

        public function reduceLifetime(float $ttl)
        {
            $this->expiringTime = min($this->expiringTime ?? INF, microtime(true) + $ttl);
        }

        public function getRemainingLifetime(): ?float
        {
            return $this->expiringTime === null ? null : $this->expiringTime - microtime(true);
        }

        public function isExpired(): bool
        {
            return $this->expiringTime !== null && $this->expiringTime <= microtime(true);
        }

        public function __sleep(): array
        {
            if (!$this->serializable) {
                throw new Exception\UnserializableKeyException('The key cannot be serialized.');
            }

            return ['resource', 'expiringTime', 'state'];
        }
    }

    interface LockInterface
    {
        public function acquire(bool $blocking = false): bool;

        public function refresh(?float $ttl = null);

        public function isAcquired(): bool;

        public function release();

        public function isExpired(): bool;

        public function getRemainingLifetime(): ?float;
    }

    interface SharedLockInterface extends LockInterface
    {
        public function acquireRead(bool $blocking = false): bool;
    }

    interface PersistingStoreInterface
    {
        public function save(Key $key);

        public function delete(Key $key);

        public function exists(Key $key): bool;

        public function putOffExpiration(Key $key, float $ttl);
    }

    interface BlockingStoreInterface extends PersistingStoreInterface
    {
        public function waitAndSave(Key $key);
    }

    interface SharedLockStoreInterface extends PersistingStoreInterface
    {
        public function saveRead(Key $key);
    }

    interface BlockingSharedLockStoreInterface extends SharedLockStoreInterface
    {
        public function waitAndSaveRead(Key $key);
    }
}

namespace Symfony\Component\Semaphore {
    final class Key
    {
    }

    interface PersistingStoreInterface
    {
        public function save(Key $key, float $ttlInSecond);

        public function delete(Key $key);

        public function exists(Key $key): bool;

        public function putOffExpiration(Key $key, float $ttlInSecond);
    }
}
