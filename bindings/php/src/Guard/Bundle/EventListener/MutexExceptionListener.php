<?php

declare(strict_types=1);

namespace Synlock\Guard\Bundle\EventListener;

use Symfony\Component\HttpKernel\Event\ExceptionEvent;
use Symfony\Component\HttpKernel\Exception\HttpException;
use Symfony\Contracts\Translation\TranslatorInterface;
use Synlock\Guard\MutexException;

/** Puts an `HttpException` in the place of a refusal, for the application's own listeners. */
final class MutexExceptionListener
{
    public function __construct(private readonly ?TranslatorInterface $translator = null)
    {
    }

    public function onException(ExceptionEvent $event): void
    {
        $refused = $event->getThrowable();
        if (!$refused instanceof MutexException) {
            return;
        }
        $message = $refused->getMessage();
        if ($refused->getDomain() !== null && $this->translator !== null) {
            $message = $this->translator->trans($message, [], $refused->getDomain());
        }
        $event->setThrowable(new HttpException($refused->getStatusCode(), $message, $refused, $refused->getHeaders() + ['Cache-Control' => 'no-store']));
        $event->getRequest()->attributes->set(MutexException::class, $refused);
        // What another policy gave goes before the answer is made.
        $event->getRequest()->attributes->get(\Synlock\Guard\Held::class)?->releaseAll();
    }
}
