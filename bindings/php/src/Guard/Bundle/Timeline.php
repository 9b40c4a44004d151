<?php

declare(strict_types=1);

namespace Synlock\Guard\Bundle;

use Symfony\Component\Stopwatch\Stopwatch;
use Symfony\Component\Stopwatch\StopwatchEvent;

/** Waits and holds, on the timeline of the profiler where there is one. */
final class Timeline
{
    public function __construct(private readonly ?Stopwatch $stopwatch = null)
    {
    }

    public function start(string $what, string $lock): ?StopwatchEvent
    {
        return $this->stopwatch?->start("mutex {$what}: {$lock}", 'synlock');
    }

    /** A section of the stopwatch may be over, and the event with it. */
    public function stop(?StopwatchEvent $event): void
    {
        if ($event?->isStarted()) {
            $event->stop();
        }
    }
}
