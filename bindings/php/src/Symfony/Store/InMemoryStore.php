<?php

declare(strict_types=1);

namespace Synlock\Symfony\Store;

use Synlock\Symfony\SynlockStore;

/** Locks of this object, in this process; for tests. */
class InMemoryStore extends SynlockStore
{
    public function __construct()
    {
        parent::__construct('memory:symfony-' . \bin2hex(\random_bytes(8)));
    }
}
