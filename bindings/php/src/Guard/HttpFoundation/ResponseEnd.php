<?php

declare(strict_types=1);

namespace Synlock\Guard\HttpFoundation;

use Symfony\Component\HttpFoundation\Request;
use Symfony\Component\HttpFoundation\Response;
use Symfony\Component\HttpFoundation\StreamedResponse;

/**
 * Tells when the body of a response is finished: at once if it is there as a whole, or none is sent, as nothing is
 * computed any more; else when what writes it has returned, which is before the answer's end is sent.
 *
 * @internal
 */
final class ResponseEnd
{
    /**
     * @param \Closure(): void $finished must bear to be called again
     *
     * @return Response the one to send
     */
    public static function watch(Request $request, Response $response, \Closure $finished): Response
    {
        if ($response->getContent() !== false || $request->isMethod('HEAD') || self::isBare($response)) {
            $finished();

            return $response;
        }
        if ($response instanceof StreamedResponse) {
            // Its getter came with 7.1.
            $write = (fn () => $this->callback)->bindTo($response, StreamedResponse::class)();
            if ($write !== null) {
                $response->setCallback(self::around($response, $write, $finished));
            }

            return $response;
        }
        $whole = new StreamedResponse(null, $response->getStatusCode());
        $whole->headers = $response->headers;
        $whole->setProtocolVersion($response->getProtocolVersion());
        $whole->setCallback(self::around($whole, static fn () => $response->sendContent(), $finished));

        return $whole;
    }

    /** Without a body, or with one that was sent already: what would write it is not called. */
    private static function isBare(Response $response): bool
    {
        return $response->isInformational() || $response->isEmpty()
            || $response instanceof StreamedResponse && (fn (): bool => $this->streamed)->bindTo($response, StreamedResponse::class)();
    }

    private static function around(Response $response, callable $write, \Closure $finished): \Closure
    {
        return static function () use ($response, $write, $finished): void {
            $left = $response->headers->get('Content-Length');
            $level = \ob_get_level();
            if ($left !== null && \PHP_SAPI !== 'cli') {
                // The client knows the last byte for the last: what comes with it comes afterwards.
                $left = (int) $left;
                \ob_start(static function (string $bytes) use (&$left, $finished): string {
                    $left -= \strlen($bytes);
                    if ($left <= 0) {
                        $finished();
                    }

                    return $bytes;
                }, 1);
            }
            try {
                $write();
            } finally {
                $finished();
                while (\ob_get_level() > $level && @\ob_end_flush()) {
                }
            }
        };
    }
}
