<?php

declare(strict_types=1);

namespace Synlock\Tests;

/** Ports for servers of one's own, reserved until this process ends: see support/ports.py. */
final class Ports
{
    private static ?Process $process = null;
    private static int $owner = 0;

    public static function free(): int
    {
        if (self::$owner !== getmypid()) {
            self::$process = new Process([ROOT . '/tests/support/ports.py']);
            self::$owner = getmypid();
        }
        self::$process->send('');

        return (int) self::$process->line(60);
    }
}
