<?php

declare(strict_types=1);

namespace Synlock\Guard\Psr15;

use Psr\Http\Message\ResponseFactoryInterface;
use Psr\Http\Message\ResponseInterface;
use Psr\Http\Message\ServerRequestInterface;
use Psr\Http\Server\MiddlewareInterface;
use Psr\Http\Server\RequestHandlerInterface;
use Synlock\Guard\Guards;
use Synlock\Guard\Held;
use Synlock\Guard\MutexException;
use Synlock\Guard\MutexRequest;
use Synlock\Guard\Request;
use Synlock\Guard\User;

/**
 * Lets requests in by policies. Put it after the router and whatever knows the user. The handler finds what is held
 * in the request's attribute `Synlock\Guard\Held`.
 */
final class GuardMiddleware implements MiddlewareInterface
{
    /** @var list<MutexRequest>|\Closure(ServerRequestInterface): iterable<MutexRequest> */
    private readonly array|\Closure $policies;
    /** @var list<Held> what waits for the release point `terminate` */
    private array $pending = [];

    /**
     * @param MutexRequest|list<MutexRequest>|\Closure(ServerRequestInterface): iterable<MutexRequest> $policies
     *        applied in this order; a closure may ask `MutexRequest::of()` for those of the controller
     * @param ResponseFactoryInterface|null $responses for the answer to a refused request; null: `MutexException` is
     *                                                 thrown, for the application's own error handler
     * @param (\Closure(ServerRequestInterface): Request)|null $describe what is known of a request; null: see
     *                                                                   `describe()`
     * @param string $release the release point of policies that name none
     * @param (\Closure(string, string): string)|null $translate the words of a refusal whose policy has a `domain`, by the
     *                                                           message and that, for the answer to it
     */
    public function __construct(
        private readonly Guards $guards,
        MutexRequest|array|\Closure $policies,
        private readonly ?ResponseFactoryInterface $responses = null,
        private readonly ?\Closure $describe = null,
        private readonly string $release = MutexRequest::RELEASE_RESPONSE,
        private readonly ?\Closure $translate = null,
    ) {
        $this->policies = $policies instanceof MutexRequest ? [$policies] : $policies;
    }

    public function process(ServerRequestInterface $request, RequestHandlerInterface $handler): ResponseInterface
    {
        $held = new Held($this->release);
        try {
            try {
                $this->enter($held, $request);
            } catch (MutexException $refused) {
                $held->releaseAll();

                return $this->refuse($refused);
            }
            $response = $handler->handle($request->withAttribute(Held::class, $held));
        } catch (\Throwable $failed) {
            // Before the error handler answers.
            $held->releaseAll();
            throw $failed;
        }
        if ($held->holdsUntil(MutexRequest::RELEASE_TERMINATE)) {
            $this->pending[] = $held;
        }

        return $this->finish($request, $response, $held);
    }

    /**
     * Releases what is held until the response is sent. For workers that serve many requests; elsewhere the end of
     * the request does it.
     */
    public function terminate(): void
    {
        [$pending, $this->pending] = [$this->pending, []];
        foreach ($pending as $held) {
            $held->release(MutexRequest::RELEASE_TERMINATE);
        }
    }

    /**
     * What is known of a request by itself: the route is its method, the parameters are its attributes, the user is
     * the attribute `Synlock\Guard\User`.
     */
    public static function describe(ServerRequestInterface $request): Request
    {
        $user = $request->getAttribute(User::class);
        $ip = $request->getServerParams()['REMOTE_ADDR'] ?? null;

        return new Request(
            $request->getMethod(),
            $request->getUri()->getPath(),
            Request::texts($request->getAttributes()),
            $user instanceof User ? $user : null,
            ip: \is_string($ip) ? $ip : null,
        );
    }

    private function enter(Held $held, ServerRequestInterface $request): void
    {
        $policies = $this->policies instanceof \Closure ? ($this->policies)($request) : $this->policies;
        $described = null;
        foreach ($policies as $policy) {
            $described ??= ($this->describe ?? self::describe(...))($request);
            $held->enter($this->guards, $policy, $described);
        }
    }

    private function refuse(MutexException $refused): ResponseInterface
    {
        if ($this->responses === null) {
            throw $refused;
        }
        $response = $this->responses->createResponse($refused->getStatusCode())
            ->withHeader('Content-Type', 'text/plain; charset=utf-8')
            ->withHeader('Cache-Control', 'no-store');
        foreach ($refused->getHeaders() as $name => $value) {
            $response = $response->withHeader($name, $value);
        }
        $domain = $refused->getDomain();
        $message = $refused->getMessage();
        $response->getBody()->write($this->translate === null || $domain === null ? $message : ($this->translate)($message, $domain));

        return $response;
    }

    private function finish(ServerRequestInterface $request, ResponseInterface $response, Held $held): ResponseInterface
    {
        if (!$held->holdsUntil(MutexRequest::RELEASE_RESPONSE)) {
            return $response;
        }
        $status = $response->getStatusCode();
        if ($request->getMethod() === 'HEAD' || $status < 200 || $status === 204 || $status === 304 || Body::size($response->getBody()) === 0) {
            $held->release(MutexRequest::RELEASE_RESPONSE); // nobody need read it

            return $response;
        }

        return $response->withBody(new Body($response->getBody(), static fn () => $held->release(MutexRequest::RELEASE_RESPONSE)));
    }
}
