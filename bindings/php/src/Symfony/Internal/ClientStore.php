<?php

declare(strict_types=1);

namespace Synlock\Symfony\Internal;

use Synlock\Store;
use Synlock\Symfony\SynlockStore;

/**
 * A store of the server that a client object is connected to, over connections of synlock's own.
 *
 * @internal
 */
abstract class ClientStore extends SynlockStore
{
    /** @var array<string, Store> */
    private array $stores = [];

    public function __construct(float $initialTtl)
    {
        parent::__construct('', [], $initialTtl);
    }

    /**
     * The URL and the options of the server that the client keeps this name on.
     *
     * @return array{string, array<string, string|int|null>}
     */
    abstract protected function place(string $name): array;

    protected function storeFor(string $name): Store
    {
        $place = $this->place($name);

        return $this->stores[\serialize($place)] ??= Store::open(...$place);
    }
}
