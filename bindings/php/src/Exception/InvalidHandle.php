<?php

// Generated from core/src/codes.rs by tests/php/generate.

declare(strict_types=1);

namespace Synlock\Exception;

/** The handle is stale, freed or forged. */
final class InvalidHandle extends SynlockException
{
}
