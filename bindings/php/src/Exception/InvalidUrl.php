<?php

// Generated from core/src/codes.rs by tests/php/generate.

declare(strict_types=1);

namespace Synlock\Exception;

/**
 * - The store URL cannot be used.
 * - No store has this URL scheme.
 * - This build does not contain the store or option.
 */
final class InvalidUrl extends SynlockException
{
}
