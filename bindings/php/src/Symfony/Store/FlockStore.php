<?php

declare(strict_types=1);

namespace Synlock\Symfony\Store;

use Synlock\Symfony\Exception\InvalidArgumentException;
use Synlock\Symfony\Internal\Url;
use Synlock\Symfony\SynlockStore;

/** Locks on the files that Symfony's store of this name locks. Waiters are woken; readers share. */
class FlockStore extends SynlockStore
{
    /**
     * @param string|null $lockPath        directory, made if it is not there; null: the system's temporary one
     * @param bool        $removeOnRelease remove the file of an exclusive lock that ends: everywhere or nowhere
     *
     * @throws InvalidArgumentException if nothing can be written there
     */
    public function __construct(?string $lockPath = null, bool $removeOnRelease = false)
    {
        $lockPath ??= \sys_get_temp_dir();
        if (!\is_dir($lockPath) && !@\mkdir($lockPath, 0o777, true) && !\is_dir($lockPath)) {
            throw new InvalidArgumentException("The FlockStore directory \"{$lockPath}\" does not exist and cannot be made.");
        }
        if (!\is_writable($lockPath)) {
            throw new InvalidArgumentException("The FlockStore directory \"{$lockPath}\" is not writable.");
        }
        parent::__construct('flock:' . Url::path((string) \realpath($lockPath)), ['dialect' => 'symfony', 'remove' => $removeOnRelease ?: null]);
    }
}
