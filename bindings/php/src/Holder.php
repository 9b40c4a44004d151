<?php

declare(strict_types=1);

namespace Synlock;

/** One holder of a lock; null is what the store does not know. */
final class Holder
{
    /**
     * @param string     $owner        first digits of the owner token, or what the store has in its place
     * @param string     $mode         `exclusive`, `shared` or `permits`
     * @param int        $permits      permits held; 1 otherwise
     * @param float|null $remaining    seconds until the hold ends unless refreshed
     * @param float|null $held         seconds since it was taken
     */
    public function __construct(
        public readonly string $owner,
        public readonly string $mode,
        public readonly int $permits,
        public readonly ?string $host,
        public readonly ?int $pid,
        public readonly ?string $label,
        public readonly ?float $remaining,
        public readonly ?float $held,
        public readonly ?int $fencingToken,
    ) {
    }
}
