<?php

declare(strict_types=1);

namespace Synlock\Guard\HttpFoundation;

use Symfony\Component\HttpFoundation\Request as HttpRequest;
use Symfony\Component\HttpFoundation\Session\SessionInterface;
use Synlock\Guard\MutexRequest;
use Synlock\Guard\Request;
use Synlock\Guard\User;

/**
 * What a guard needs to know of a request of HttpFoundation.
 *
 * @internal
 */
final class Described
{
    /**
     * @param array<array-key, mixed> $params of the route
     */
    public static function of(
        HttpRequest $request,
        MutexRequest $policy,
        string $route,
        array $params,
        ?User $user,
        ?string $token = null,
    ): Request {
        $session = null;
        // Asked for only where it matters: it may start one.
        if ($policy->userIsolation && $policy->anonymous === 'session' && $user?->id === null && $request->hasSession()) {
            $session = self::sessionId($request->getSession());
        }

        return new Request($route, $request->getPathInfo(), Request::texts($params), $user, $session, $request->getClientIp(), $token);
    }

    /** A session that is open keeps the others of its user waiting; one that was opened for its identifier is closed. */
    private static function sessionId(SessionInterface $session): string
    {
        if ($session->isStarted()) {
            return $session->getId();
        }
        $session->start();
        $id = $session->getId();
        $session->save();

        return $id;
    }
}
