<?php

// Generated from core/src/codes.rs by tests/php/generate.

declare(strict_types=1);

namespace Synlock\Exception;

/** The reply was lost: the store may or may not have acted. */
final class Uncertain extends SynlockException
{
}
