<?php

// Generated from core/src/codes.rs by tests/php/generate.

declare(strict_types=1);

namespace Synlock\Exception;

/** The lock was lost: it expired, was broken, or its store forgot it. */
final class LockLost extends SynlockException
{
}
