<?php

// Generated from core/src/codes.rs by tests/php/generate.

declare(strict_types=1);

namespace Synlock\Exception;

/** This handle holds the lock already. */
final class AlreadyHeld extends SynlockException
{
}
