<?php

// Generated from core/src/codes.rs by tests/php/generate.

declare(strict_types=1);

namespace Synlock\Exception;

/** The store refuses this user. */
final class PermissionDenied extends SynlockException
{
}
