<?php

declare(strict_types=1);

namespace Synlock\Semaphore\Bundle;

/** Lines in a file, where there is no Monolog. */
final class FileLogger
{
    public function __construct(private readonly string $file, private readonly string $channel)
    {
    }

    /** @param array<string, mixed> $context */
    public function log(string $level, string|\Stringable $message, array $context = []): void
    {
        if (!\is_dir(\dirname($this->file))) {
            @\mkdir(\dirname($this->file), 0o777, true);
        }
        $line = \sprintf("[%s] %s.%s: %s\n", (new \DateTimeImmutable())->format(\DATE_RFC3339_EXTENDED), $this->channel, \strtoupper($level), \str_replace("\n", ' ', (string) $message));
        \file_put_contents($this->file, $line, \FILE_APPEND | \LOCK_EX);
    }
}
