<?php

// Generated from core/src/codes.rs by tests/php/generate.

declare(strict_types=1);

namespace Synlock\Exception;

/** The store answered something that cannot be right. */
final class ProtocolError extends SynlockException
{
}
