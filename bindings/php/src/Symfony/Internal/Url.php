<?php

declare(strict_types=1);

namespace Synlock\Symfony\Internal;

/**
 * URLs of synlock out of the connection strings that Symfony takes.
 *
 * @internal
 */
final class Url
{
    /** Option of a table store of Symfony => of ours. */
    private const TABLE = ['db_table' => 'table', 'db_id_col' => 'id_col', 'db_token_col' => 'token_col', 'db_expiration_col' => 'expiration_col'];

    /** A path as part of a URL. */
    public static function path(string $path): string
    {
        return \implode('/', \array_map(\rawurlencode(...), \explode('/', $path)));
    }

    /**
     * @param array<string, mixed> $options of a table store of Symfony
     *
     * @return array<string, string>
     */
    public static function table(array $options): array
    {
        $table = ['dialect' => 'symfony'];
        foreach (self::TABLE as $theirs => $ours) {
            if (isset($options[$theirs])) {
                $table[$ours] = (string) $options[$theirs];
            }
        }

        return $table;
    }

    /**
     * The database of a DSN of PDO, or of a URL of Doctrine; null if only PDO or Doctrine can open it.
     *
     * @param array<string, mixed> $options with `db_username`, `db_password`
     *
     * @return array{string, array<string, string|int|null>}|null URL, and options without those of a table
     */
    public static function database(string $dsn, array $options, string $advisory = ''): ?array
    {
        $isUrl = \preg_match('~^[a-z0-9_+-]+://~', $dsn) === 1;
        [$scheme, $rest] = \explode(':', $dsn, 2) + [1 => ''];
        $scheme = match (\preg_replace('~^pdo[_-]~', '', $scheme)) {
            'mysql', 'mysql2', 'mysqli' => 'mysql',
            'pgsql', 'postgres', 'postgresql' => 'postgres',
            'sqlite', 'sqlite3' => 'sqlite',
            default => null,
        };
        if ($scheme === 'sqlite') {
            // Doctrine writes the path behind three slashes, PDO behind none.
            $path = $isUrl ? \rawurldecode(\substr((string) \strtok($rest, '?'), 3)) : $rest;
            $isFile = $path !== '' && $path !== ':memory:' && !\str_starts_with($path, 'file:') && $advisory === '';

            return $isFile ? ['sqlite:' . self::path($path[0] === '/' ? $path : \getcwd() . "/{$path}"), []] : null;
        }
        if ($scheme === null) {
            return null;
        }

        return self::server($scheme . $advisory, $isUrl ? self::parts($dsn) : self::words($rest, $options));
    }

    /** @param array<string, ?string> $at */
    private static function server(string $scheme, array $at): array
    {
        $socket = $at['socket'] ?? null;
        if ($socket === null && \str_starts_with($at['host'] ?? '', '/')) {
            $socket = $at['host']; // PostgreSQL's way
        }
        $host = $socket !== null ? '' : ($at['host'] ?? '127.0.0.1');
        $port = ($at['port'] ?? null) === null ? '' : ":{$at['port']}";
        if ($host !== '' && \str_contains($host, ':') && $host[0] !== '[') {
            $host = "[{$host}]";
        }
        $mode = $at['sslmode'] ?? null;

        return ["{$scheme}://{$host}{$port}/" . \rawurlencode($at['dbname'] ?? ''), [
            'username' => $at['user'] ?? null,
            'password' => $at['password'] ?? null,
            'socket' => $socket,
            // What encrypts where it can, but need not, is left unencrypted.
            'sslmode' => \in_array($mode, ['require', 'verify-ca', 'verify-full'], true) ? $mode : null,
        ]];
    }

    /** `host=…;port=…`, or with blanks. */
    private static function words(string $text, array $options): array
    {
        $at = [];
        foreach (\preg_split('/[;\s]+/', $text, -1, \PREG_SPLIT_NO_EMPTY) as $word) {
            [$key, $value] = \explode('=', $word, 2) + [1 => ''];
            $at[$key === 'unix_socket' ? 'socket' : $key] = $value;
        }
        $at['user'] ??= isset($options['db_username']) ? (string) $options['db_username'] : null;
        $at['password'] ??= isset($options['db_password']) ? (string) $options['db_password'] : null;

        return $at;
    }

    private static function parts(string $url): array
    {
        $parts = \parse_url(\preg_replace('~^([^:]+):///~', '$1://localhost/', $url)) ?: [];
        \parse_str($parts['query'] ?? '', $query);
        $decode = static fn (string $key): ?string => isset($parts[$key]) ? \rawurldecode((string) $parts[$key]) : null;

        return [
            'host' => $decode('host'),
            'port' => $decode('port'),
            'user' => $decode('user'),
            'password' => $decode('pass'),
            'dbname' => \ltrim($decode('path') ?? '', '/'),
            'socket' => $query['unix_socket'] ?? null,
            'sslmode' => $query['sslmode'] ?? null,
        ];
    }
}
