<?php

declare(strict_types=1);

namespace Synlock\Semaphore\Exception;

/** A key was not released: it was not held, or was lost meanwhile. */
class SemaphoreReleaseException extends SemaphoreException
{
}
