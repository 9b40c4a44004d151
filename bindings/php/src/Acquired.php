<?php

declare(strict_types=1);

namespace Synlock;

/** How the last acquire of a lock went. */
final class Acquired
{
    /**
     * @param float $waited    seconds from the call to the grant
     * @param bool  $contended somebody else held the lock first
     * @param bool  $recovered the owner before died while it held: what the lock protects may be half done
     * @param int   $attempts  how often the store was asked
     */
    public function __construct(
        public readonly float $waited,
        public readonly bool $contended,
        public readonly bool $recovered,
        public readonly int $attempts,
    ) {
    }
}
