<?php

declare(strict_types=1);

namespace Synlock\Semaphore\Bundle;

use Synlock\Semaphore\Exception\SemaphoreException;
use Synlock\Store;
use Synlock\Symfony\Internal\MemcachedClient;
use Synlock\Symfony\Internal\RedisClient;

/**
 * From the bundle's `adapter` to a store.
 *
 * @internal called by the container
 */
final class Adapter
{
    /**
     * @param Store|string $adapter  a store, its URL, or an adapter of the original
     * @param object|null  $client   whose server is meant
     * @param string       $cacheDir where the original's flock adapter keeps its files
     */
    public static function open(Store|string $adapter, ?object $client, string $cacheDir): Store
    {
        if ($adapter instanceof Store) {
            return $adapter;
        }

        return match ($adapter) {
            // Its keys, so that the original and we exclude each other.
            'avtonom_semaphore.adapter.redis', 'millwright_semaphore.adapter.redis' => self::redis($client),
            'millwright_semaphore.adapter.memcached' => self::memcached($client),
            'millwright_semaphore.adapter.sem' => Store::open('sysv:'),
            'millwright_semaphore.adapter.flock' => Store::open('flock:' . \implode('/', \array_map('rawurlencode', \explode('/', $cacheDir))) . '/semaphore'),
            // APC never excluded anybody; shared memory does.
            'millwright_semaphore.adapter.apc' => Store::open('shm:avtonom-semaphore'),
            default => Store::open($adapter),
        };
    }

    private static function redis(?object $client): Store
    {
        if ($client === null) {
            throw new SemaphoreException('The adapter redis needs the service of a client: avtonom_semaphore.adapter_redis_client. Or give a URL: adapter: "redis://localhost/2?dialect=plain".');
        }
        RedisClient::check($client);
        [$url, $options] = RedisClient::place($client, '');

        return Store::open($url, ['dialect' => 'plain'] + $options);
    }

    private static function memcached(?object $client): Store
    {
        if (!$client instanceof \Memcached || \count($servers = $client->getServerList()) !== 1) {
            throw new SemaphoreException('The adapter memcached needs the service of a Memcached client with one server: avtonom_semaphore.adapter_memcached_client.');
        }

        return Store::open(...MemcachedClient::place($client, $servers[0]));
    }
}
