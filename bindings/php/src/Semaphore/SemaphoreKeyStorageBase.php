<?php

declare(strict_types=1);

namespace Synlock\Semaphore;

/** No keys: what an application without a storage of its own gets. */
class SemaphoreKeyStorageBase implements SemaphoreKeyStorageInterface
{
}
