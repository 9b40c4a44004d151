<?php

// The annotations of ixarlie's documentation, word for word; the import is synlock's.

declare(strict_types=1);

namespace Ixarlie;

use Symfony\Component\HttpFoundation\Request;
use Symfony\Component\HttpFoundation\Response;
use Synlock\Guard\MutexRequest;

final class Samples
{
    /** @param \Closure(Request): void $inside */
    public function __construct(private readonly \Closure $inside)
    {
    }

    /**
     * @MutexRequest(mode="block")
     */
    public function block(Request $request): Response
    {
        return $this->answer($request);
    }

    /**
     * @MutexRequest(name="resource_{id}", mode="block")
     */
    public function resource(Request $request): Response
    {
        return $this->answer($request);
    }

    /**
     * @MutexRequest(mode="check")
     */
    public function check(Request $request): Response
    {
        return $this->answer($request);
    }

    /**
     * @MutexRequest(mode="queue")
     */
    public function queue(Request $request): Response
    {
        return $this->answer($request);
    }

    /**
     * @MutexRequest(mode="force") 
     */
    public function force(Request $request): Response
    {
        return $this->answer($request);
    }

    /**
     * @MutexRequest(mode="queue", service="redis.queued")
     */
    public function queued(Request $request): Response
    {
        return $this->answer($request);
    }

    /**
     * // This is not going to work and an exception will be thrown.
     * @MutexRequest(mode="queue", service="redis.default") 
     */
    public function queuedDefault(Request $request): Response
    {
        return $this->answer($request);
    }

    /**
     * @MutexRequest(name="foo", service="ixarlie_mutex.redis_factory.default")
     */
    public function fullName(Request $request): Response
    {
        return $this->answer($request);
    }

    /**
     * @MutexRequest(name="foo", service="redis.default")
     */
    public function shortName(Request $request): Response
    {
        return $this->answer($request);
    }

    /**
     * @MutexRequest(name="foo")
     */
    public function noName(Request $request): Response
    {
        return $this->answer($request);
    }

    /**
     * @MutexRequest(name="foo", userIsolation=true)
     */
    public function user(Request $request): Response
    {
        return $this->answer($request);
    }

    private function answer(Request $request): Response
    {
        ($this->inside)($request);

        return new Response('done');
    }
}
