<?php

namespace Application\Avtonom\SemaphoreBundle;

use Synlock\Semaphore\SemaphoreTrait;

class Sample
{
    use SemaphoreTrait;

    public function run($param1, $param2, $paramN, \Closure $inside)
    {
        $lockKeyStorage = $this->getLockKeyStorage();
        $lockKey = [$lockKeyStorage::MY_KEY, $param1, $param2, $paramN];
        $this->lockAcquire($lockKey, __METHOD__, 10 /* 10 - if you personal lock expire time in seconds. default 60 */);

        // Do something thread-safe
        $inside($lockKey);

        $this->lockRelease($lockKey, __METHOD__);
    }
}
