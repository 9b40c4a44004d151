<?php

declare(strict_types=1);

namespace Synlock\Guard\Bundle;

use Synlock\Ask;
use Synlock\CustomStore;
use Synlock\Symfony\Exception\LockConflictedException;
use Synlock\Symfony\Key;
use Synlock\Symfony\PersistingStoreInterface;

/**
 * Any store of the component under the locks of a guard. All that such a store can do is to take, to lengthen and to give
 * back: nobody is told who holds, and nothing is taken away. A wait asks it again and again.
 *
 * @internal
 */
final class ComponentStore implements CustomStore
{
    public string $scope = 'cluster';
    /** @var array<string, Key> by owner */
    private array $keys = [];

    public function __construct(private readonly PersistingStoreInterface $store)
    {
    }

    public function attempt(Ask $ask): bool
    {
        // Kept whatever becomes of it: one that may be held is to be given back.
        $key = $this->keys[$ask->owner] ??= new Key($ask->name);
        $key->resetLifetime();
        try {
            $this->store->save($key);
            // The component's stores begin with a lease of their own.
            $this->store->putOffExpiration($key, $ask->ttl);
        } catch (LockConflictedException) {
            unset($this->keys[$ask->owner]);

            return false;
        }

        return true;
    }

    public function extend(Ask $ask): bool
    {
        $key = $this->keys[$ask->owner] ?? null;
        if ($key === null) {
            return false;
        }
        $key->resetLifetime();
        try {
            $this->store->putOffExpiration($key, $ask->ttl);
        } catch (LockConflictedException) {
            return false;
        }

        return true;
    }

    public function release(Ask $ask): bool
    {
        $key = $this->keys[$ask->owner] ?? null;
        if ($key === null) {
            return false;
        }
        $held = $this->store->exists($key);
        $this->store->delete($key);
        unset($this->keys[$ask->owner]);

        return $held;
    }

    public function isHeld(Ask $ask): bool
    {
        return isset($this->keys[$ask->owner]) && $this->store->exists($this->keys[$ask->owner]);
    }
}
