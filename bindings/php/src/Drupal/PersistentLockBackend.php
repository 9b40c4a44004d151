<?php

declare(strict_types=1);

namespace Synlock\Drupal;

use Synlock\Session;

/**
 * Drupal's service `lock.persistent`: its locks outlive the request, and any request may release them. The
 * store must keep a lock without its process (Redis, Memcached, tables): others throw `Unsupported`.
 */
class PersistentLockBackend extends LockBackend
{
    /** The id that all persistent locks of a site have. */
    public const ID = 'persistent';

    protected function createSession(): Session
    {
        return $this->store->createSession(self::ID);
    }
}
