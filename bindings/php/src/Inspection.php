<?php

declare(strict_types=1);

namespace Synlock;

/** A lock as `Store::inspect()` and `Store::list()` show it. */
final class Inspection
{
    /**
     * @param string       $name    bytes
     * @param list<Holder> $holders empty if nobody holds it
     * @param int|null     $waiters how many wait, if the store knows
     */
    public function __construct(
        public readonly string $name,
        public readonly array $holders,
        public readonly ?int $waiters,
    ) {
    }
}
