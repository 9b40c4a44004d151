<?php

declare(strict_types=1);

namespace Synlock\Symfony\Store;

use Synlock\Symfony\Internal\ClientStore;
use Synlock\Symfony\Internal\RedisClient;

/** Locks in the sorted sets that Symfony's store of this name (5.2 and later) keeps. Waiters are woken. */
class RedisStore extends ClientStore
{
    /**
     * @param \Redis|\RedisArray|\RedisCluster|\Predis\ClientInterface $redis its server is asked for by `save()`
     *
     * @throws \Synlock\Symfony\Exception\InvalidTtlException
     */
    public function __construct(private readonly object $redis, float $initialTtl = 300.0)
    {
        RedisClient::check($redis);
        parent::__construct($initialTtl);
    }

    protected function place(string $name): array
    {
        return RedisClient::place($this->redis, $name);
    }
}
