<?php

declare(strict_types=1);

namespace Synlock\Guard;

/** Who asks, for user isolation. */
final class User
{
    /**
     * @param string|null $id       the user's identifier; null: nobody is logged in
     * @param string      $provider the firewall or user provider, if there are several
     */
    public function __construct(public readonly ?string $id, public readonly string $provider = '')
    {
    }

    public static function anonymous(): self
    {
        return new self(null);
    }
}
