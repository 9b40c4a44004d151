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

    /** Connection options of PDO that matter to it alone. */
    private const HARMLESS = [\PDO::ATTR_ERRMODE, \PDO::ATTR_DEFAULT_FETCH_MODE, \PDO::ATTR_EMULATE_PREPARES, \PDO::ATTR_STRINGIFY_FETCHES];

    /** A path as part of a URL. */
    public static function path(string $path): string
    {
        return \implode('/', \array_map(\rawurlencode(...), \explode('/', $path)));
    }

    /**
     * @param array<string, mixed> $options of a table store of Symfony
     * @param string               $engine  `sqlite`, `mysql` or `pgsql`
     *
     * @return array<string, string>|null null if a name is more than a plain one
     */
    public static function table(array $options, string $engine): ?array
    {
        $table = ['dialect' => 'symfony'];
        foreach (self::TABLE as $theirs => $ours) {
            if (isset($options[$theirs])) {
                $name = self::identifier((string) $options[$theirs], $engine);
                if ($name === null) {
                    return null;
                }
                $table[$ours] = $name;
            }
        }

        return $table;
    }

    /**
     * The table or column that an engine means by this name, which Symfony does not quote; null if it is more than a plain
     * name, perhaps with a schema.
     */
    public static function identifier(string $name, string $engine): ?string
    {
        if (!\preg_match('/^[a-z_][a-z0-9_]{0,62}(\.[a-z_][a-z0-9_]{0,62})?$/Di', $name)) {
            return null;
        }

        return $engine === 'pgsql' ? \strtolower($name) : $name;
    }

    /**
     * The database of a DSN of PDO, or of a URL of Doctrine. Null if anything in it is not understood: then only PDO or
     * Doctrine knows what is meant.
     *
     * @param array<string, mixed> $options with `db_username`, `db_password`, `db_connection_options`
     *
     * @return array{string, array<string, string|int|null>}|null URL, and options without those of a table
     */
    public static function database(string $dsn, array $options, string $advisory = ''): ?array
    {
        $isUrl = \preg_match('~^[a-z0-9_+-]+://~', $dsn) === 1;
        $engine = self::engine($dsn);
        $attributes = $options['db_connection_options'] ?? [];
        if ($attributes !== [] && \array_diff_key($attributes, \array_flip(self::HARMLESS)) !== []) {
            return null; // certificates, for instance
        }
        if ($engine === 'sqlite') {
            return $advisory === '' ? self::file(\explode(':', $dsn, 2)[1], $isUrl) : null;
        }
        $at = match (true) {
            $engine === null => null,
            $isUrl => self::parts($dsn),
            default => self::words(\explode(':', $dsn, 2)[1], $engine, $options),
        };
        $at = $at === null ? null : ($engine === 'mysql' ? self::mysql($at) : self::postgres($at, $isUrl));

        return $at === null ? null : self::server(($engine === 'mysql' ? 'mysql' : 'postgres') . $advisory, $at);
    }

    /** `sqlite`, `mysql` or `pgsql`. */
    public static function engine(string $dsn): ?string
    {
        return match (\preg_replace('~^pdo[_-]~', '', (string) \strstr($dsn, ':', true))) {
            'mysql', 'mysql2', 'mysqli' => 'mysql',
            'pgsql', 'postgres', 'postgresql' => 'pgsql',
            'sqlite', 'sqlite3' => 'sqlite',
            default => null,
        };
    }

    private static function file(string $path, bool $isUrl): ?array
    {
        if ($isUrl) {
            // Doctrine writes the path behind three slashes, PDO behind none.
            if (!\str_starts_with($path, '///') || \strpbrk($path, '?#') !== false) {
                return null;
            }
            $path = \rawurldecode(\substr($path, 3));
        }
        if ($path === '' || $path === ':memory:' || \str_starts_with($path, 'file:')) {
            return null;
        }

        return ['sqlite:' . self::path($path[0] === '/' ? $path : \getcwd() . "/{$path}"), []];
    }

    /** @param array<string, ?string> $at */
    private static function server(string $scheme, array $at): array
    {
        $host = $at['socket'] !== null ? '' : $at['host'];
        $port = $at['port'] === null ? '' : ":{$at['port']}";
        if (\str_contains($host, ':') && $host[0] !== '[') {
            $host = "[{$host}]";
        }

        return ["{$scheme}://{$host}{$port}/" . \rawurlencode($at['dbname'] ?? ''), [
            'username' => $at['user'],
            'password' => $at['password'],
            'socket' => $at['socket'],
        ]];
    }

    /**
     * PDO's own words: `host=…;port=…`, for PostgreSQL also with blanks.
     *
     * @param array<string, mixed> $options
     *
     * @return array<string, ?string>|null
     */
    private static function words(string $text, string $engine, array $options): ?array
    {
        if (\str_contains($text, ';;') || ($engine === 'pgsql' && \strpbrk($text, '\'\\') !== false)) {
            return null; // quoted
        }
        $at = ['user' => $options['db_username'] ?? null, 'password' => $options['db_password'] ?? null];
        foreach (\preg_split($engine === 'pgsql' ? '/[;\s]+/' : '/;\s*/', \trim($text), -1, \PREG_SPLIT_NO_EMPTY) as $word) {
            [$key, $value] = \explode('=', $word, 2) + [1 => null];
            // Of two names or passwords PDO chooses.
            if ($value === null || (isset($at[$key]) && (string) $at[$key] !== $value)) {
                return null;
            }
            $at[$key] = $value;
        }

        return $at;
    }

    /** @return array<string, ?string>|null */
    private static function parts(string $url): ?array
    {
        $parts = \parse_url(\preg_replace('~^([^:]+):///~', '$1://localhost/', $url)) ?: null;
        if ($parts === null || isset($parts['fragment'])) {
            return null;
        }
        \parse_str($parts['query'] ?? '', $query);
        $decode = static fn (string $key): ?string => isset($parts[$key]) ? \rawurldecode((string) $parts[$key]) : null;

        return [
            'host' => $decode('host'),
            'port' => $decode('port'),
            'user' => $decode('user'),
            'password' => $decode('pass'),
            'dbname' => \ltrim($decode('path') ?? '', '/'),
        ] + $query;
    }

    /**
     * @param array<string, mixed> $at
     *
     * @return array<string, ?string>|null
     */
    private static function mysql(array $at): ?array
    {
        $at['socket'] = $at['unix_socket'] ?? null;
        if ($at['socket'] === null && \in_array($at['host'] ?? '', ['', 'localhost'], true)) {
            // That is no host, to MySQL.
            $at['socket'] = \ini_get('pdo_mysql.default_socket') ?: null;
        }
        unset($at['unix_socket'], $at['charset'], $at['serverVersion']);

        return $at['socket'] === null && ($at['host'] ?? '') === '' ? null : self::known($at);
    }

    /**
     * @param array<string, mixed> $at
     *
     * @return array<string, ?string>|null
     */
    private static function postgres(array $at, bool $isUrl): ?array
    {
        // What encrypts where it can, but need not, is left unencrypted.
        $isPlain = \in_array($at['sslmode'] ?? 'prefer', ['disable', 'allow', 'prefer'], true);
        $isTold = isset($at['host'], $at['user']) && !\str_contains($at['host'], ',') && ($at['dbname'] ?? '') !== '';
        $isElsewhere = \preg_grep('/^PG(?!DATA$)[A-Z]+$/', \array_keys(\getenv())) !== []
            || (!isset($at['password']) && \is_file(\getenv('HOME') . '/.pgpass'));
        if (!$isPlain || !$isTold || $isElsewhere) {
            return null; // libpq knows
        }
        $at['socket'] = $at['host'][0] === '/' ? $at['host'] : null;
        unset($at['sslmode']);
        if ($isUrl) {
            unset($at['charset'], $at['serverVersion']);
        }

        return self::known($at);
    }

    /**
     * @param array<string, mixed> $at
     *
     * @return array<string, ?string>|null null if there is more than is known
     */
    private static function known(array $at): ?array
    {
        $none = \array_fill_keys(['host', 'port', 'socket', 'dbname', 'user', 'password'], null);

        return \array_diff_key($at, $none) === [] ? \array_map(static fn (mixed $value): ?string => $value === null ? null : (string) $value, $at) + $none : null;
    }
}
