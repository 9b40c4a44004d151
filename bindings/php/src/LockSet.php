<?php

declare(strict_types=1);

namespace Synlock;

use FFI\CData;
use Synlock\Exception\SynlockException;
use Synlock\Internal\Deadline;
use Synlock\Internal\Native;

/**
 * Locks that are taken together, all or none, on any stores and in any modes.
 *
 * No two sets can wait for one another, whatever the order of their locks. While it waits, a set may hold some of
 * its locks, with leases that are renewed; it gives them back if it fails. The locks stay what they are: each has its
 * own fencing token, state and lease. What the set holds is released when it is destroyed or the request ends, unless
 * a lock's auto-release is off.
 */
final class LockSet
{
    /** @var non-empty-list<Lock> */
    private array $locks;
    private ?CData $handle = null;
    private Native $native;
    /** @var list<CData> the locks' handles of which the set was made */
    private array $members = [];
    /** @var list<string|null> the owner tokens of what it took last, in the order of the locks */
    private array $owners = [];
    private CData $acquired;
    /** The acquire has asked for the locks. */
    private bool $isAsked = false;

    /**
     * @throws SynlockException `InvalidArgument` for no lock at all, more than 1024, and two on one name
     */
    public function __construct(Lock ...$locks)
    {
        if ($locks === []) {
            throw Native::invalid('a set has one lock at least');
        }
        $this->locks = \array_values($locks);
        $this->make();
    }

    public function __destruct()
    {
        if ($this->handle !== null) {
            $this->native->ffi->synlock_set_free($this->handle);
            $this->each('warn');
        }
    }

    private function __clone()
    {
    }

    public function __serialize(): array
    {
        throw new Exception\Unsupported('a set of locks cannot be serialized', Code::UNSUPPORTED, 'UNSUPPORTED');
    }

    /**
     * Takes all locks. On a set that has taken them already: true, and its leases are renewed.
     *
     * @param bool       $blocking wait until all are free
     * @param float|null $timeout  wait so many seconds at most; null: the timeout of the first lock, or for ever.
     *                             Under a web server a wait without a bound throws `LockTimeout` after
     *                             `Runtime::maxWait()` seconds
     *
     * @return bool whether all are held now; if not, none is
     *
     * @throws SynlockException for trouble of a store, never for a lock that is not free; `AlreadyHeld` if one is held by
     *                          hand, or was brought into another mode
     */
    public function acquire(bool $blocking = false, ?float $timeout = null): bool
    {
        if (!$blocking && $timeout !== null) {
            throw Native::invalid('a timeout needs blocking: true');
        }
        $this->make();
        $deadline = $blocking ? $this->deadline($timeout) : null;

        $this->isAsked = false;
        try {
            $status = $this->call($deadline);
            $granted = match ($status) {
                Code::OK => true,
                Code::BUSY, Code::TIMEOUT => $this->refused($deadline),
                Code::ALREADY_HELD => $this->again(),
                default => throw $this->native->failure($status),
            };
            $this->each('tell');

            return $granted;
        } catch (\Throwable $thrown) {
            // A signal handler may have thrown: what its caller never hears of is not held, nor waited for.
            if ($this->isAsked) {
                $this->native->forget();
                $this->native->ffi->synlock_set_abandon($this->handle, null);
            }
            $this->each('tell');
            throw $thrown;
        }
    }

    /**
     * Gives all locks back, whatever became of each.
     *
     * @throws SynlockException what the first said that was not released as it should be: `LockLost`, `Uncertain`;
     *                          `NotHeld` if none was held
     */
    public function release(): void
    {
        $status = $this->native->ffi->synlock_set_release($this->handle, $this->native->errorSlot);
        if ($status === Code::OK) {
            $this->owners = [];
        }
        $this->check($status);
    }

    /**
     * Asks the stores, and throws unless all locks are held.
     *
     * @throws SynlockException `NotHeld`, `LockLost`, trouble of a store
     */
    public function ensureHeld(): void
    {
        $status = $this->native->ffi->synlock_set_ensure_held($this->handle, $this->native->errorSlot);
        $this->check($status);
    }

    /**
     * Whether all locks are held, by the stores' own word.
     *
     * @throws SynlockException for trouble of a store
     */
    public function isAcquired(): bool
    {
        foreach ($this->locks as $lock) {
            if (!$lock->isAcquired()) {
                return false;
            }
        }

        return true;
    }

    /**
     * Lengthens all leases to `$ttl` seconds from now, or to the locks' own TTLs. Never shortens one.
     *
     * @throws SynlockException `NotHeld`, `LockLost`, `Uncertain`, `Unsupported`
     */
    public function refresh(?float $ttl = null): void
    {
        foreach ($this->locks as $lock) {
            $lock->refresh($ttl);
        }
    }

    /** @return non-empty-list<Lock> in the order in which they were given */
    public function locks(): array
    {
        return $this->locks;
    }

    /** How the last acquire that was granted went; null before the first. */
    public function lastAcquired(): ?Acquired
    {
        return $this->acquired->attempts === 0 ? null : Acquired::of($this->acquired);
    }

    /** Makes the handle, anew if those of its locks have changed since, or went with their request. */
    private function make(): void
    {
        $native = Native::current();
        $members = \array_map(static fn (Lock $lock): CData => $lock->handle(), $this->locks);
        if ($this->handle !== null && $this->native === $native && !$native->ended && $members === $this->members) {
            return;
        }
        $count = \count($members);
        $array = $native->ffi->new("synlock_lock*[{$count}]");
        foreach ($members as $at => $member) {
            $array[$at] = $member;
        }
        $slot = $native->ffi->new('synlock_set*');
        [$from, $place] = [\FFI::addr($array), \FFI::addr($slot)];
        $from = $native->ffi->cast('synlock_lock **', $from);
        $status = $native->ffi->synlock_set_new($from, $count, $native->scope, $place, $native->errorSlot);
        $native->check($status);
        $this->acquired ??= $native->sized('synlock_acquired');
        $old = $this->handle;
        [$this->native, $this->handle, $this->members, $this->owners] = [$native, $slot, $members, []];
        if ($old !== null) {
            $native->ffi->synlock_set_free($old);
        }
    }

    private function deadline(?float $timeout): Deadline
    {
        if ($timeout === null) {
            $milliseconds = $this->native->ffi->synlock_lock_timeout_ms($this->members[0]);
            $timeout = $milliseconds < 0 ? null : $milliseconds / 1000;
        }

        return Deadline::in($timeout);
    }

    /** A wait comes back on a signal and every 200 ms; made again, it goes on. */
    private function call(?Deadline $deadline): int
    {
        $native = $this->native;
        $acquired = \FFI::addr($this->acquired);
        do {
            $native->forget();
            $left = $deadline?->left() ?? 0;
            $this->isAsked = true;
            $status = $native->ffi->synlock_set_acquire($this->handle, $left, null, $acquired, $native->errorSlot);
        } while ($status === Code::INTERRUPTED);
        if ($status === Code::OK) {
            $this->owners = \array_map(static fn (Lock $lock): ?string => $lock->ownerToken(), $this->locks);
        }

        return $status;
    }

    private function refused(?Deadline $deadline): bool
    {
        $this->native->forget();
        $names = \array_map(static fn (Lock $lock): string => "\"{$lock->name()}\"", $this->locks);
        $names = \implode(', ', $names);

        return $deadline !== null && $deadline->end("not all of the locks {$names} are free");
    }

    /** An acquire on a set of which something is held: fine if all is, as the set took it. */
    private function again(): bool
    {
        $failure = $this->native->failure(Code::ALREADY_HELD);
        foreach ($this->locks as $at => $lock) {
            if (!$lock->isAcquired() || !$lock->isInOwnMode() || $lock->ownerToken() !== ($this->owners[$at] ?? null)) {
                throw $failure;
            }
        }
        $this->refresh();

        return true;
    }

    private function check(int $status): void
    {
        if ($status === Code::OK) {
            $this->each('tell');

            return;
        }
        // Read first: whoever is told may use synlock.
        $failure = $this->native->failure($status);
        $this->each('warn');
        throw $failure;
    }

    /** @param 'tell'|'warn' $what */
    private function each(string $what): void
    {
        $stores = [];
        foreach ($this->locks as $lock) {
            $stores[\spl_object_id($lock->store())] = $lock->store();
        }
        foreach ($stores as $store) {
            $store->{$what}();
        }
    }
}
