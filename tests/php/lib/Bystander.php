<?php

declare(strict_types=1);

namespace Synlock\Tests;

/** How long the machine itself lets processes wait, who want nothing of a lock: what a bound is widened by. */
final class Bystander
{
    /** So many processes run one after the other between a cause and what a test sees of it. */
    private const STEPS = 4;

    private static ?Process $process = null;
    private static int $owner = 0;

    /** Begins to watch, until the next `within()`. */
    public static function watch(): void
    {
        if (self::$owner !== getmypid()) {
            self::$process = new Process([ROOT . '/tests/support/bystander.py']);
            self::$owner = getmypid();
        }
        self::longest();
    }

    /** Fails if `$took` is more than the bound (of full load; at any other what is soon) and what the machine took meanwhile. */
    public static function within(float $bound, float $took, string $what): void
    {
        $machine = self::longest();
        ok(
            $took <= soon($bound) + self::STEPS * $machine,
            sprintf('%s after %.3f s, not within %.3f s (the machine itself stood still for %.3f s)', $what, $took, $bound, $machine),
        );
    }

    private static function longest(): float
    {
        self::$process->send('');

        return (float) self::$process->line(60);
    }
}
