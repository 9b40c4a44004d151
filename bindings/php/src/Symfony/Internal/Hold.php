<?php

declare(strict_types=1);

namespace Synlock\Symfony\Internal;

use Synlock\Exception\LockLost;
use Synlock\Exception\NotHeld;
use Synlock\Exception\SynlockException;
use Synlock\Lock;
use Synlock\State;
use Synlock\Store;

/**
 * What a store keeps in a key: a lock that is held, or the text of a hold that came with a key from elsewhere
 * and is adopted when it is used.
 *
 * @internal
 */
final class Hold
{
    /** Before an owner token, in the place of an exported hold. */
    private const OWNER = 'owner:';

    private ?Lock $lock = null;
    private ?Inheritable $from = null;
    private string $exported = '';
    /** `hrtime` at which the hold ends by the last TTL, though the lease in the store may last longer. */
    private ?int $end = null;
    /** A lease that need not be asked for, as long as nothing else was done. */
    private ?float $fresh = null;

    private function __construct()
    {
    }

    /**
     * @param float|null       $ttl  the lease that it was taken with, if the same will be asked for next
     * @param Inheritable|null $from what keeps it, if it is handed on by its owner token
     */
    public static function of(Lock $lock, ?float $ttl, ?Inheritable $from): self
    {
        $hold = new self();
        $hold->lock = $lock;
        $hold->from = $from;
        $hold->taken($ttl);

        return $hold;
    }

    /** It was taken, perhaps again, just now. */
    public function taken(?float $ttl): void
    {
        $this->fresh = $ttl;
        $this->end = null;
    }

    /**
     * Its lock, whose state may be any.
     *
     * @throws LockLost if it came from elsewhere and somebody was faster
     * @throws SynlockException
     */
    public function lock(Store $store, string $name, ?Inheritable $from): Lock
    {
        if ($this->lock === null) {
            if ($this->exported === '') {
                throw new LockLost('the hold had ended before its key was serialized');
            }
            // Stores count in seconds or less; adopting never shortens.
            $left = $this->end === null ? 1.0 : ($this->end - \hrtime(true)) / 1e9;
            $this->lock = $this->adopt($store, $name, $from, \max(1.0, $left));
            $this->from = $from;
            $this->exported = '';
        }

        return $this->lock;
    }

    private function adopt(Store $store, string $name, ?Inheritable $from, float $ttl): Lock
    {
        if ($from === null) {
            return $store->adopt($this->exported, $ttl, false);
        }
        $from->inherit($name, \substr($this->exported, \strlen(self::OWNER)));
        $lock = $store->createLock($name, $ttl, false);

        return $lock->acquire() ? $lock : throw new LockLost('the hold is gone, or somebody else has adopted it');
    }

    /** Whether an acquire on its lock asks for what it has already. */
    public function isHeld(Store $store, string $name, ?Inheritable $from): bool
    {
        try {
            $state = $this->lock($store, $name, $from)->state();
        } catch (LockLost) {
            return false;
        }

        return $state === State::Held || $state === State::Expired;
    }

    /** The last TTL is over, though the store may not think so. */
    public function isOver(): bool
    {
        return $this->end !== null && \hrtime(true) >= $this->end;
    }

    /**
     * @param Lock $lock its own
     *
     * @throws SynlockException
     */
    public function putOff(Lock $lock, float $ttl, bool $hasLease): void
    {
        if (!$hasLease) {
            $lock->ensureHeld();

            return;
        }
        if ($this->fresh === null || $ttl > $this->fresh) {
            $lock->refresh(\max(0.001, $ttl));
        }
        $this->fresh = null;
        // The lease began when it was asked for, which may be a while ago.
        $left = \min($ttl, 1e9, $lock->getRemainingLifetime() ?? 1e9);
        $this->end = \hrtime(true) + (int) (\max(0.0, $left) * 1e9);
    }

    /** @return array<string, mixed> */
    public function __serialize(): array
    {
        if ($this->lock !== null) {
            // The copy that is used first has the lock, this one included.
            try {
                $this->exported = $this->from === null ? $this->lock->export() : $this->letGo($this->lock, $this->from);
            } catch (LockLost | NotHeld) {
                $this->exported = '';
            }
            $this->lock = null;
        }
        $left = $this->end === null ? null : ($this->end - \hrtime(true)) / 1e9;

        return ['hold' => $this->exported, 'end' => $left === null ? null : \microtime(true) + $left];
    }

    private function letGo(Lock $lock, Inheritable $from): string
    {
        $lock->ensureHeld();
        $owner = (string) $lock->ownerToken();
        $from->letGo($lock->name(), $owner);
        $lock->release();

        return self::OWNER . $owner;
    }

    /** @param array<string, mixed> $data */
    public function __unserialize(array $data): void
    {
        $this->exported = (string) $data['hold'];
        $this->end = isset($data['end']) ? \hrtime(true) + (int) (((float) $data['end'] - \microtime(true)) * 1e9) : null;
    }
}
