<?php

// The requests of tests/interop/README.md, for peers in PHP.

declare(strict_types=1);

/** Seconds that a lease lasts: long, or as the driver says, which is about to kill its holder. */
function lease(): int
{
    return (int) (getenv('LEASE') ?: 60);
}

/**
 * @param callable(): bool $take    waits for the lock
 * @param callable(): bool $try     false if it is busy
 * @param callable(): bool $release false if it was lost
 */
function serve(callable $take, callable $try, callable $release): void
{
    while (($line = fgets(STDIN)) !== false) {
        [$verb, $count, $file] = explode(' ', rtrim($line, "\n"), 3) + [1 => '0', 2 => ''];
        $answer = match ($verb) {
            'take' => $take() ? 'taken' : 'busy',
            'try' => $try() ? 'taken' : 'busy',
            'release' => $release() ? 'released' : 'lost',
            'turns' => turns((int) $count, $file, $take, $release),
        };
        fwrite(STDOUT, "{$answer}\n");
    }
}

function turns(int $count, string $file, callable $take, callable $release): string
{
    for ($turn = 0; $turn < $count; ++$turn) {
        if (!$take()) {
            return 'busy';
        }
        $number = (int) file_get_contents($file);
        file_put_contents($file, (string) ($number + 1));
        if (!$release()) {
            return 'lost';
        }
    }

    return 'done';
}
