<?php

// Generated from core/src/codes.rs by tests/php/generate.

declare(strict_types=1);

namespace Synlock\Exception;

/** A resource of the store or of this process is used up. */
final class Exhausted extends SynlockException
{
}
