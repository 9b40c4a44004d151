<?php

// Generated from core/src/codes.rs by tests/php/generate.

declare(strict_types=1);

namespace Synlock\Exception;

/** This process holds the lock already, and its policy forbids asking again. */
final class Reentered extends SynlockException
{
}
