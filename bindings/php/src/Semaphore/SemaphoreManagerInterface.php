<?php

declare(strict_types=1);

namespace Synlock\Semaphore;

use Synlock\Semaphore\Exception\SemaphoreAcquireException;
use Synlock\Semaphore\Exception\SemaphoreReleaseException;

/** What Avtonom's manager of semaphores can do. */
interface SemaphoreManagerInterface
{
    /**
     * Acquires the lock of a key.
     *
     * @param array<mixed>|object|string $srcKey
     * @param string|null                $path   where the program asks from, `__METHOD__`; null: `file:line`
     * @param int|float|null             $ttl    lease in seconds
     *
     * @return string the name of the lock
     *
     * @throws SemaphoreAcquireException
     */
    public function acquire($srcKey, $path = null, $ttl = null);

    /**
     * Releases it.
     *
     * @param array<mixed>|object|string $srcKey
     * @param string|null                $path
     *
     * @return void
     *
     * @throws SemaphoreReleaseException
     */
    public function release($srcKey, $path = null);

    /** @return SemaphoreKeyStorageInterface */
    public function getKeyStorage();
}
