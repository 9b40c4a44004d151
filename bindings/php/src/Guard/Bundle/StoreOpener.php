<?php

declare(strict_types=1);

namespace Synlock\Guard\Bundle;

use Synlock\CustomStore;
use Synlock\Internal\Native;
use Synlock\Store;
use Synlock\Symfony\Internal\RedisClient;
use Synlock\Symfony\Internal\Url;

/**
 * From the bundle's configuration to stores. In the dialect `ixarlie` they keep what Symfony's stores keep.
 *
 * @internal called by the container
 */
final class StoreOpener
{
    /** @param array<array-key, mixed> $arguments of the type */
    public static function open(string $type, string $dialect, array $arguments): Store
    {
        if ($type === 'custom') {
            return self::custom($arguments[0]);
        }

        return Store::open(...self::place($type, $dialect, $arguments));
    }

    private static function custom(object $service): Store
    {
        return match (true) {
            $service instanceof Store => $service,
            $service instanceof CustomStore => Store::custom($service, 'custom'),
            default => throw Native::invalid('the service of a custom mutex store is a Synlock\Store or a Synlock\CustomStore, not ' . $service::class),
        };
    }

    /**
     * @return array{string, array<string, string|int|float|bool|null>} URL and options
     */
    private static function place(string $type, string $dialect, array $arguments): array
    {
        [$url, $options] = match ($type) {
            'flock' => [self::folder($arguments[0]), []],
            // The original ran on versions of the component that made numbers of names by MD5 or, older, by CRC-32.
            'semaphore' => ['sysv:', $dialect === 'native' ? [] : ['keys' => 'md5']],
            'redis' => self::redis($arguments[0]),
            'memcached' => self::memcached($arguments[0]),
            'combined' => [self::combined($dialect, ...$arguments), []],
            'synlock' => [$arguments[0], []],
        };
        unset($options['dialect']);
        $isPeers = $dialect !== 'native' && !\in_array($type, ['combined', 'synlock'], true);

        return [$url, ($isPeers ? ['dialect' => 'symfony'] : []) + $options];
    }

    private static function folder(string $folder): string
    {
        if (!\is_dir($folder)) {
            @\mkdir($folder, 0o777, true); // what is wrong with it is said when it is used
        }

        return 'flock:' . Url::path($folder);
    }

    private static function redis(object $client): array
    {
        RedisClient::check($client);

        return RedisClient::place($client, '');
    }

    private static function memcached(object $client): array
    {
        if (!$client instanceof \Memcached || \count($servers = $client->getServerList()) !== 1) {
            throw Native::invalid('the client of a mutex store memcached is a \Memcached with one server');
        }
        ['host' => $host, 'port' => $port] = $servers[0];

        return [
            $port === 0 ? 'memcached:' . Url::path($host) : "memcached://{$host}:{$port}",
            ['prefix' => $client->getOption(\Memcached::OPT_PREFIX_KEY) ?: null],
        ];
    }

    /** @param list<array{string, array<array-key, mixed>}> $members types and their arguments */
    private static function combined(string $dialect, array $members, string $strategy): string
    {
        $query = '';
        foreach ($members as [$type, $arguments]) {
            [$url, $options] = self::place($type, $dialect, $arguments);
            $own = \http_build_query(\array_filter($options, static fn (mixed $value): bool => $value !== null), encoding_type: \PHP_QUERY_RFC3986);
            $url .= $own === '' ? '' : (\str_contains($url, '?') ? '&' : '?') . $own;
            $query .= 'member=' . \rawurlencode($url) . '&';
        }

        return "quorum:?{$query}strategy={$strategy}";
    }
}
