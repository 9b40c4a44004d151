<?php

declare(strict_types=1);

namespace Synlock\Laravel;

use Illuminate\Contracts\Container\Container;
use Illuminate\Contracts\Translation\Translator;
use Illuminate\Http\Request as HttpRequest;
use Illuminate\Routing\Route;
use Illuminate\Routing\RouteAction;
use Psr\Log\LoggerInterface;
use Symfony\Component\HttpFoundation\Response;
use Symfony\Component\HttpKernel\Exception\HttpException;
use Synlock\Guard\Guards;
use Synlock\Guard\Held;
use Synlock\Guard\HttpFoundation\ResponseEnd;
use Synlock\Guard\MutexException;
use Synlock\Guard\MutexRequest;
use Synlock\Guard\Request;
use Synlock\Guard\User;
use Synlock\Internal\Native;

/**
 * Laravel's middleware for request guards: of a route or a group, after those that know the session and the user. The
 * policies are attributes of the controller, or the words of the route: `'guard:mode=queue,name=order_{order},ttl=30'`.
 * The controller finds what is held in the request's attribute `Synlock\Guard\Held`.
 */
final class GuardRequests
{
    /** @param string $release the release point of policies that name none */
    public function __construct(
        private readonly Guards $guards,
        private readonly Container $app,
        private readonly ?LoggerInterface $logger = null,
        private readonly string $release = MutexRequest::RELEASE_RESPONSE,
    ) {
    }

    public function handle(HttpRequest $request, \Closure $next, string ...$words): Response
    {
        // A guard around this one holds something already, until what is between them is finished too: it lets go of all.
        $around = $request->attributes->get(Held::class);
        $held = $around ?? Held::logging($this->release, $this->logger);
        $request->attributes->set(Held::class, $held);
        try {
            foreach ($words === [] ? self::policies($request->route()) : [self::policy($words)] as $policy) {
                $held->enter($this->guards, $policy, $this->describe($request, $policy));
            }
            $response = $next($request);
        } catch (\Throwable $failed) {
            // Before the exception handler answers.
            $around ?? $held->releaseAll();
            throw $failed instanceof MutexException ? $this->refusal($failed) : $failed;
        }

        return $around === null && $held->holdsUntil(MutexRequest::RELEASE_RESPONSE)
            ? ResponseEnd::watch($request, $response, static fn () => $held->release(MutexRequest::RELEASE_RESPONSE))
            : $response;
    }

    /** Laravel calls it after the response, on a middleware of its own. */
    public function terminate(HttpRequest $request, Response $response): void
    {
        $request->attributes->get(Held::class)?->releaseAll();
    }

    /** @return list<MutexRequest> */
    private static function policies(Route $route): array
    {
        $action = $route->getAction();
        if (RouteAction::containsSerializedClosure($action)) {
            // Its attributes are lost: whether it had any cannot be told.
            throw Native::invalid("the route {$route->uri()} is a cached closure: its policy must be in the middleware's words");
        }
        $uses = $action['uses'];

        return MutexRequest::of(\is_string($uses) ? \str_replace('@', '::', $uses) : $uses);
    }

    /** @param array<string> $words each `option=value` */
    private static function policy(array $words): MutexRequest
    {
        $options = [];
        foreach ($words as $word) {
            [$name, $value] = \explode('=', $word, 2) + [1 => 'true'];
            $options[$name] = match (true) {
                \in_array($name, ['userIsolation', 'autoRelease', 'strict'], true) => \filter_var($value, \FILTER_VALIDATE_BOOL, \FILTER_NULL_ON_FAILURE) ?? throw Native::invalid("the option {$name} is true or false, not \"{$value}\""),
                \in_array($name, ['ttl', 'maxWait'], true) => \is_numeric($value) ? (float) $value : throw Native::invalid("the option {$name} is a number of seconds, not \"{$value}\""),
                \in_array($name, ['mode', 'name', 'service', 'anonymous', 'release', 'label', 'message'], true) => $value,
                default => throw Native::invalid("the words of a middleware have no option \"{$name}\""),
            };
        }

        return new MutexRequest(...$options);
    }

    private function describe(HttpRequest $request, MutexRequest $policy): Request
    {
        $route = $request->route();
        // Both are asked only where it matters: the one may ask a database, the other start a session.
        $user = $policy->userIsolation ? $this->user($request) : null;
        $session = $policy->userIsolation && $policy->anonymous === 'session' && $request->hasSession() ? $request->session()->getId() : null;

        // The parameters as they were in the URL, not the models that they were bound to.
        return new Request($route->getActionName(), $request->getPathInfo(), Request::texts($route->originalParameters()), $user, $session, $request->ip());
    }

    private function user(HttpRequest $request): ?User
    {
        if (!$this->app->bound('auth')) {
            return null;
        }
        $user = $request->user();

        return $user === null ? User::anonymous() : new User((string) $user->getAuthIdentifier(), $this->app->make('auth')->getDefaultDriver());
    }

    /** For the application's own exception handler. */
    private function refusal(MutexException $refused): HttpException
    {
        $message = $refused->getMessage();
        if ($refused->getDomain() !== null && $this->app->bound(Translator::class)) {
            $key = "{$refused->getDomain()}.{$message}";
            $translated = $this->app->make(Translator::class)->get($key);
            $message = \is_string($translated) && $translated !== $key ? $translated : $message;
        }

        return new HttpException($refused->getStatusCode(), $message, $refused, $refused->getHeaders() + ['Cache-Control' => 'no-store']);
    }
}
