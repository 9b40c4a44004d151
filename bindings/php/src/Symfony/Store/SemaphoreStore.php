<?php

declare(strict_types=1);

namespace Synlock\Symfony\Store;

use Synlock\Symfony\SynlockStore;

/** Locks in the System V semaphores that Symfony's store of this name uses. Needs no PHP extension. */
class SemaphoreStore extends SynlockStore
{
    /**
     * @param string $keys how names become numbers: `xxh128` as Symfony 6.3 and later, `md5` as 5.4 and up to 6.2,
     *                     `crc32` as before July 2021
     */
    public function __construct(string $keys = 'xxh128')
    {
        parent::__construct('sysv:', ['dialect' => 'symfony', 'keys' => $keys]);
    }

    public static function isSupported(): bool
    {
        return true;
    }
}
