<?php

declare(strict_types=1);

namespace Synlock\Laravel;

use Illuminate\Contracts\Cache\Store;

/**
 * The values of one cache store, the locks of synlock.
 *
 * @internal
 */
trait Wraps
{
    public function __construct(private readonly Store $cache, private readonly LockProvider $locks)
    {
    }

    public function lock($name, $seconds = 0, $owner = null): Lock
    {
        return $this->locks->lock($name, $seconds, $owner);
    }

    public function restoreLock($name, $owner): Lock
    {
        return $this->locks->restoreLock($name, $owner);
    }

    public function get($key)
    {
        return $this->cache->get($key);
    }

    public function many(array $keys)
    {
        return $this->cache->many($keys);
    }

    public function put($key, $value, $seconds)
    {
        return $this->cache->put($key, $value, $seconds);
    }

    public function putMany(array $values, $seconds)
    {
        return $this->cache->putMany($values, $seconds);
    }

    public function add($key, $value, $seconds)
    {
        if (\method_exists($this->cache, 'add')) {
            return $this->cache->add($key, $value, $seconds);
        }

        return $this->cache->get($key) === null && $this->cache->put($key, $value, $seconds);
    }

    public function touch($key, $seconds)
    {
        return $this->cache->touch($key, $seconds);
    }

    public function increment($key, $value = 1)
    {
        return $this->cache->increment($key, $value);
    }

    public function decrement($key, $value = 1)
    {
        return $this->cache->decrement($key, $value);
    }

    public function forever($key, $value)
    {
        return $this->cache->forever($key, $value);
    }

    public function forget($key)
    {
        return $this->cache->forget($key);
    }

    public function flush()
    {
        return $this->cache->flush();
    }

    public function getPrefix()
    {
        return $this->cache->getPrefix();
    }

    /** What this cache can and others cannot. */
    public function __call(string $method, array $arguments): mixed
    {
        return $this->cache->$method(...$arguments);
    }
}
