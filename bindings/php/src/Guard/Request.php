<?php

declare(strict_types=1);

namespace Synlock\Guard;

/** What a guard needs to know of a request, in no framework's terms. */
final class Request
{
    /**
     * @param string                $route  the controller or route
     * @param string                $path   path of the URL as it was sent, without the query
     * @param array<string, string> $params parameters of the route, for placeholders
     * @param User|null             $user   who asks; null: the application has no notion of users
     * @param string|null           $token  the security token as PHP serialises it, for ixarlie's names
     */
    public function __construct(
        public readonly string $route,
        public readonly string $path,
        public readonly array $params = [],
        public readonly ?User $user = null,
        public readonly ?string $session = null,
        public readonly ?string $ip = null,
        public readonly ?string $token = null,
    ) {
    }

    /**
     * What can stand in a name, of what routers give.
     *
     * @param array<array-key, mixed> $params
     *
     * @return array<string, string>
     */
    public static function texts(array $params): array
    {
        $texts = [];
        foreach ($params as $name => $value) {
            if ($value instanceof \BackedEnum) {
                $value = $value->value;
            }
            if (\is_scalar($value) || $value instanceof \Stringable) {
                $texts[(string) $name] = (string) $value;
            }
        }

        return $texts;
    }
}
