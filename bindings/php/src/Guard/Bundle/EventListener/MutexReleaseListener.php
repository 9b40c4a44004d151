<?php

declare(strict_types=1);

namespace Synlock\Guard\Bundle\EventListener;

use Symfony\Component\HttpFoundation\Request;
use Symfony\Component\HttpKernel\Event\FinishRequestEvent;
use Symfony\Component\HttpKernel\Event\ResponseEvent;
use Symfony\Component\HttpKernel\Event\TerminateEvent;
use Synlock\Guard\Held;
use Synlock\Guard\HttpFoundation\ResponseEnd;
use Synlock\Guard\MutexRequest;

/** Releases at the end of the response's body, and what is left when the kernel terminates. */
final class MutexReleaseListener
{
    private const ANSWERED = '_ixarlie_mutex_answered';

    public function onResponse(ResponseEvent $event): void
    {
        $held = $event->isMainRequest() ? $this->held($event->getRequest()) : null;
        if ($held === null) {
            return;
        }
        $event->getRequest()->attributes->set(self::ANSWERED, true);
        if ($held->holdsUntil(MutexRequest::RELEASE_RESPONSE)) {
            $event->setResponse(ResponseEnd::watch($event->getRequest(), $event->getResponse(), static fn () => $held->release(MutexRequest::RELEASE_RESPONSE)));
        }
    }

    /** An exception that nobody made a response of leaves the kernel without the events after it. */
    public function onFinish(FinishRequestEvent $event): void
    {
        if ($event->isMainRequest() && !$event->getRequest()->attributes->has(self::ANSWERED)) {
            $this->held($event->getRequest())?->releaseAll();
        }
    }

    public function onTerminate(TerminateEvent $event): void
    {
        $this->held($event->getRequest())?->releaseAll();
    }

    private function held(Request $request): ?Held
    {
        return $request->attributes->get(Held::class);
    }
}
