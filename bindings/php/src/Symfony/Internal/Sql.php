<?php

declare(strict_types=1);

namespace Synlock\Symfony\Internal;

/**
 * A connection of the program's own to a database: one of PDO or of Doctrine.
 *
 * @internal
 */
interface Sql
{
    /** `sqlite`, `mysql` or `pgsql`. */
    public function engine(): string;

    /** As far as this object knows: it may not see what was begun by a statement. */
    public function inTransaction(): bool;

    /**
     * @param list<string> $values
     *
     * @return int how many rows changed
     */
    public function run(string $sql, array $values = []): int;

    /**
     * The first value of the first row; null without one.
     *
     * @param list<string> $values
     */
    public function value(string $sql, array $values = []): ?string;

    public function isMissingTable(\Throwable $thrown): bool;

    /** The object that stands for the session. */
    public function session(): object;
}
