<?php

declare(strict_types=1);

namespace Synlock\Laravel;

use Illuminate\Contracts\Cache\LockProvider as Contract;
use Synlock\Store;

/** Laravel's locks on any store of synlock. */
final class LockProvider implements Contract
{
    private ?Store $opened = null;

    /**
     * @param string|Store                              $store   a URL, or what it has opened
     * @param array<string, string|int|float|bool|null> $options of the URL
     */
    public function __construct(private readonly string|Store $store, private readonly array $options = [])
    {
    }

    /**
     * @param string      $name
     * @param int         $seconds 0: until release, and a day at most; where the store sees its holder die, and on
     *                             a quorum, until release or the end of the process
     * @param string|null $owner   its own, if a process must find the lock again by a word that it knows
     */
    public function lock($name, $seconds = 0, $owner = null): Lock
    {
        return new Lock($this->store(), (string) $name, (int) $seconds, $owner);
    }

    /**
     * The lock that another object, perhaps in another process, has taken.
     *
     * @param string $name
     * @param string $owner what its `owner()` said after it was taken
     */
    public function restoreLock($name, $owner): Lock
    {
        return new Lock($this->store(), (string) $name, 0, (string) $owner);
    }

    private function store(): Store
    {
        return $this->opened ??= $this->store instanceof Store ? $this->store : Store::open($this->store, $this->options);
    }
}
