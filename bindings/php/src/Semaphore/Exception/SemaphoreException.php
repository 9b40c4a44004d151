<?php

declare(strict_types=1);

namespace Synlock\Semaphore\Exception;

/** What the manager of semaphores throws. The previous exception, if any, is synlock's own. */
class SemaphoreException extends \RuntimeException
{
}
