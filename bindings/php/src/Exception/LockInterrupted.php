<?php

// Generated from core/src/codes.rs by tests/php/generate.

declare(strict_types=1);

namespace Synlock\Exception;

/** A signal or time slice gives the host a turn; call again to keep the place in the queue. */
final class LockInterrupted extends SynlockException
{
}
