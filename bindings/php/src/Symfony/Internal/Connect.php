<?php

declare(strict_types=1);

namespace Synlock\Symfony\Internal;

use Doctrine\DBAL\Connection;
use Doctrine\DBAL\DriverManager;
use Doctrine\DBAL\Tools\DsnParser;
use Synlock\Symfony\Exception\InvalidArgumentException;

/**
 * Connections of the program's kind, where a connection string says what only PDO or Doctrine understands.
 *
 * @internal
 */
final class Connect
{
    /** Scheme of a URL of Doctrine => its driver, as in Symfony. */
    private const DRIVERS = [
        'mysql' => 'pdo_mysql', 'mysql2' => 'pdo_mysql', 'postgres' => 'pdo_pgsql', 'postgresql' => 'pdo_pgsql', 'pgsql' => 'pdo_pgsql',
        'sqlite' => 'pdo_sqlite', 'sqlite3' => 'pdo_sqlite',
    ];

    /**
     * @param array<string, mixed> $options `db_username`, `db_password`, `db_connection_options`
     *
     * @throws InvalidArgumentException
     */
    public static function to(#[\SensitiveParameter] string $dsn, array $options): Sql
    {
        return self::wrap(\str_contains($dsn, '://') ? self::doctrine($dsn) : self::pdo($dsn, $options));
    }

    /** @throws InvalidArgumentException */
    public static function wrap(object $connection): Sql
    {
        return match (true) {
            $connection instanceof \PDO => new PdoSql($connection),
            $connection instanceof Connection => new DbalSql($connection),
            default => throw new InvalidArgumentException(\sprintf('A PDO, a connection of Doctrine or a DSN is taken, not %s.', $connection::class)),
        };
    }

    private static function pdo(#[\SensitiveParameter] string $dsn, array $options): \PDO
    {
        $ours = [\PDO::ATTR_ERRMODE => \PDO::ERRMODE_EXCEPTION] + ($options['db_connection_options'] ?? []);

        return new \PDO($dsn, $options['db_username'] ?? null, $options['db_password'] ?? null, $ours);
    }

    private static function doctrine(#[\SensitiveParameter] string $url): Connection
    {
        if (!\class_exists(DriverManager::class)) {
            throw new InvalidArgumentException('Only Doctrine\'s DBAL can open this URL, and it is not installed.');
        }
        $isNew = \class_exists(DsnParser::class);

        return DriverManager::getConnection($isNew ? (new DsnParser(self::DRIVERS))->parse($url) : ['url' => $url]);
    }
}
