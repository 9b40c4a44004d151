<?php

declare(strict_types=1);

namespace Synlock\Tests;

/** Runs the tests of some files and counts. A test is a closure that throws when something is wrong. */
final class Runner
{
    public int $passed = 0;
    public int $failed = 0;

    public function __construct(private readonly string $filter = '')
    {
    }

    public function test(string $name, \Closure $body): void
    {
        if ($this->filter !== '' && !str_contains($name, $this->filter)) {
            return;
        }
        $start = microtime(true);
        try {
            $body();
            ++$this->passed;
            printf("test %s ... ok (%.2f s)\n", $name, microtime(true) - $start);
        } catch (\Throwable $error) {
            ++$this->failed;
            printf(
                "test %s ... FAILED (%.2f s)\n    %s: %s\n    at %s:%d\n    %s\n",
                $name,
                microtime(true) - $start,
                $error::class,
                str_replace("\n", "\n    ", $error->getMessage()),
                $error->getFile(),
                $error->getLine(),
                str_replace("\n", "\n    ", $error->getTraceAsString()),
            );
        }
    }
}

function same(mixed $expected, mixed $actual, string $what = ''): void
{
    if ($expected !== $actual) {
        throw new \LogicException(trim("{$what}: expected ") . ' ' . var_export($expected, true) . ', got ' . var_export($actual, true));
    }
}

function ok(bool $true, string $what): void
{
    if (!$true) {
        throw new \LogicException("not true: {$what}");
    }
}

/**
 * @template T of \Throwable
 * @param class-string<T> $class
 * @return T
 */
function throws(string $class, \Closure $body): \Throwable
{
    try {
        $body();
    } catch (\Throwable $error) {
        if (!$error instanceof $class) {
            throw new \LogicException("expected {$class}, got " . $error::class . ": {$error->getMessage()}", 0, $error);
        }

        return $error;
    }
    throw new \LogicException("expected {$class}, nothing was thrown");
}

/** The bar's bound, in seconds, at its full load; on a machine that does other work one that tells "soon" from "never". */
function soon(float $bound): float
{
    return getenv('SYNLOCK_LOAD') === 'full' ? $bound : 20.0;
}

/** How often a row of the bar does what it does. */
function rounds(): int
{
    return getenv('SYNLOCK_LOAD') === 'full' ? 100 : 2;
}

/**
 * What `$ask` found out while a lease was running: it takes one of so many seconds, which is longer each time until the
 * answer came in half of it, whatever the machine does besides.
 *
 * @template T
 * @param \Closure(float): T $ask
 * @return T
 */
function withinLease(float $ttl, \Closure $ask): mixed
{
    do {
        ok($ttl < 300.0, 'an answer comes within a lease');
        $start = microtime(true);
        $answer = $ask($ttl);
        $took = microtime(true) - $start;
        $ttl *= 2.0;
    } while ($took > 0.25 * $ttl);

    return $answer;
}

function until(\Closure $true, float $seconds, string $what): float
{
    $start = microtime(true);
    while (!$true()) {
        if (microtime(true) - $start > $seconds) {
            throw new \LogicException("not within {$seconds} s: {$what}");
        }
        usleep(5000);
    }

    return microtime(true) - $start;
}
