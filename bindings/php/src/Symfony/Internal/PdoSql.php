<?php

declare(strict_types=1);

namespace Synlock\Symfony\Internal;

use Synlock\Symfony\Exception\InvalidArgumentException;

/**
 * @internal
 */
final class PdoSql implements Sql
{
    public function __construct(private readonly \PDO $pdo)
    {
        if ($pdo->getAttribute(\PDO::ATTR_ERRMODE) !== \PDO::ERRMODE_EXCEPTION) {
            throw new InvalidArgumentException('The PDO must be in the error mode PDO::ERRMODE_EXCEPTION.');
        }
        if (!\in_array($this->engine(), ['sqlite', 'mysql', 'pgsql'], true)) {
            throw new InvalidArgumentException("Locks are kept by PDO's sqlite, mysql and pgsql, not by {$this->engine()}.");
        }
    }

    public function engine(): string
    {
        return $this->pdo->getAttribute(\PDO::ATTR_DRIVER_NAME);
    }

    public function inTransaction(): bool
    {
        return $this->pdo->inTransaction();
    }

    public function run(string $sql, array $values = []): int
    {
        return $this->execute($sql, $values)->rowCount();
    }

    public function value(string $sql, array $values = []): ?string
    {
        $value = $this->execute($sql, $values)->fetchColumn();

        return $value === false || $value === null ? null : (string) $value;
    }

    private function execute(string $sql, array $values): \PDOStatement
    {
        $statement = $this->pdo->prepare($sql);
        $statement->execute($values);

        return $statement;
    }

    public function isMissingTable(\Throwable $thrown): bool
    {
        return match ($this->engine()) {
            'sqlite' => \str_contains($thrown->getMessage(), 'no such table'),
            'pgsql' => $thrown->getCode() === '42P01',
            default => $thrown instanceof \PDOException && ($thrown->errorInfo[1] ?? 0) === 1146,
        };
    }

    public function session(): object
    {
        return $this->pdo;
    }
}
