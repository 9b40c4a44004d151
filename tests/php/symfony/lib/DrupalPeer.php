<?php

declare(strict_types=1);

namespace Synlock\Tests;

/** Drupal's DatabaseLockBackend: its statements, by plain PDO. */
final class DrupalPeer
{
    public readonly string $id;
    /** @var array<string, true> */
    private array $locks = [];

    public function __construct(public readonly \PDO $pdo, ?string $id = null)
    {
        $this->id = $id ?? uniqid((string) mt_rand(), true);
    }

    public static function connect(string $dsn, string $user): \PDO
    {
        // As Drupal's drivers: MySQL counts the rows that matched.
        $found = str_starts_with($dsn, 'mysql:') ? [\PDO::MYSQL_ATTR_FOUND_ROWS => true] : [];
        $pdo = new \PDO($dsn, $user, '', [\PDO::ATTR_ERRMODE => \PDO::ERRMODE_EXCEPTION] + $found);
        if (str_starts_with($dsn, 'sqlite:')) {
            $pdo->exec('PRAGMA busy_timeout = 10000');
            $pdo->sqliteCreateCollation('NOCASE_UTF8', static fn (string $a, string $b): int => strcmp(mb_strtolower($a), mb_strtolower($b)));
        }

        return $pdo;
    }

    public function run(string $sql, array $values): \PDOStatement
    {
        $statement = $this->pdo->prepare($sql);
        $statement->execute($values);

        return $statement;
    }

    public static function normalize(string $name): string
    {
        $ascii = mb_check_encoding($name, 'ASCII');
        if (strlen($name) <= 255 && $ascii) {
            return $name;
        }
        $hash = str_replace(['+', '/', '='], ['-', '_', ''], base64_encode(hash('sha256', $name, true)));

        return $ascii ? substr($name, 0, 255 - strlen($hash)) . $hash : $hash;
    }

    public function acquire(string $name, float $timeout = 30.0): bool
    {
        $name = self::normalize($name);
        $expire = microtime(true) + max($timeout, 0.001);
        if (isset($this->locks[$name])) {
            $renewed = $this->run('UPDATE semaphore SET expire = ? WHERE name = ? AND value = ?', [$expire, $name, $this->id])->rowCount() > 0;
            if (!$renewed) {
                unset($this->locks[$name]);
            }

            return $renewed;
        }
        for ($try = 0; $try < 2; ++$try) {
            try {
                $this->run('INSERT INTO semaphore (name, value, expire) VALUES (?, ?, ?)', [$name, $this->id, $expire]);
                $this->locks[$name] = true;

                return true;
            } catch (\PDOException) {
                if ($try > 0 || !$this->lockMayBeAvailable($name)) {
                    return false;
                }
            }
        }

        return false;
    }

    public function lockMayBeAvailable(string $name): bool
    {
        $name = self::normalize($name);
        $row = $this->row($name);
        if ($row === null) {
            return true;
        }
        if (microtime(true) <= $row['expire']) {
            return false;
        }

        return $this->run(
            'DELETE FROM semaphore WHERE name = ? AND value = ? AND expire <= ?',
            [$name, $row['value'], 0.0001 + $row['expire']],
        )->rowCount() > 0;
    }

    public function release(string $name): void
    {
        $name = self::normalize($name);
        unset($this->locks[$name]);
        $this->run('DELETE FROM semaphore WHERE name = ? AND value = ?', [$name, $this->id]);
    }

    public function releaseAll(?string $id = null): void
    {
        if ($id !== null || $this->locks !== []) {
            $this->locks = [];
            $this->run('DELETE FROM semaphore WHERE value = ?', [$id ?? $this->id]);
        }
    }

    /** @return array{value: string, expire: float}|null */
    public function row(string $name): ?array
    {
        $row = $this->run('SELECT expire, value FROM semaphore WHERE name = ?', [self::normalize($name)])->fetch(\PDO::FETCH_ASSOC);

        return $row === false ? null : ['value' => (string) $row['value'], 'expire' => (float) $row['expire']];
    }
}
