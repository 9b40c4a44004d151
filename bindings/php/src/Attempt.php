<?php

declare(strict_types=1);

namespace Synlock;

/** What a custom store answers to an attempt, where true and false are not enough. */
final class Attempt
{
    private function __construct(
        public readonly bool $granted,
        public readonly ?int $fencingToken,
        public readonly bool $recovered,
        public readonly ?float $until,
        public readonly ?float $poll,
    ) {
    }

    /**
     * @param bool $recovered the owner before died while it held
     */
    public static function granted(?int $fencingToken = null, bool $recovered = false): self
    {
        return new self(true, $fencingToken, $recovered, null, null);
    }

    /**
     * @param float|null $until seconds until the holder's lease can end, if known
     * @param float|null $poll  seconds after which to ask again; null: 0.05
     */
    public static function busy(?float $until = null, ?float $poll = null): self
    {
        return new self(false, null, false, $until, $poll);
    }
}
