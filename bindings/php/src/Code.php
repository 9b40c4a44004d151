<?php

// Generated from core/src/codes.rs by tests/php/generate.

declare(strict_types=1);

namespace Synlock;

/** The status codes, the same numbers in every language. */
final class Code
{
    /** Success */
    public const OK = 0;
    /** Somebody else holds the lock */
    public const BUSY = 1;
    /** The lock was not free in time */
    public const TIMEOUT = 2;
    /** The lock was lost: it expired, was broken, or its store forgot it */
    public const LOST = 3;
    /** This handle does not hold the lock */
    public const NOT_HELD = 4;
    /** This handle holds the lock already */
    public const ALREADY_HELD = 5;
    /** The wait was cancelled */
    public const CANCELLED = 6;
    /** A signal or time slice gives the host a turn; call again to keep the place in the queue */
    public const INTERRUPTED = 7;
    /** A required pointer is NULL */
    public const NULL_POINTER = 100;
    /** An argument is out of its range */
    public const INVALID_ARGUMENT = 101;
    /** The store URL cannot be used */
    public const INVALID_URL = 102;
    /** No store has this URL scheme */
    public const UNKNOWN_SCHEME = 103;
    /** This build does not contain the store or option */
    public const NOT_IN_BUILD = 104;
    /** There is no option of this name */
    public const UNKNOWN_OPTION = 105;
    /** The store cannot do this */
    public const UNSUPPORTED = 106;
    /** The handle is stale, freed or forged */
    public const INVALID_HANDLE = 107;
    /** The lock belongs to the parent process; make a new handle in this one */
    public const FORKED_HANDLE = 108;
    /** Another call uses this lock handle at this moment */
    public const CONCURRENT_USE = 109;
    /** This process holds the lock already, and its policy forbids asking again */
    public const REENTERED = 110;
    /** Waiting would never end: the holders wait for each other */
    public const DEADLOCK = 111;
    /** The store cannot be reached or cannot serve now */
    public const UNAVAILABLE = 200;
    /** The reply was lost: the store may or may not have acted */
    public const UNCERTAIN = 201;
    /** The store refuses this user */
    public const PERMISSION = 202;
    /** The store answered something that cannot be right */
    public const PROTOCOL = 203;
    /** A resource of the store or of this process is used up */
    public const EXHAUSTED = 204;
    /** The file system or kernel reported an error */
    public const STORAGE = 205;
    /** A bug in synlock was contained */
    public const INTERNAL = 900;

    /** Number to name, exception class, and whether the call may be made again. */
    public const TABLE = [
        self::BUSY => ['BUSY', Exception\LockBusy::class, true],
        self::TIMEOUT => ['TIMEOUT', Exception\LockTimeout::class, true],
        self::LOST => ['LOST', Exception\LockLost::class, false],
        self::NOT_HELD => ['NOT_HELD', Exception\NotHeld::class, false],
        self::ALREADY_HELD => ['ALREADY_HELD', Exception\AlreadyHeld::class, false],
        self::CANCELLED => ['CANCELLED', Exception\LockCancelled::class, false],
        self::INTERRUPTED => ['INTERRUPTED', Exception\LockInterrupted::class, true],
        self::NULL_POINTER => ['NULL_POINTER', Exception\InvalidArgument::class, false],
        self::INVALID_ARGUMENT => ['INVALID_ARGUMENT', Exception\InvalidArgument::class, false],
        self::INVALID_URL => ['INVALID_URL', Exception\InvalidUrl::class, false],
        self::UNKNOWN_SCHEME => ['UNKNOWN_SCHEME', Exception\InvalidUrl::class, false],
        self::NOT_IN_BUILD => ['NOT_IN_BUILD', Exception\InvalidUrl::class, false],
        self::UNKNOWN_OPTION => ['UNKNOWN_OPTION', Exception\InvalidArgument::class, false],
        self::UNSUPPORTED => ['UNSUPPORTED', Exception\Unsupported::class, false],
        self::INVALID_HANDLE => ['INVALID_HANDLE', Exception\InvalidHandle::class, false],
        self::FORKED_HANDLE => ['FORKED_HANDLE', Exception\ForkedHandle::class, false],
        self::CONCURRENT_USE => ['CONCURRENT_USE', Exception\ConcurrentUse::class, false],
        self::REENTERED => ['REENTERED', Exception\Reentered::class, false],
        self::DEADLOCK => ['DEADLOCK', Exception\Deadlock::class, false],
        self::UNAVAILABLE => ['UNAVAILABLE', Exception\Unavailable::class, true],
        self::UNCERTAIN => ['UNCERTAIN', Exception\Uncertain::class, true],
        self::PERMISSION => ['PERMISSION', Exception\PermissionDenied::class, false],
        self::PROTOCOL => ['PROTOCOL', Exception\ProtocolError::class, false],
        self::EXHAUSTED => ['EXHAUSTED', Exception\Exhausted::class, true],
        self::STORAGE => ['STORAGE', Exception\StorageError::class, false],
        self::INTERNAL => ['INTERNAL', Exception\InternalError::class, false],
    ];
}
