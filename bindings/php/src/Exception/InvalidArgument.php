<?php

// Generated from core/src/codes.rs by tests/php/generate.

declare(strict_types=1);

namespace Synlock\Exception;

/**
 * - A required pointer is NULL.
 * - An argument is out of its range.
 * - There is no option of this name.
 */
final class InvalidArgument extends SynlockException
{
}
