<?php

declare(strict_types=1);

namespace Synlock\Guard\Bundle\EventListener;

use Psr\Log\LoggerInterface;
use Symfony\Component\HttpKernel\Event\ControllerEvent;
use Synlock\Guard\Admission;
use Synlock\Guard\Guards;
use Synlock\Guard\Held;
use Synlock\Symfony\Internal\Timeline;

/** Lets the request in by its policies, or does not. What it holds is its attribute `Synlock\Guard\Held`. */
final class MutexRequestListener
{
    public function __construct(
        private readonly Guards $guards,
        private readonly Timeline $timeline,
        private readonly string $release,
        private readonly ?LoggerInterface $logger = null,
    ) {
    }

    public function onController(ControllerEvent $event): void
    {
        $request = $event->getRequest();
        $policies = $event->isMainRequest() ? $request->attributes->get(MutexDecoratorListener::POLICIES, []) : [];
        if ($policies === []) {
            return;
        }
        $held = Held::logging($this->release, $this->logger);
        // First, so that what is held when a later policy refuses is let go with the answer.
        $request->attributes->set(Held::class, $held);
        $holds = new \SplObjectStorage();
        $held->onRelease(function (Admission $admission) use ($holds): void {
            $this->timeline->stop($holds[$admission] ?? null);
        });
        foreach ($policies as [$policy, $described]) {
            $name = $this->guards->name($policy, $described);
            $wait = $this->timeline->start('wait', $name);
            try {
                $admission = $held->enter($this->guards, $policy, $described);
            } finally {
                $this->timeline->stop($wait);
            }
            if ($admission?->lock !== null) {
                $holds[$admission] = $this->timeline->start('held', $name);
            }
        }
    }
}
