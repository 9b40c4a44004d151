<?php

declare(strict_types=1);

namespace Synlock\Symfony\Internal;

use Synlock\Code;
use Synlock\Exception\Unsupported;

/**
 * Use of a connection that is not ours: never inside a transaction of the program. What is written there nobody
 * else sees before it ends, a roll-back would undo it, and a statement that fails could end it.
 *
 * @internal
 */
trait Guarded
{
    private static function outside(Sql $sql): Sql
    {
        if ($sql->inTransaction() || self::isBegun($sql)) {
            throw new Unsupported(
                'the connection is in a transaction, which a lock must not be part of: lock before it begins, or give the'
                . ' store a connection of its own, or a DSN',
                Code::UNSUPPORTED,
                'UNSUPPORTED',
            );
        }

        return $sql;
    }

    /** Whether statements have begun a transaction, or the first one will. */
    private static function isBegun(Sql $sql): bool
    {
        if ($sql->engine() === 'mysql') {
            return $sql->value('SELECT @@autocommit') === '0';
        }
        if ($sql->engine() !== 'sqlite') {
            return false; // drivers of PostgreSQL are told with each answer
        }
        // A setting that stays as it is, which SQLite refuses to touch inside a transaction; it asks nobody and ends nothing.
        $level = (int) $sql->value('PRAGMA synchronous');
        try {
            $sql->run("PRAGMA synchronous = {$level}");
        } catch (\Exception $thrown) {
            return \str_contains($thrown->getMessage(), 'inside a transaction') ? true : throw $thrown;
        }

        return false;
    }

    /** A name for the store, equal in every process that uses this database, and in no other. */
    private static function name(Sql $sql, string $what): string
    {
        $place = $sql->value(match ($sql->engine()) {
            'mysql' => "SELECT CONCAT(@@hostname, ':', @@port, @@datadir, '/', COALESCE(DATABASE(), ''))",
            'pgsql' => "SELECT concat(current_setting('port'), '/', current_database())",
            'sqlite' => "SELECT NULLIF(file, '') FROM pragma_database_list WHERE name = 'main'",
        });
        $place ??= 'of ' . \spl_object_id($sql->session()); // in memory: nobody else can reach it
        $server = self::server($sql);

        return $sql->engine() . '-' . \substr(\hash('sha256', "{$what} {$server} {$place}"), 0, 40);
    }

    /** What tells a server from others, by whatever address it is reached. */
    private static function server(Sql $sql): string
    {
        $questions = match ($sql->engine()) {
            'mysql' => ['SELECT @@server_uuid', 'SELECT @@server_uid'], // MySQL's, MariaDB's
            'pgsql' => ['SELECT system_identifier FROM pg_control_system()', 'SELECT inet_server_addr()'],
            'sqlite' => [],
        };
        foreach ($questions as $question) {
            try {
                return (string) $sql->value($question);
            } catch (\Exception) {
                // It does not know that, or does not say.
            }
        }

        return '';
    }
}
