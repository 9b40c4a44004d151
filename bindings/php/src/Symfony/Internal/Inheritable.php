<?php

declare(strict_types=1);

namespace Synlock\Symfony\Internal;

/**
 * A custom store whose holds can go to another process by their owner tokens, as those of the core go by export
 * and adoption.
 *
 * @internal
 */
interface Inheritable
{
    /** The next release of this owner's hold leaves it where it is. */
    public function letGo(string $name, string $owner): void;

    /** The next attempt on this name takes this owner's hold over, or is refused. */
    public function inherit(string $name, string $owner): void;
}
