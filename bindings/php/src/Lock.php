<?php

declare(strict_types=1);

namespace Synlock;

use FFI\CData;
use Synlock\Exception\SynlockException;
use Synlock\Internal\Deadline;
use Synlock\Internal\Native;
use Synlock\Internal\Options;

/**
 * A lock on one name in one store, made by `Store::createLock()`. Reusable; what it holds is
 * released when it is destroyed or the request ends, unless auto-release is off.
 *
 * After `pcntl_fork`, a lock that held or waited throws `ForkedHandle` in the child, at once; one
 * that was idle works there as a new one.
 */
final class Lock
{
    private const SHARED = 1;
    private const PERMITS = 2;

    private CData $handle;
    private Native $native;
    /** Of the native side, for those who come often. */
    private \FFI|Internal\Calm $ffi;
    private CData $errorSlot;
    /** Where acquires say how they went. */
    private CData $acquired;
    private CData $acquiredSlot;
    /** The handle was made for a shared hold. */
    private bool $madeShared;
    /** It was made for another hold than the lock's own. */
    private bool $madeOther = false;
    /** The acquire has asked for the lock. */
    private bool $isAsked = false;

    /**
     * @internal use Store::createLock()
     *
     * @param CData|null $handle a handle that holds already
     */
    public function __construct(
        private readonly Store $store,
        private readonly string $name,
        private readonly Options $options,
        ?CData $handle = null,
    ) {
        $this->madeShared = $options->shared;
        $this->acquired = $store->native()->sized('synlock_acquired');
        $this->acquiredSlot = \FFI::addr($this->acquired);
        if ($handle === null) {
            $this->make($options->shared);
        } else {
            $this->setHandle(Native::current(), $handle);
        }
    }

    public function __destruct()
    {
        if (isset($this->handle) && !$this->isExempt()) {
            $this->native->ffi->synlock_lock_free($this->handle);
            $this->store->warn();
        }
    }

    private function __clone()
    {
    }

    public function __serialize(): array
    {
        throw new Exception\Unsupported('a lock cannot be serialized; export() hands it to another process', Code::UNSUPPORTED, 'UNSUPPORTED');
    }

    /**
     * Takes the lock. On an object that holds it already: true, and its lease is renewed; on one
     * that holds a shared lock: promotes it.
     *
     * @param bool       $blocking wait until the lock is free
     * @param float|null $timeout  wait so many seconds at most; null: the timeout of the lock, or for
     *                             ever. Under a web server a wait without a bound throws
     *                             `LockTimeout` after `Runtime::maxWait()` seconds
     *
     * @return bool whether the lock is held now
     *
     * @throws SynlockException for trouble of the store, never for a lock that is not free
     */
    public function acquire(bool $blocking = false, ?float $timeout = null): bool
    {
        $status = null;
        if (!$blocking && $timeout === null && !$this->madeOther && !$this->store->isLogged) {
            // What is free is taken in one call. A handle that went with its request says so.
            try {
                $status = $this->ffi->synlock_lock_acquire_with($this->handle, 0, null, $this->acquiredSlot, $this->errorSlot);
                if ($status === Code::OK) {
                    return true;
                }
            } catch (\Throwable $thrown) {
                $this->takeBack();
                throw $thrown;
            }
            if ($status === Code::INVALID_HANDLE && $this->native->ended) {
                $this->native->forget();
                $status = null;
            }
        }
        if ($this->native->ended || $this->madeOther) {
            $this->prepare($this->options->shared);
        }

        return $this->taken($blocking, $timeout, $this->options->shared, $status);
    }

    /**
     * Takes the lock shared with other readers. On an object that holds it exclusively: demotes it.
     * Arguments and result as for `acquire()`.
     *
     * @throws SynlockException
     */
    public function acquireRead(bool $blocking = false, ?float $timeout = null): bool
    {
        if ($this->native->ended || !$this->madeShared || $this->options->of !== null) {
            $this->prepare(true);
        }

        return $this->taken($blocking, $timeout, true, null);
    }

    /**
     * Lengthens the lease to `$ttl` seconds from now, or to the lock's own TTL. Never shortens it.
     * On a store without leases only checks that the lock is still held, and a `$ttl` is `Unsupported`.
     *
     * @throws SynlockException `NotHeld`, `LockLost`, `Uncertain`, `Unsupported`
     */
    public function refresh(?float $ttl = null): void
    {
        $native = $this->native;
        $milliseconds = $ttl === null ? 0 : Options::ttl($ttl);
        $status = $native->ffi->synlock_lock_refresh($this->handle, $milliseconds, $native->errorSlot);
        $this->check($status);
    }

    /**
     * Gives the lock back. `wasLate()` tells whether its lease had run out by then.
     *
     * @throws SynlockException `NotHeld` if it was not held; `LockLost` if it was lost meanwhile;
     *                          `Uncertain` if the reply was lost (it goes on in the background)
     */
    public function release(): void
    {
        $status = $this->ffi->synlock_lock_release($this->handle, $this->errorSlot);
        if ($status !== Code::OK || $this->store->isLogged) {
            $this->check($status);
        }
    }

    /**
     * Whether the last `release()` that did not throw came after the lease had run out, though nobody
     * had taken the lock: somebody might have.
     */
    public function wasLate(): bool
    {
        return $this->native->ffi->synlock_lock_was_late($this->handle) === 1;
    }

    /**
     * Asks the store whether the lock is held. A statement about the past by the time it is read.
     *
     * @throws SynlockException for trouble of the store
     */
    public function isAcquired(): bool
    {
        $native = $this->native;
        $status = $native->ffi->synlock_lock_ensure_held($this->handle, $native->errorSlot);
        if ($status === Code::LOST || $status === Code::NOT_HELD || ($status === Code::INVALID_HANDLE && $this->isGone())) {
            $native->forget();

            return false;
        }
        $this->check($status);

        return true;
    }

    /**
     * Asks the store, and throws unless the lock is held.
     *
     * @throws SynlockException `NotHeld`, `LockLost`, trouble of the store
     */
    public function ensureHeld(): void
    {
        $native = $this->native;
        $status = $native->ffi->synlock_lock_ensure_held($this->handle, $native->errorSlot);
        $this->check($status);
    }

    /** Whether the lease has run out or the lock was lost, as far as this process knows. */
    public function isExpired(): bool
    {
        $state = $this->state();

        return $state === State::Expired || $state === State::Lost;
    }

    /** Seconds of the lease that are left at least; null without a lease. */
    public function getRemainingLifetime(): ?float
    {
        $left = $this->native->ffi->synlock_lock_remaining_ms($this->handle);

        return $left < 0 ? null : $left / 1000;
    }

    public function state(): State
    {
        if ($this->isGone()) {
            return State::Idle;
        }

        $state = $this->native->ffi->synlock_lock_state($this->handle);

        return State::from($state);
    }

    /** How the last acquire that was granted went; null before the first. */
    public function lastAcquired(): ?Acquired
    {
        $how = $this->acquired;

        return $how->attempts === 0 ? null : Acquired::of($how);
    }

    /**
     * The owner token of the hold, 32 hexadecimal digits: whoever has it may release the lock. Null
     * if nothing is held.
     */
    public function ownerToken(): ?string
    {
        $native = $this->native;
        $token = $native->ffi->new('char[33]');
        if ($native->ffi->synlock_lock_owner_token($this->handle, $token, 33, null, null) !== Code::OK) {
            return null;
        }

        return \FFI::string($token);
    }

    /**
     * A stream that becomes readable when the hold is lost or its lease runs out, for `stream_select`
     * and event loops. Not to be read. On the command line only: PHP opens descriptors nowhere else.
     *
     * @return resource
     *
     * @throws SynlockException
     */
    public function lostStream()
    {
        $native = $this->native;
        $fd = $native->ffi->new('int32_t');
        $place = \FFI::addr($fd);
        $status = $native->ffi->synlock_lock_lost_fd($this->handle, $place, $native->errorSlot);
        $this->check($status);
        $stream = \PHP_SAPI === 'cli' ? @\fopen("php://fd/{$fd->cdata}", 'r') : false;
        if ($stream === false) {
            throw new Exception\Unsupported('descriptors can be opened on the command line only', Code::UNSUPPORTED, 'UNSUPPORTED');
        }

        return $stream;
    }

    /** The fencing token of the hold: each is greater than those of earlier holds; null if the store gives none. */
    public function fencingToken(): ?int
    {
        $token = $this->native->ffi->synlock_lock_fencing_token($this->handle);

        return $token > 0 ? $token : null;
    }

    /**
     * Turns a shared hold into the exclusive one. False, and the shared hold stays, while others read. Of two
     * that wait for it without a bound neither gets it: give a timeout, and release when it is refused.
     *
     * @throws SynlockException `NotHeld`, `LockLost`, `Unsupported`, trouble of the store
     */
    public function promote(bool $blocking = false, ?float $timeout = null): bool
    {
        $deadline = $this->deadline($blocking, $timeout);
        $native = $this->native;
        do {
            // In slices, so that PHP can run its signal handlers between them.
            $status = $native->ffi->synlock_lock_promote($this->handle, $deadline?->slice() ?? 0, $native->errorSlot);
            if ($status !== Code::BUSY && $status !== Code::TIMEOUT) {
                $this->check($status);

                return true;
            }
            $native->forget();
        } while ($deadline !== null && !$deadline->isOver());

        return $deadline !== null && $deadline->end("others read \"{$this->name}\"");
    }

    /**
     * Turns the exclusive hold into a shared one.
     *
     * @throws SynlockException `NotHeld`, `LockLost`, `Unsupported`
     */
    public function demote(): void
    {
        $native = $this->native;
        $status = $native->ffi->synlock_lock_demote($this->handle, $native->errorSlot);
        $this->check($status);
    }

    public function name(): string
    {
        return $this->name;
    }

    public function store(): Store
    {
        return $this->store;
    }

    /**
     * Lets go of the hold without releasing it, as text that another process or language can adopt
     * (`Store::adopt()`) while the lease lasts.
     *
     * @throws SynlockException `NotHeld`, `LockLost`, `Unsupported`
     */
    public function export(): string
    {
        $native = $this->native;
        $length = $native->ffi->new('size_t');
        // Without a buffer it tells the size that it needs, and keeps the hold.
        $place = \FFI::addr($length);
        $native->ffi->synlock_lock_export($this->handle, null, 0, $place, null);
        $size = \max(1, $length->cdata);
        $text = $native->ffi->new("char[{$size}]");
        $status = $native->ffi->synlock_lock_export($this->handle, $text, $size, $place, $native->errorSlot);
        $this->check($status);

        return \FFI::string($text, $length->cdata);
    }

    /**
     * @internal use Store::adopt()
     */
    public static function adopt(Store $store, string $exported, Options $options): self
    {
        $native = $store->native();
        $adopt = static fn (CData $struct, CData $lock): int
            => $native->ffi->synlock_store_adopt($store->handle(), $exported, $struct, $lock, $native->errorSlot);
        // The text is synlock1:fingerprint:name:…
        $name = \rawurldecode(\explode(':', $exported)[2] ?? '');
        $handle = $native->makeLock($options, false, $adopt);
        try {
            return new self($store, $name, $options, $handle);
        } catch (\Throwable $thrown) {
            $native->takeBack($handle);
            throw $thrown;
        }
    }

    private function setHandle(Native $native, CData $handle): void
    {
        $this->native = $native;
        $this->ffi = $native->ffi;
        $this->errorSlot = $native->errorSlot;
        $this->handle = $handle;
    }

    private function make(bool $shared): void
    {
        $native = $this->store->native();
        $store = $this->store->handle();
        $length = \strlen($this->name);
        $new = fn (CData $struct, CData $lock): int
            => $native->ffi->synlock_lock_new($store, $this->name, $length, $struct, $lock, $native->errorSlot);
        $handle = $native->makeLock($this->options, $shared, $new);
        if (isset($this->handle)) {
            $this->native->ffi->synlock_lock_free($this->handle);
        }
        $this->setHandle($native, $handle);
        $this->madeShared = $shared;
        $this->madeOther = $shared !== $this->options->shared;
    }

    /**
     * For sets: the handle of the lock's own mode, made anew if it went with its request.
     *
     * @internal
     */
    public function handle(): CData
    {
        if ($this->native->ended || $this->madeOther) {
            $this->prepare($this->options->shared);
        }

        return $this->handle;
    }

    /**
     * For sets: whether a hold is in the mode that the lock was made for.
     *
     * @internal
     */
    public function isInOwnMode(): bool
    {
        $mode = $this->options->of !== null ? self::PERMITS : (int) $this->options->shared;

        return $this->native->ffi->synlock_lock_mode($this->handle) === $mode;
    }

    /** Makes the handle anew if it went with its request, or if it is idle and of the other mode. */
    private function prepare(bool $shared): void
    {
        if ($shared && $this->options->of !== null) {
            throw Native::invalid('permits are not shared');
        }
        if ($this->isGone()) {
            $this->make($shared);
        } elseif ($this->madeShared !== $shared) {
            $state = $this->state();
            if ($state === State::Idle || $state === State::Lost) {
                $this->make($shared);
            }
        }
    }

    /** The handle was freed at the end of its request. */
    private function isGone(): bool
    {
        return $this->native->ended && $this->native->ffi->synlock_lock_auto_release($this->handle) < 0;
    }

    /** Held with auto-release off, and kept by nothing but this process: its handle stays. */
    private function isExempt(): bool
    {
        return $this->options->autoRelease !== true
            && ($this->options->ttl === null || $this->options->renew === true)
            && $this->native->ffi->synlock_lock_auto_release($this->handle) === 0
            && $this->state() === State::Held;
    }

    /**
     * Takes the lock, and tells the logger.
     *
     * @param int|null $status what an attempt without waiting has come to already
     */
    private function taken(bool $blocking, ?float $timeout, bool $shared, ?int $status): bool
    {
        $this->isAsked = false;
        try {
            $granted = $this->take($blocking, $timeout, $shared, $status);
            $this->store->tell();

            return $granted;
        } catch (\Throwable $thrown) {
            if ($this->isAsked) {
                $this->takeBack();
            }
            $this->store->tell();
            throw $thrown;
        }
    }

    /** @param int|null $status what an attempt without waiting has come to already */
    private function take(bool $blocking, ?float $timeout, bool $shared, ?int $status = null): bool
    {
        $native = $this->native;
        if (!$blocking) {
            if ($timeout !== null) {
                throw Native::invalid('a timeout needs blocking: true');
            }
            $status ??= $this->attempt(0);
            if ($status === Code::OK) {
                return true;
            }
            $deadline = null;
        } else {
            $deadline = $this->deadline(true, $timeout);
            $status = $this->wait($deadline);
        }

        return match ($status) {
            Code::OK => true,
            Code::BUSY, Code::TIMEOUT => $this->refused($deadline),
            Code::ALREADY_HELD => $this->again($blocking, $timeout, $shared),
            default => throw $this->failure($status),
        };
    }

    private function deadline(bool $blocking, ?float $timeout): ?Deadline
    {
        if ($blocking) {
            if ($timeout === null) {
                $milliseconds = $this->native->ffi->synlock_lock_timeout_ms($this->handle);
                $timeout = $milliseconds < 0 ? null : $milliseconds / 1000;
            }

            return Deadline::in($timeout);
        }
        if ($timeout !== null) {
            throw Native::invalid('a timeout needs blocking: true');
        }

        return null;
    }

    private function refused(?Deadline $deadline): bool
    {
        $this->native->forget();

        return $deadline !== null && $deadline->end("the lock \"{$this->name}\" is not free");
    }

    /** The call comes back on a signal and every 200 ms; made again, it keeps its place in the queue. */
    private function wait(Deadline $deadline): int
    {
        do {
            $this->native->forget();
            $status = $this->attempt($deadline->left());
        } while ($status === Code::INTERRUPTED);

        return $status;
    }

    private function attempt(int $milliseconds): int
    {
        $this->isAsked = true;

        return $this->ffi->synlock_lock_acquire_with($this->handle, $milliseconds, null, $this->acquiredSlot, $this->errorSlot);
    }

    /** A signal handler may have thrown: what its caller never hears of is not held, nor waited for, unless it was before. */
    private function takeBack(): void
    {
        $this->native->forget();
        $this->native->ffi->synlock_lock_abandon($this->handle, null);
    }

    /** An acquire on an object that holds already. */
    private function again(bool $blocking, ?float $timeout, bool $shared): bool
    {
        $native = $this->native;
        $native->forget();
        try {
            if ($this->options->of === null) {
                $isShared = $native->ffi->synlock_lock_mode($this->handle) === self::SHARED;
                if ($isShared && !$shared) {
                    return $this->promote($blocking, $timeout);
                }
                if (!$isShared && $shared) {
                    $this->demote();

                    return true;
                }
            }
            $this->refresh();

            return true;
        } catch (Exception\LockLost) {
            // It was lost unnoticed: the handle is free to ask anew, or to be made for the mode that is asked for now.
            $this->prepare($shared);

            return $this->take($blocking, $timeout, $shared);
        }
    }

    private function check(int $status): void
    {
        if ($status === Code::OK) {
            $this->store->tell();

            return;
        }
        // Read first: whoever is told may use synlock.
        $failure = $this->failure($status);
        $this->store->warn();
        throw $failure;
    }

    private function failure(int $status): SynlockException
    {
        if ($status === Code::INVALID_HANDLE && $this->isGone()) {
            $this->native->forget();

            return new Exception\NotHeld('the request in which the lock was held is over', Code::NOT_HELD, 'NOT_HELD', $this->store->url());
        }

        return $this->native->failure($status);
    }
}
