<?php

declare(strict_types=1);

namespace Synlock\Symfony\Internal;

use Doctrine\DBAL\Connection;
use Doctrine\DBAL\Exception\TableNotFoundException;
use Doctrine\DBAL\Platforms\AbstractMySQLPlatform;
use Doctrine\DBAL\Platforms\PostgreSQLPlatform;
use Synlock\Symfony\Exception\InvalidArgumentException;

/**
 * @internal
 */
final class DbalSql implements Sql
{
    public function __construct(private readonly Connection $connection)
    {
    }

    public function engine(): string
    {
        $platform = $this->connection->getDatabasePlatform();
        $name = $platform::class;

        return match (true) {
            $platform instanceof PostgreSQLPlatform => 'pgsql',
            $platform instanceof AbstractMySQLPlatform => 'mysql',
            \str_contains(\strtolower($name), 'sqlite') => 'sqlite', // spelt in two ways
            default => throw new InvalidArgumentException("Locks are kept in SQLite, MySQL, MariaDB and PostgreSQL, not with {$name}."),
        };
    }

    public function inTransaction(): bool
    {
        if ($this->connection->isTransactionActive()) {
            return true;
        }
        try {
            $native = \method_exists($this->connection, 'getNativeConnection') ? $this->connection->getNativeConnection() : null;
        } catch (\LogicException) {
            $native = null; // what wraps the driver hides it
        }

        return match (true) {
            $native instanceof \PDO => $native->inTransaction(),
            $native instanceof \PgSql\Connection => \pg_transaction_status($native) > \PGSQL_TRANSACTION_IDLE,
            default => false,
        };
    }

    public function run(string $sql, array $values = []): int
    {
        return (int) $this->connection->executeStatement($sql, $values);
    }

    public function value(string $sql, array $values = []): ?string
    {
        $value = $this->connection->fetchOne($sql, $values);

        return $value === false || $value === null ? null : (string) $value;
    }

    public function isMissingTable(\Throwable $thrown): bool
    {
        return $thrown instanceof TableNotFoundException;
    }

    public function session(): object
    {
        return $this->connection;
    }
}
