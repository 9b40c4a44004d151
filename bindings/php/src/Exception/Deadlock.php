<?php

// Generated from core/src/codes.rs by tests/php/generate.

declare(strict_types=1);

namespace Synlock\Exception;

/** Waiting would never end: the holders wait for each other. */
final class Deadlock extends SynlockException
{
}
