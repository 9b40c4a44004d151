<?php

declare(strict_types=1);

namespace Synlock\Laravel;

use Illuminate\Contracts\Cache\LockProvider as Contract;
use Illuminate\Contracts\Cache\Store;

/**
 * A cache store of Laravel with the locks of synlock, for everything that asks the cache for locks: `Cache::lock`,
 * `withoutOverlapping`, unique jobs, atomic middleware.
 */
final class CacheStore implements Store, Contract
{
    use Wraps;

    /** Around a cache store of any kind: one that knows tags stays one that does. */
    public static function around(Store $cache, LockProvider $locks): self|TaggableCacheStore
    {
        return \method_exists($cache, 'tags') ? new TaggableCacheStore($cache, $locks) : new self($cache, $locks);
    }
}
