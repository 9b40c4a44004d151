<?php

declare(strict_types=1);

namespace Synlock\Laravel;

use Illuminate\Cache\TaggableStore;
use Illuminate\Contracts\Cache\LockProvider as Contract;

/** `CacheStore` around a store that knows tags, which Laravel sees by this method and this parent. */
final class TaggableCacheStore extends TaggableStore implements Contract
{
    use Wraps;

    /**
     * The values of these tags. Locks have none: ask the cache itself for them.
     *
     * @param array|mixed $names
     *
     * @return \Illuminate\Cache\TaggedCache
     */
    public function tags($names)
    {
        return $this->cache->tags(\is_array($names) ? $names : \func_get_args());
    }
}
