<?php

// Generated from core/src/codes.rs by tests/php/generate.

declare(strict_types=1);

namespace Synlock\Exception;

/** A bug in synlock was contained. */
final class InternalError extends SynlockException
{
}
