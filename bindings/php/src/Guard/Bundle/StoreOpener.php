<?php

declare(strict_types=1);

namespace Synlock\Guard\Bundle;

use Symfony\Component\Lock\LockFactory as SymfonyFactory;
use Symfony\Component\Lock\Store\FlockStore as SymfonyFlock;
use Symfony\Component\Lock\Store\MemcachedStore as SymfonyMemcached;
use Symfony\Component\Lock\Store\RedisStore as SymfonyRedis;
use Symfony\Component\Lock\Strategy\ConsensusStrategy as SymfonyConsensus;
use Symfony\Component\Lock\Strategy\UnanimousStrategy as SymfonyUnanimous;
use Synlock\CustomStore;
use Synlock\Internal\Native;
use Synlock\Store;
use Synlock\Symfony\Internal\ClientStore;
use Synlock\Symfony\Internal\MemcachedClient;
use Synlock\Symfony\Internal\RedisClient;
use Synlock\Symfony\Internal\Url;
use Synlock\Symfony\LockFactory;
use Synlock\Symfony\PersistingStoreInterface;
use Synlock\Symfony\Store\FlockStore;
use Synlock\Symfony\Store\MemcachedStore;
use Synlock\Symfony\Store\RedisStore;
use Synlock\Symfony\Strategy\ConsensusStrategy;
use Synlock\Symfony\Strategy\UnanimousStrategy;
use Synlock\Symfony\SynlockStore;

/**
 * From the bundle's configuration to stores. In the dialect `ixarlie` they keep what Symfony's stores keep.
 *
 * @internal called by the container
 */
final class StoreOpener
{
    /** Of locks on the component's stores, in ms, as there. */
    private const TTL = 300_000;

    /** @param array<array-key, mixed> $arguments of the type */
    public static function open(string $type, string $dialect, array $arguments): Store
    {
        if ($type === 'custom') {
            return self::behind($arguments[0]);
        }

        return Store::open(...self::place($type, $dialect, $arguments));
    }

    /**
     * The store behind a service of one's own, or of a configuration of 2.1, which lists factories of locks: theirs or
     * ours. The server or folder of Symfony's stores is read from them where that is possible; the others are called.
     */
    public static function behind(object $service): Store
    {
        return match (true) {
            $service instanceof Store => $service,
            $service instanceof CustomStore => Store::custom($service, 'custom'),
            $service instanceof ClientStore && self::isSpread($service) => throw Native::invalid('the locks of a guard lie on one server, and the client of ' . $service::class . ' has several'),
            $service instanceof SynlockStore => (fn (): Store => $this->storeFor('synlock'))->call($service),
            $service instanceof LockFactory, $service instanceof SymfonyFactory => self::behind(self::read($service, 'store')),
            $service instanceof SymfonyRedis => self::behind(new RedisStore(self::read($service, 'redis'))),
            $service instanceof SymfonyMemcached => self::behind(new MemcachedStore(self::read($service, 'memcached'))),
            $service instanceof SymfonyFlock => self::behind(new FlockStore(self::read($service, 'lockPath'))),
            $service instanceof PersistingStoreInterface => Store::custom(new ComponentStore($service), 'component', ['ttl' => self::TTL]),
            default => throw Native::invalid('i_xarlie_mutex: a ' . $service::class . ' is no store, and no factory of locks'),
        };
    }

    /** What a class of Symfony's keeps to itself. */
    private static function read(object $of, string $property): mixed
    {
        return (fn (): mixed => $this->{$property})->bindTo($of, $of::class)();
    }

    private static function isSpread(ClientStore $store): bool
    {
        $client = (fn (): mixed => $this->redis ?? $this->memcached ?? null)->bindTo($store, $store::class)();

        return $client instanceof \RedisArray || $client instanceof \Memcached && \count($client->getServerList()) > 1;
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

        return MemcachedClient::place($client, $servers[0]);
    }

    /** @param list<array{string, array<array-key, mixed>}> $members types and their arguments */
    private static function combined(string $dialect, array $members, string|object $strategy): string
    {
        $strategy = match (true) {
            \is_string($strategy) => $strategy,
            $strategy instanceof UnanimousStrategy, $strategy instanceof SymfonyUnanimous => 'unanimous',
            $strategy instanceof ConsensusStrategy, $strategy instanceof SymfonyConsensus => 'consensus',
            default => throw Native::invalid('the strategy of a combined mutex store is unanimity or a majority, not a ' . $strategy::class),
        };
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
