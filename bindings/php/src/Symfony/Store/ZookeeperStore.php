<?php

declare(strict_types=1);

namespace Synlock\Symfony\Store;

use Synlock\Store;
use Synlock\Symfony\Exception\InvalidArgumentException;
use Synlock\Symfony\Internal\Nodes;
use Synlock\Symfony\SynlockStore;

/**
 * Locks in the nodes that Symfony's store of this name keeps, in the client's session and polled;
 * `new SynlockStore('zookeeper://HOST,…?dialect=symfony')` waits on watches, and needs no extension.
 */
class ZookeeperStore extends SynlockStore
{
    public function __construct(\Zookeeper $zookeeper)
    {
        // A key remembers each hold by its store's name, and holds of a session travel nowhere.
        parent::__construct(Store::custom(new Nodes($zookeeper), 'zookeeper-' . \bin2hex(\random_bytes(8))));
    }

    /**
     * @param string $dsn `zookeeper://HOST:PORT,…`
     *
     * @throws InvalidArgumentException
     */
    public static function createConnection(string $dsn): \Zookeeper
    {
        if (!\preg_match('~^zookeeper://([^/?]+)~', $dsn, $found)) {
            throw new InvalidArgumentException("Unsupported DSN: \"{$dsn}\".");
        }

        return new \Zookeeper($found[1]);
    }
}
