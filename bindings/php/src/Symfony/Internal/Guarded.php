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
        if ($sql->inTransaction()) {
            throw new Unsupported(
                'the connection is in a transaction, which a lock must not be part of: lock before it begins, or give the'
                . ' store a connection of its own, or a DSN',
                Code::UNSUPPORTED,
                'UNSUPPORTED',
            );
        }

        return $sql;
    }

    /** A name for the store, equal in every process that uses this database, and in no other. */
    private static function name(Sql $sql, string $what): string
    {
        $place = $sql->value(match ($sql->engine()) {
            'mysql' => "SELECT CONCAT(@@hostname, ':', @@port, '/', COALESCE(DATABASE(), ''))",
            'pgsql' => "SELECT concat(inet_server_addr(), ':', current_setting('port'), '/', current_database())",
            'sqlite' => "SELECT NULLIF(file, '') FROM pragma_database_list WHERE name = 'main'",
        });
        $place ??= 'of ' . \spl_object_id($sql->session()); // in memory: nobody else can reach it

        return $sql->engine() . '-' . \substr(\hash('sha256', "{$what} {$place}"), 0, 40);
    }
}
