<?php

declare(strict_types=1);

namespace Synlock\Symfony\Store;

use Synlock\Symfony\Exception\InvalidTtlException;
use Synlock\Symfony\Exception\LockStorageException;
use Synlock\Symfony\Internal\ClientStore;
use Synlock\Symfony\Internal\MemcachedClient;

/** Locks in the items that Symfony's store of this name keeps, on the server that the client has for each name. */
class MemcachedStore extends ClientStore
{
    public function __construct(private readonly \Memcached $memcached, int $initialTtl = 300)
    {
        if ($initialTtl < 1) {
            throw new InvalidTtlException("MemcachedStore expects an initial TTL of a second at least, not {$initialTtl}.");
        }
        parent::__construct($initialTtl);
    }

    public static function isSupported(): bool
    {
        return \extension_loaded('memcached');
    }

    protected function place(string $name): array
    {
        // An answer there is for keys that memcached takes only; the others are refused later, in words.
        $server = @$this->memcached->getServerByKey($name) ?: $this->memcached->getServerList()[0] ?? null;
        if ($server === null) {
            throw new LockStorageException('The Memcached client has no server.');
        }
        [$url, $options] = MemcachedClient::place($this->memcached, $server);

        return [$url, ['dialect' => 'symfony'] + $options];
    }
}
