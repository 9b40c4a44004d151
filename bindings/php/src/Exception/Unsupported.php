<?php

// Generated from core/src/codes.rs by tests/php/generate.

declare(strict_types=1);

namespace Synlock\Exception;

/** The store cannot do this. */
final class Unsupported extends SynlockException
{
}
