<?php

declare(strict_types=1);

namespace Synlock;

/** What a custom store is asked about. */
final class Ask
{
    /**
     * @param string     $name  the lock's name; of `list()` the beginning of names
     * @param string     $owner whose hold: 32 hexadecimal digits, never used for two; whoever knows them may
     *                          release the lock
     * @param string     $mode  `exclusive`, `shared` or `permits`; of `changeMode()` the new one
     * @param int        $take  permits to take, 0 unless the mode is `permits`
     * @param int        $of    permits that there are
     * @param float|null $ttl   seconds that the hold lasts without being lengthened; null without a lease
     * @param float|null $time  seconds that the answer may take; null leaves it to the store
     * @param string|null $label words for whoever inspects the lock
     * @param bool       $waits whether the caller will ask again should the lock be taken
     *
     * @internal made by synlock
     */
    public function __construct(
        public readonly string $name,
        public readonly string $owner,
        public readonly string $mode,
        public readonly int $take,
        public readonly int $of,
        public readonly ?float $ttl,
        public readonly ?float $time,
        public readonly ?string $label,
        public readonly bool $waits,
    ) {
    }
}
