<?php

declare(strict_types=1);

namespace Synlock\Symfony;

use Synlock\Symfony\Exception\UnserializableKeyException;

if (\class_exists(\Symfony\Component\Lock\Key::class)) {
    \class_alias(\Symfony\Component\Lock\Key::class, Key::class);
} else {
    /** The name of a lock, and what stores remember of its owner. */
    final class Key
    {
        private ?float $expiringTime = null;
        /** @var array<string, mixed> */
        private array $state = [];
        private bool $serializable = true;

        public function __construct(private string $resource)
        {
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

        public function resetLifetime(): void
        {
            $this->expiringTime = null;
        }

        /** @param float $ttl seconds from now; an earlier end stays */
        public function reduceLifetime(float $ttl): void
        {
            $this->expiringTime = \min($this->expiringTime ?? \INF, \microtime(true) + $ttl);
        }

        public function getRemainingLifetime(): ?float
        {
            return $this->expiringTime === null ? null : $this->expiringTime - \microtime(true);
        }

        public function isExpired(): bool
        {
            return $this->expiringTime !== null && $this->expiringTime <= \microtime(true);
        }

        /** @return array<string, mixed> */
        public function __serialize(): array
        {
            if (!$this->serializable) {
                throw new UnserializableKeyException('The key cannot be serialized: its hold ends with this process.');
            }

            return ['resource' => $this->resource, 'expiringTime' => $this->expiringTime, 'state' => $this->state];
        }

        /** @param array<string, mixed> $data */
        public function __unserialize(array $data): void
        {
            [$this->resource, $this->expiringTime, $this->state] = [$data['resource'], $data['expiringTime'], $data['state']];
        }
    }
}

require_once __DIR__ . '/Internal/types.php';
