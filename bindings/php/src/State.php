<?php

declare(strict_types=1);

namespace Synlock;

/** What a lock object's claim has come to, as far as this process knows. */
enum State: int
{
    /** Nothing is held or asked for. */
    case Idle = 0;
    /** An acquire is under way. */
    case Acquiring = 1;
    case Held = 2;
    /** The lease has run out by this process' clock. */
    case Expired = 3;
    /** The store said that the lock is not held any more. */
    case Lost = 4;
    /** A release was sent and its reply was lost; it goes on in the background. */
    case Releasing = 5;
    /** Held or asked for in the parent of this process. */
    case Forked = 6;
}
