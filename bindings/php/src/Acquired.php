<?php

declare(strict_types=1);

namespace Synlock;

use FFI\CData;

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

    /**
     * @internal
     */
    public static function of(CData $how): self
    {
        return new self($how->waited_ms / 1000, $how->contended === 1, $how->recovered === 1, $how->attempts);
    }
}
