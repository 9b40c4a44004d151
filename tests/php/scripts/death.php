<?php

declare(strict_types=1);

namespace Synlock\Tests;

/**
 * SIGKILL at any instruction of a script, and of it alone: to be preloaded, since it calls the C library. Killed from
 * without, a worker may be in FPM's own code, with the spinlock of its scoreboard, which no other gets then any more.
 */
final class Death
{
    private const CLIB = <<<'C'
        struct sigevent { void *value; int signo, notify; int rest[12]; };
        struct itimerspec { long every_s, every_ns, after_s, after_ns; };
        int timer_create(int clock, struct sigevent *event, void **timer);
        int timer_settime(void *timer, int flags, const struct itimerspec *when, void *old);
        int timer_delete(void *timer);
        C;

    private const SIGKILL = 9;
    private const CLOCK_MONOTONIC = 1;

    private function __construct(private readonly \FFI $libc, private readonly \FFI\CData $timer)
    {
    }

    /** After so many microseconds, unless it is averted before. */
    public static function in(int $micros): self
    {
        $libc = \FFI::cdef(self::CLIB);
        $event = $libc->new('struct sigevent');
        $event->signo = self::SIGKILL;
        $when = $libc->new('struct itimerspec');
        [$when->after_s, $when->after_ns] = [intdiv($micros, 1_000_000), $micros % 1_000_000 * 1000];
        $timer = $libc->new('void *');
        if ($libc->timer_create(self::CLOCK_MONOTONIC, \FFI::addr($event), \FFI::addr($timer)) || $libc->timer_settime($timer, 0, \FFI::addr($when), null)) {
            throw new \RuntimeException('no timer to be had');
        }

        return new self($libc, $timer);
    }

    public function avert(): void
    {
        $this->libc->timer_delete($this->timer);
    }
}
