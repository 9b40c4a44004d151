<?php

declare(strict_types=1);

namespace Synlock\Guard\Bundle\EventListener;

use Doctrine\Common\Annotations\AnnotationReader;
use Doctrine\Common\Annotations\Reader;
use Symfony\Component\HttpFoundation\Request as HttpRequest;
use Symfony\Component\HttpKernel\Event\ControllerEvent;
use Symfony\Component\Security\Core\Authentication\Token\Storage\TokenStorageInterface;
use Symfony\Component\Security\Core\Authentication\Token\TokenInterface;
use Symfony\Component\Security\Core\User\UserInterface;
use Synlock\Guard\Guards;
use Synlock\Guard\HttpFoundation\Described;
use Synlock\Guard\MutexRequest;
use Synlock\Guard\Request;
use Synlock\Guard\User;

/** Finds the policies of the controller, by attribute and annotation, with their services and names. */
final class MutexDecoratorListener
{
    /** Attribute of the request: a list of pairs, policy and `Synlock\Guard\Request`. */
    public const POLICIES = '_ixarlie_mutex_policies';

    public function __construct(
        private readonly Guards $guards,
        private readonly string $dialect,
        private readonly ?TokenStorageInterface $tokens = null,
        private ?Reader $reader = null,
    ) {
    }

    public function onController(ControllerEvent $event): void
    {
        if (!$event->isMainRequest()) {
            return;
        }
        $request = $event->getRequest();
        $found = [];
        foreach ($this->policies($event->getController()) as $policy) {
            $described = $this->describe($request, $policy);
            // A policy that does not fit is told before anything is acquired.
            $this->guards->name($policy, $described);
            $found[] = [$policy, $described];
        }
        $request->attributes->set(self::POLICIES, $found);
    }

    /** @return list<MutexRequest> */
    private function policies(callable $controller): array
    {
        $policies = MutexRequest::of($controller);
        if (\is_object($controller) && !$controller instanceof \Closure) {
            $controller = [$controller, '__invoke'];
        }
        if (!\is_array($controller) || !\interface_exists(Reader::class)) {
            return $policies;
        }
        $method = new \ReflectionMethod($controller[0], $controller[1]);
        // Only then, since the reader refuses annotations that it does not know.
        if (\str_contains((string) $method->getDocComment(), 'MutexRequest')) {
            $this->reader ??= new AnnotationReader();
            foreach ($this->reader->getMethodAnnotations($method) as $annotation) {
                if ($annotation instanceof MutexRequest) {
                    $policies[] = $annotation;
                }
            }
        }

        return $policies;
    }

    private function describe(HttpRequest $request, MutexRequest $policy): Request
    {
        $controller = $request->attributes->get('_controller');
        if (\is_array($controller)) {
            $controller = (\is_object($controller[0]) ? $controller[0]::class : $controller[0]) . "::{$controller[1]}";
        } elseif (\is_object($controller)) {
            $controller = $controller::class;
        }
        $token = $policy->userIsolation ? $this->tokens?->getToken() : null;

        return Described::of(
            $request,
            $policy,
            (string) $controller,
            $request->attributes->get('_route_params', []),
            $this->tokens === null ? null : self::user($token),
            $token === null ? null : $this->serialized($token),
        );
    }

    /** As the original did, before 2.0 or in 2.1: in its dialects alone, since it is costly and says more than who it is. */
    private function serialized(TokenInterface $token): ?string
    {
        return match ($this->dialect) {
            'ixarlie' => \serialize($token->__serialize()),
            'ixarlie2' => \serialize($token),
            default => null,
        };
    }

    private static function user(?TokenInterface $token): User
    {
        $user = $token?->getUser();
        if (!$user instanceof UserInterface) {
            return User::anonymous();
        }
        $firewall = \method_exists($token, 'getFirewallName') ? $token->getFirewallName() : '';

        return new User(\method_exists($user, 'getUserIdentifier') ? $user->getUserIdentifier() : $user->getUsername(), $firewall);
    }
}
