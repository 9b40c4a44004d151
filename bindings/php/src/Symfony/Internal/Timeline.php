<?php

declare(strict_types=1);

namespace Synlock\Symfony\Internal;

use Symfony\Component\Stopwatch\Stopwatch;
use Symfony\Component\Stopwatch\StopwatchEvent;

/**
 * Waits and holds, on the timeline of the profiler where there is one.
 *
 * @internal
 */
final class Timeline
{
    /** @param string $kind of locks, for people */
    public function __construct(private readonly ?Stopwatch $stopwatch = null, private readonly string $kind = 'mutex')
    {
    }

    public function start(string $what, string $lock): ?StopwatchEvent
    {
        return $this->stopwatch?->start("{$this->kind} {$what}: {$lock}", 'synlock');
    }

    /** A section of the stopwatch may be over, and the event with it. */
    public function stop(?StopwatchEvent $event): void
    {
        if ($event?->isStarted()) {
            $event->stop();
        }
    }
}
