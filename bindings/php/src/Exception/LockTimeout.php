<?php

// Generated from core/src/codes.rs by tests/php/generate.

declare(strict_types=1);

namespace Synlock\Exception;

/** The lock was not free in time. */
final class LockTimeout extends SynlockException
{
}
