<?php

// Generated from core/src/codes.rs by tests/php/generate.

declare(strict_types=1);

namespace Synlock\Exception;

/** Somebody else holds the lock. */
final class LockBusy extends SynlockException
{
}
