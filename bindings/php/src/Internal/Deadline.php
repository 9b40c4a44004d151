<?php

declare(strict_types=1);

namespace Synlock\Internal;

use Synlock\Code;
use Synlock\Exception\LockTimeout;
use Synlock\Runtime;

/**
 * When a wait ends, and what its end means: false if the caller gave the bound, an exception if a
 * web server's limit did.
 *
 * @internal
 */
final class Deadline
{
    /** How long a call that signals do not end may keep PHP from running its handlers, ms. */
    private const SLICE = 200;

    private function __construct(private readonly ?int $at, private readonly bool $byCaller, private readonly ?float $limit)
    {
    }

    public static function in(?float $seconds): self
    {
        $limit = $seconds === null || $seconds === \INF ? Runtime::maxWait() : null;
        if ($seconds === null || $seconds === \INF) {
            return new self($limit === null ? null : self::at($limit), false, $limit);
        }

        return new self(self::at($seconds), true, null);
    }

    private static function at(float $seconds): int
    {
        $milliseconds = Native::milliseconds($seconds, 'a timeout');
        // Capped so that nanoseconds stay an integer; 30 years are for ever.
        $milliseconds = \min($milliseconds, 1_000_000_000_000);

        return \hrtime(true) + $milliseconds * 1_000_000;
    }

    /** Milliseconds left, -1 for ever. */
    public function left(): int
    {
        if ($this->at === null) {
            return -1;
        }
        $left = $this->at - \hrtime(true);

        return $left > 0 ? \intdiv($left + 999_999, 1_000_000) : 0;
    }

    public function slice(): int
    {
        $left = $this->left();

        return $left < 0 ? self::SLICE : \min($left, self::SLICE);
    }

    public function isOver(): bool
    {
        return $this->at !== null && \hrtime(true) >= $this->at;
    }

    /**
     * @throws LockTimeout if the caller gave no bound, and so need not look at the answer
     */
    public function end(string $what): bool
    {
        if ($this->byCaller) {
            return false;
        }
        throw new LockTimeout(
            "{$what}: the wait had no bound, and was ended after {$this->limit} seconds (Runtime::maxWait)",
            Code::TIMEOUT,
            'TIMEOUT',
            retriable: true,
        );
    }
}
