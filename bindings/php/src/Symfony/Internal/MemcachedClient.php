<?php

declare(strict_types=1);

namespace Synlock\Symfony\Internal;

/**
 * Where a Memcached client keeps its items, as URL and options.
 *
 * @internal
 */
final class MemcachedClient
{
    /**
     * @param array{host: string, port: int} $server one of its list
     *
     * @return array{string, array{prefix: string|null}}
     */
    public static function place(\Memcached $client, array $server): array
    {
        ['host' => $host, 'port' => $port] = $server;

        return [
            // A socket has a port too, which means nothing.
            $host[0] === '/' ? 'memcached:' . Url::path($host) : "memcached://{$host}:{$port}",
            ['prefix' => $client->getOption(\Memcached::OPT_PREFIX_KEY) ?: null],
        ];
    }
}
