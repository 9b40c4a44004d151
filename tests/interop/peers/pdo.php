<?php

// Drupal's and Laravel's own statements by plain PDO: pdo.php drupal|laravel NAME DSN USER

declare(strict_types=1);

require __DIR__ . '/turns.php';

[, $dialect, $name, $dsn, $user] = $argv;
$pdo = new PDO($dsn, $user, '', [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
if (str_starts_with($dsn, 'sqlite:')) {
    $pdo->exec('PRAGMA busy_timeout = 10000');
    // As Drupal's driver registers it.
    $pdo->sqliteCreateCollation('NOCASE_UTF8', static fn (string $a, string $b): int => strcmp(mb_strtolower($a), mb_strtolower($b)));
}
$run = static function (string $sql, array $values) use ($pdo): PDOStatement {
    $statement = $pdo->prepare($sql);
    $statement->execute($values);

    return $statement;
};

/** DatabaseLockBackend::acquire, lockMayBeAvailable and release. */
$drupal = static function () use ($run, $name): array {
    $id = uniqid((string) mt_rand(), true);
    $available = static function () use ($run, $name): bool {
        $row = $run('SELECT expire, value FROM semaphore WHERE name = ?', [$name])->fetch(PDO::FETCH_ASSOC);
        if ($row === false) {
            return true;
        }
        if (microtime(true) <= (float) $row['expire']) {
            return false;
        }

        return $run(
            'DELETE FROM semaphore WHERE name = ? AND value = ? AND expire <= ?',
            [$name, $row['value'], 0.0001 + (float) $row['expire']],
        )->rowCount() > 0;
    };

    return [
        static function () use ($run, $name, $id, $available): bool {
            for ($try = 0; $try < 2; ++$try) {
                try {
                    $run('INSERT INTO semaphore (name, value, expire) VALUES (?, ?, ?)', [$name, $id, microtime(true) + lease()]);

                    return true;
                } catch (PDOException) {
                    if (!$available()) {
                        return false;
                    }
                }
            }

            return false;
        },
        static fn (): bool => $run('DELETE FROM semaphore WHERE name = ? AND value = ?', [$name, $id])->rowCount() > 0,
        25_000,
    ];
};

/** DatabaseLock::acquire and release. */
$laravel = static function () use ($run, $name, $dsn): array {
    $owner = substr(strtr(base64_encode(random_bytes(24)), '+/=', 'abc'), 0, 16);
    $key = str_starts_with($dsn, 'mysql:') ? '`key`' : '"key"';

    return [
        static function () use ($run, $name, $owner, $key): bool {
            try {
                $run("INSERT INTO cache_locks ({$key}, owner, expiration) VALUES (?, ?, ?)", [$name, $owner, time() + lease()]);

                return true;
            } catch (PDOException) {
                return $run(
                    "UPDATE cache_locks SET owner = ?, expiration = ? WHERE {$key} = ? AND (owner = ? OR expiration <= ?)",
                    [$owner, time() + lease(), $name, $owner, time()],
                )->rowCount() >= 1;
            }
        },
        static fn (): bool => $run("DELETE FROM cache_locks WHERE {$key} = ? AND owner = ?", [$name, $owner])->rowCount() > 0,
        250_000,
    ];
};

[$try, $release, $pause] = ['drupal' => $drupal, 'laravel' => $laravel][$dialect]();
serve(
    static function () use ($try, $pause): bool {
        while (!$try()) {
            usleep($pause);
        }

        return true;
    },
    $try,
    $release,
);
