<?php

// Generated from core/src/codes.rs by tests/php/generate.

declare(strict_types=1);

namespace Synlock\Exception;

/** This handle does not hold the lock. */
final class NotHeld extends SynlockException
{
}
