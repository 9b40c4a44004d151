<?php

// Generated from core/src/codes.rs by tests/php/generate.

declare(strict_types=1);

namespace Synlock\Exception;

/** The file system or kernel reported an error. */
final class StorageError extends SynlockException
{
}
