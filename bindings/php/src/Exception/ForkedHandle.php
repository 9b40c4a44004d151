<?php

// Generated from core/src/codes.rs by tests/php/generate.

declare(strict_types=1);

namespace Synlock\Exception;

/** The lock belongs to the parent process; make a new handle in this one. */
final class ForkedHandle extends SynlockException
{
}
