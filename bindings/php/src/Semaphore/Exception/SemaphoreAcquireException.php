<?php

declare(strict_types=1);

namespace Synlock\Semaphore\Exception;

/** A key was not acquired. */
class SemaphoreAcquireException extends SemaphoreException
{
}
