<?php

declare(strict_types=1);

namespace Synlock\Internal;

/**
 * The functions of the library, which may call an object of PHP: no handler of a signal runs before they are left, since PHP
 * ends when one throws at the entry of a callback.
 *
 * @internal
 */
final class Calm
{
    public function __construct(private readonly \FFI $ffi)
    {
    }

    /** @param list<mixed> $arguments */
    public function __call(string $function, array $arguments): mixed
    {
        $was = \pcntl_async_signals();
        try {
            \pcntl_async_signals(false);
            $answer = $this->ffi->$function(...$arguments);
            \pcntl_async_signals($was);
            if ($was) {
                \pcntl_signal_dispatch();
            }

            return $answer;
        } catch (\Throwable $thrown) {
            \pcntl_async_signals($was);
            throw $thrown;
        }
    }
}
