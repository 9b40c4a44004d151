<?php

declare(strict_types=1);

namespace Synlock\Semaphore;

/** For services that use the manager; the container calls `setSemaphore`. */
trait SemaphoreTrait
{
    /** @var SemaphoreManagerInterface */
    protected $semaphore;

    /**
     * Acquires the lock of a key.
     *
     * @param array<mixed>|object|string $key
     * @param string|null                $path
     * @param int|float|null             $ttl  seconds
     */
    protected function lockAcquire($key, $path = null, $ttl = 60)
    {
        $this->semaphore->acquire($key, $path, $ttl);
    }

    /**
     * Releases it.
     *
     * @param array<mixed>|object|string $key
     * @param string|null                $path
     *
     * @return void
     */
    protected function lockRelease($key, $path = null)
    {
        $this->semaphore->release($key, $path);
    }

    /** @return SemaphoreKeyStorageInterface */
    protected function getLockKeyStorage()
    {
        return $this->semaphore->getKeyStorage();
    }

    /** @return SemaphoreManagerInterface */
    public function getSemaphore()
    {
        return $this->semaphore;
    }

    /** @param SemaphoreManagerInterface $semaphore */
    public function setSemaphore($semaphore)
    {
        $this->semaphore = $semaphore;
    }
}
