<?php

declare(strict_types=1);

namespace Synlock\Laravel;

use Illuminate\Cache\Lock as Base;
use Illuminate\Contracts\Cache\LockTimeoutException;
use Synlock\Exception\ForkedHandle;
use Synlock\Exception\InvalidArgument;
use Synlock\Exception\LockLost;
use Synlock\Exception\NotHeld;
use Synlock\Lock as Hold;
use Synlock\State;
use Synlock\Store;

/**
 * A lock of Laravel: not released when its object goes or the request ends, but by `release()`, its seconds, or (on
 * stores that see it) the death of the process. Its owner says in words what another process needs to restore it.
 */
final class Lock extends Base
{
    /** Seconds that stand for "until somebody removes it", as in Laravel's table. */
    private const DAY = 86_400.0;
    /** So many may be kept before those that have ended are looked for. */
    private const MANY = 100;
    /** @var array<string, array{Hold, ?string}> held by this process: place, name and owner => hold, and its export */
    private static array $holds = [];
    private ?Hold $hold = null;
    /** The owner is no word of the program's, and may become one that can be adopted. */
    private readonly bool $isNameless;

    public function __construct(private readonly Store $store, string $name, int $seconds, ?string $owner = null)
    {
        $this->isNameless = $owner === null;
        parent::__construct($name, $seconds, $owner);
    }

    /** False also for a lock that this object holds, as in Laravel. */
    public function acquire(): bool
    {
        return $this->take(null);
    }

    /**
     * Waits, and is woken.
     *
     * @param int           $seconds
     * @param callable|null $callback
     *
     * @return mixed
     *
     * @throws LockTimeoutException
     */
    public function block($seconds, $callback = null)
    {
        if (!$this->take((float) $seconds)) {
            throw new LockTimeoutException("Nobody let go of \"{$this->name}\" in {$seconds} seconds.");
        }
        if (!\is_callable($callback)) {
            return true;
        }
        try {
            return $callback();
        } finally {
            $this->release();
        }
    }

    /** Whether it was held. */
    public function release(): bool
    {
        $hold = $this->find();
        try {
            $hold?->release();

            return $hold !== null;
        } catch (LockLost | NotHeld | ForkedHandle) {
            return false;
        } finally {
            $this->hold = null;
            unset(self::$holds[$this->key()]);
        }
    }

    /**
     * Makes a lease last so long from now, and never shortens it; whether it was held.
     *
     * @param int|null $seconds null: as many as it was made with
     */
    public function refresh($seconds = null): bool
    {
        try {
            $hold = $this->find();
            $ttl = $this->lease((int) ($seconds ?? $this->seconds));
            $ttl === null ? $hold?->ensureHeld() : $hold?->refresh($ttl);

            return $hold !== null;
        } catch (LockLost | NotHeld | ForkedHandle) {
            return false;
        }
    }

    /** Whether anybody holds it. */
    public function isLocked(): bool
    {
        return $this->store->isLocked($this->name);
    }

    /** Takes it from whoever holds it, who finds it lost. */
    public function forceRelease(): void
    {
        $this->store->breakLock($this->name);
    }

    protected function getCurrentOwner(): ?string
    {
        return $this->find()?->isAcquired() ? $this->owner : null;
    }

    /** @param float|null $wait seconds; null: only now */
    private function take(?float $wait): bool
    {
        if ($this->hold?->state() === State::Held) {
            return false;
        }
        $hold = $this->store->createLock($this->name, $this->lease($this->seconds), false);
        if (!($wait === null ? $hold->acquire() : $hold->acquire(true, $wait))) {
            return false;
        }
        $this->hold = $hold;
        if ($this->isNameless && $this->store->capabilities()->export) {
            $this->owner = $this->exported($hold);
        }
        if (\count(self::$holds) >= self::MANY) {
            self::$holds = \array_filter(self::$holds, static fn (array $kept): bool => $kept[0]->state() === State::Held);
        }
        $this->keep($hold);

        return true;
    }

    private function keep(Hold $hold): void
    {
        self::$holds[$this->key()] = [$hold, $this->store->capabilities()->export ? $this->exported($hold) : null];
    }

    /**
     * The lease of so many seconds. Zero is to outlast its process, which may only have queued the job that is to
     * release it; where the store sees its holder die, and on a quorum, whose leases are bounded, it cannot.
     */
    private function lease(int $seconds): ?float
    {
        $can = $this->store->capabilities();
        if ($seconds > 0) {
            return $can->ttl ? (float) $seconds : null;
        }

        return $can->ttl && !$can->freesOnDeath && $can->store !== 'quorum' ? self::DAY : null;
    }

    /** Its hold, taken over from where it was taken. */
    private function find(): ?Hold
    {
        [$kept, $text] = self::$holds[$this->key()] ?? [null, null];
        $this->hold ??= $kept;
        $state = $this->hold?->state();
        if ($state === State::Forked) {
            [$this->hold, $text] = [null, null]; // the parent's, unless its owner is known here
        } elseif ($state === State::Idle) {
            $this->hold = null; // its handle went with the request of a worker that lives on
        }
        $text ??= \str_starts_with($this->owner, 'synlock1:') ? $this->owner : null;
        if ($this->hold === null && $text !== null) {
            try {
                // Adopting never shortens.
                $this->hold = $this->store->adopt($text, 1.0, false);
                $this->keep($this->hold); // it has another owner token now
            } catch (LockLost | InvalidArgument) {
                return null;
            }
        }

        return $this->hold;
    }

    /** What `export()` would write, without letting go of the hold. */
    private function exported(Hold $hold): string
    {
        $fields = [$this->store->fingerprint(), $this->name, 'x', (string) $hold->ownerToken(), (string) $hold->fencingToken()];

        return 'synlock1:' . \implode(':', \array_map(\rawurlencode(...), $fields));
    }

    private function key(): string
    {
        return "{$this->store->fingerprint()}\0{$this->name}\0{$this->owner}";
    }
}
