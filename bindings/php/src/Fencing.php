<?php

declare(strict_types=1);

namespace Synlock;

use Synlock\Exception\LockLost;
use Synlock\Exception\SynlockException;
use Synlock\Internal\Native;

/**
 * Resources that refuse the writes of a holder that is one no more.
 *
 * A holder that was stopped for longer than its lease cannot know it at the instant of its write. The
 * resource can, if it keeps the highest `Lock::fencingToken()` that it has seen, and refuses lower ones in
 * the same transaction as the write.
 */
final class Fencing
{
    public const TABLE = 'synlock_fence';
    /** Stands in the error of every refusal. */
    public const STALE = 'stale fencing token';

    private function __construct()
    {
    }

    /**
     * Statements that make the table of tokens, and the trigger by which the database refuses to lower one.
     * Run again, they change nothing (MySQL before 8.0.29 says then that it has the trigger).
     *
     * @param string $engine `sqlite`, `postgres` or `mysql`; a PDO driver's name will do
     *
     * @return list<string>
     *
     * @throws SynlockException `InvalidArgument`
     */
    public static function ddl(string $engine, string $table = self::TABLE): array
    {
        return \explode("\n\n", self::read(
            static fn (Native $native, mixed ...$to): int => $native->ffi->synlock_fencing_ddl($engine, $table, ...$to),
        ));
    }

    /**
     * The trigger for a table of your own: no update of a row lowers the token in `$column`.
     *
     * @return list<string>
     *
     * @throws SynlockException `InvalidArgument`
     */
    public static function trigger(string $engine, string $table, string $column = 'token'): array
    {
        return \explode("\n\n", self::read(
            static fn (Native $native, mixed ...$to): int => $native->ffi->synlock_fencing_trigger($engine, $table, $column, ...$to),
        ));
    }

    /**
     * The statement to run first in each transaction that writes, with the lock's name and its token as
     * parameters: `?`, or `$1` and `$2` on PostgreSQL (PDO wants `?` there too: `check()` sees to it).
     *
     * @throws SynlockException `InvalidArgument`
     */
    public static function statement(string $engine, string $table = self::TABLE): string
    {
        return self::read(
            static fn (Native $native, mixed ...$to): int => $native->ffi->synlock_fencing_statement($engine, $table, ...$to),
        );
    }

    /**
     * Notes the token, in the transaction that is to write. Roll it back if this throws.
     *
     * @throws LockLost      the token is older than one that was seen
     * @throws \PDOException
     */
    public static function check(\PDO $database, string $name, int $token, string $table = self::TABLE): void
    {
        $sql = self::statement((string) $database->getAttribute(\PDO::ATTR_DRIVER_NAME), $table);
        $done = false;
        $words = '';
        $previous = null;
        try {
            $statement = $database->prepare(\str_replace('($1, $2)', '(?, ?)', $sql));
            $done = $statement !== false && $statement->execute([$name, $token]);
            $words = (string) ($statement === false ? $database : $statement)->errorInfo()[2];
        } catch (\PDOException $previous) {
            $words = $previous->getMessage();
        }
        if (\str_contains($words, self::STALE)) {
            $message = "a newer holder of \"{$name}\" has written: the fencing token {$token} is stale";
            throw new LockLost($message, Code::LOST, 'LOST', null, false, $previous);
        }
        if (!$done) {
            throw $previous ?? new \PDOException($words);
        }
    }

    /**
     * A script for EVAL that runs a command unless the token is stale. KEYS: the key that keeps the highest
     * token, then every key of the command. ARGV: the token, then the command and its arguments. The refusal
     * is an error that begins with STALE.
     */
    public static function redisScript(): string
    {
        return Native::library()->synlock_fencing_redis();
    }

    /** @param \Closure(Native, mixed...): int $call */
    private static function read(\Closure $call): string
    {
        return Native::current()->read(
            static fn (Native $native, mixed $buffer, int $size, mixed $length): int
                => $call($native, $buffer, $size, $length, $native->errorSlot),
        );
    }
}
