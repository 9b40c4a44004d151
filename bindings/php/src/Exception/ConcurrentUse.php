<?php

// Generated from core/src/codes.rs by tests/php/generate.

declare(strict_types=1);

namespace Synlock\Exception;

/** Another call uses this lock handle at this moment. */
final class ConcurrentUse extends SynlockException
{
}
