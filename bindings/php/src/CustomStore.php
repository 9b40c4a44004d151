<?php

declare(strict_types=1);

namespace Synlock;

/**
 * What an object must be able to do to be a store (`Store::custom()`), each in one step. It may also have
 * these methods, and can do what it has:
 *
 * - `extend(Ask $ask): bool` lengthens the owner's hold to `$ask->ttl` from now, never shortens it;
 * - `changeMode(Ask $ask): Attempt|bool` turns the owner's hold into one of `$ask->mode`, or throws `LockLost`;
 * - `inspect(Ask $ask): iterable<Holder>` tells of the holders of the name;
 * - `list(Ask $ask): iterable<Inspection>` tells of the locks whose names begin with the name;
 * - `breakLock(Ask $ask): bool` takes the lock from whoever holds it, false if nobody does;
 * - `ping(Ask $ask): void` throws unless the store can serve.
 *
 * It is called inside the calls that use its locks, and at no other time. What it throws is the previous of
 * the exception that the caller gets: of its own status if it is a `SynlockException` that is no mere outcome,
 * else `Uncertain` from methods that act (the hold is released by the next call) and `Unavailable` from those
 * that look.
 */
interface CustomStore
{
    /** May this owner hold the lock now? Asked again by an owner that holds it, it is a grant. */
    public function attempt(Ask $ask): Attempt|bool;

    /** Ends the owner's hold; false if it has none. */
    public function release(Ask $ask): bool;

    public function isHeld(Ask $ask): bool;
}
