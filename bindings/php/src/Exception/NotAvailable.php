<?php

declare(strict_types=1);

namespace Synlock\Exception;

/** libsynlock cannot be used in this PHP; the message says what to put where. */
final class NotAvailable extends SynlockException
{
}
