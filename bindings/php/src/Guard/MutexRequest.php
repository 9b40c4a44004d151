<?php

declare(strict_types=1);

namespace Synlock\Guard;

use Synlock\Internal\Native;
use Synlock\Internal\Options;

/**
 * How a request is guarded: an attribute of the method or function that handles it, several if need be;
 * or given to a middleware.
 *
 *     #[MutexRequest(name: 'order_{id}', mode: 'queue', ttl: 30)]
 *     #[MutexRequest(mode: 'block', userIsolation: true)]
 *
 * With doctrine/annotations it is an annotation too.
 *
 * @Annotation
 * @NamedArgumentConstructor
 * @Target({"METHOD"})
 */
#[\Attribute(\Attribute::TARGET_METHOD | \Attribute::TARGET_FUNCTION | \Attribute::IS_REPEATABLE)]
final class MutexRequest
{
    public const BLOCK = 'block';
    public const CHECK = 'check';
    public const QUEUE = 'queue';
    public const FORCE = 'force';

    public const RELEASE_RESPONSE = 'response';
    public const RELEASE_TERMINATE = 'terminate';

    public const DEFAULT_MESSAGE = 'Resource is not available at this moment.';
    public const DEFAULT_STATUS = 423;

    /** @internal by their numbers in C */
    public const MODES = ['block' => 0, 'check' => 1, 'queue' => 2, 'force' => 3];
    /** @internal by their numbers in C */
    public const ANONYMOUS = ['refuse' => 0, 'share' => 1, 'session' => 2, 'ip' => 3];

    public readonly string $mode;
    public readonly int $status;
    public readonly string $message;
    public readonly ?string $domain;

    /**
     * @param string               $mode          `block`: acquire, refused if somebody holds the lock; `check`: refused
     *                                            if somebody does, acquire nothing; `queue`: wait for it; `force`: take
     *                                            it from whoever holds it
     * @param string|null          $name          template: `{id}` becomes the route's parameter of that name, which must
     *                                            be there; null or empty: made from the controller and the path
     * @param string|null          $service       which store, by its short or full name; null: the default one
     * @param array<string, mixed> $http          `code` (423), `message` and `domain` (for its translation) of a refusal
     * @param bool                 $userIsolation each user has a lock of their own
     * @param string               $anonymous     with `$userIsolation`, when nobody is logged in: `refuse` (an error),
     *                                            `share` one lock, one for each `session`, or `ip`
     * @param float|null           $ttl           lease in seconds; null: until the release point or the owner's death
     * @param float|null           $maxWait       how long `queue` waits and `force` tries at most, in seconds; null: 30,
     *                                            or as the service's configuration says
     * @param bool                 $autoRelease   release at the release point; otherwise the lease or the process ends it
     * @param string|null          $release       `response`: when the body is finished or the client gone; `terminate`:
     *                                            after the response; null: as configured, or `response`
     * @param bool                 $strict        refuse a TTL on a store without leases
     * @param string|null          $label         words for whoever inspects the lock; null: controller and path
     * @param string|null          $strategy      another word for `$mode`
     * @param string|null          $message       another place for `$http['message']`
     *
     * @throws \Synlock\Exception\InvalidArgument
     */
    public function __construct(
        ?string $mode = null,
        public readonly ?string $name = null,
        public readonly ?string $service = null,
        array $http = [],
        public readonly bool $userIsolation = false,
        public readonly string $anonymous = 'refuse',
        public readonly ?float $ttl = null,
        public readonly ?float $maxWait = null,
        public readonly bool $autoRelease = true,
        public readonly ?string $release = null,
        public readonly bool $strict = false,
        public readonly ?string $label = null,
        ?string $strategy = null,
        ?string $message = null,
    ) {
        $this->mode = $mode ?? $strategy ?? self::BLOCK;
        self::oneOf('mode', $this->mode, \array_keys(self::MODES));
        self::oneOf('anonymous', $anonymous, \array_keys(self::ANONYMOUS));
        self::oneOf('release', $release ?? self::RELEASE_RESPONSE, [self::RELEASE_RESPONSE, self::RELEASE_TERMINATE]);
        if ($unknown = \array_diff(\array_keys($http), ['code', 'message', 'domain'])) {
            throw Native::invalid('the option http has code, message and domain, not ' . \implode(', ', $unknown));
        }
        $this->status = (int) ($http['code'] ?? self::DEFAULT_STATUS);
        if ($this->status < 400 || $this->status > 599) {
            throw Native::invalid("a refusal's HTTP status is one of 400 to 599, not {$this->status}");
        }
        $this->message = (string) ($http['message'] ?? $message ?? self::DEFAULT_MESSAGE);
        $this->domain = isset($http['domain']) ? (string) $http['domain'] : null;
        if ($ttl !== null) {
            Options::ttl($ttl);
        }
        if ($maxWait !== null && Native::milliseconds($maxWait, 'a wait') === 0) {
            throw Native::invalid('a wait of no time: the mode `block` does not wait');
        }
    }

    /**
     * The attributes of a controller.
     *
     * @param callable|array{0: object|class-string, 1: string}|string $controller a function, a method, an object
     *                                                                             with `__invoke`, or `Class::method`
     *
     * @return list<self>
     *
     * @throws \ReflectionException if there is no such function
     */
    public static function of(callable|array|string $controller): array
    {
        if (\is_string($controller) && \str_contains($controller, '::')) {
            $controller = \explode('::', $controller, 2);
        }
        $function = match (true) {
            \is_array($controller) => new \ReflectionMethod($controller[0], $controller[1]),
            \is_object($controller) && !$controller instanceof \Closure => new \ReflectionMethod($controller, '__invoke'),
            \is_string($controller) && \class_exists($controller) => new \ReflectionMethod($controller, '__invoke'),
            default => new \ReflectionFunction($controller),
        };

        return \array_map(static fn (\ReflectionAttribute $found): self => $found->newInstance(), $function->getAttributes(self::class));
    }

    /**
     * @param list<string> $known
     */
    private static function oneOf(string $what, string $given, array $known): void
    {
        if (!\in_array($given, $known, true)) {
            throw Native::invalid("the option {$what} is one of " . \implode(', ', $known) . ", not \"{$given}\"");
        }
    }
}
