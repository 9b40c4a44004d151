<?php

declare(strict_types=1);

namespace Synlock;

/** What a store can do; what it cannot is refused with `Unsupported`. */
final class Capabilities
{
    /**
     * @param string $store           the scheme of its URL
     * @param bool   $shared          shared (read) locks
     * @param bool   $promote         a sole reader can become the writer
     * @param bool   $permits         counting semaphores with more than one permit
     * @param bool   $ttl             leases: the store itself ends a hold after its TTL
     * @param bool   $freesOnDeath    a hold without TTL ends when its owner's process dies; otherwise with its lease
     * @param string $fence           class of the fencing tokens: `none`, `E` (one life of the server), `H`, `D` (durable)
     * @param bool   $wakes           waiters are woken rather than polling
     * @param bool   $fair            first come, first served
     * @param bool   $export          a hold can be handed to another process
     * @param bool   $list            `list` works; where it does not, `inspect` still may
     * @param bool   $breakLock       `breakLock` works
     * @param bool   $survivesRestart holds survive a restart of the server
     * @param string $clock           whose clock ends leases: `none`, `process`, `host` or `server`
     * @param string $scope           whom it keeps out: `process`, `host` or `cluster`
     */
    public function __construct(
        public readonly string $store,
        public readonly bool $shared,
        public readonly bool $promote,
        public readonly bool $permits,
        public readonly bool $ttl,
        public readonly bool $freesOnDeath,
        public readonly string $fence,
        public readonly bool $wakes,
        public readonly bool $fair,
        public readonly bool $export,
        public readonly bool $list,
        public readonly bool $breakLock,
        public readonly bool $survivesRestart,
        public readonly string $clock,
        public readonly string $scope,
    ) {
    }
}
