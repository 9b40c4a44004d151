<?php

declare(strict_types=1);

namespace Synlock\Symfony\Internal;

use Synlock\Ask;
use Synlock\Attempt;
use Synlock\CustomStore;
use Synlock\Store;

/**
 * Symfony's table of locks, by way of a connection of the program's own. Each step is one statement, judged by
 * the database's clock.
 *
 * @internal
 */
final class Table implements CustomStore, Inheritable
{
    use Guarded;

    public bool $survivesRestart = true;
    public string $scope = 'cluster';
    private readonly string $table;
    private readonly string $id;
    private readonly string $token;
    private readonly string $end;
    /** @var array<string, string> name => owner whose hold the next attempt takes over */
    private array $heritage = [];
    /** @var array<string, true> owners whose holds stay when they are released */
    private array $kept = [];

    /** @param array<string, mixed> $options `db_table`, `db_id_col`, `db_token_col`, `db_expiration_col` */
    public function __construct(private readonly Sql $sql, private readonly array $options, private readonly float $gcProbability)
    {
        $this->table = $this->quote($options['db_table'] ?? 'lock_keys');
        $this->id = $this->quote($options['db_id_col'] ?? 'key_id');
        $this->token = $this->quote($options['db_token_col'] ?? 'key_token');
        $this->end = $this->quote($options['db_expiration_col'] ?? 'key_expiration');
    }

    /** Throws inside a transaction, before the core begins what it could not end. */
    public function check(): void
    {
        self::outside($this->sql);
    }

    public function open(): Store
    {
        return Store::custom($this, self::name(self::outside($this->sql), $this->table));
    }

    public function attempt(Ask $ask): Attempt|bool
    {
        $until = $this->until($ask);
        $from = $this->heritage[$ask->name] ?? null;
        if ($from !== null) {
            unset($this->heritage[$ask->name]);

            return $this->change(
                "UPDATE {$this->table} SET {$this->token} = ?, {$this->end} = {$this->later($until)} WHERE {$this->id} = ? AND {$this->token} = ? AND {$this->end} > {$this->now()}",
                [$ask->owner, self::key($ask->name), $from],
            ) > 0;
        }
        [$now, $token, $end] = [$this->now(), $this->token, $this->end];
        $values = "INSERT INTO {$this->table} ({$this->id}, {$token}, {$end}) VALUES (?, ?, {$until})";
        $upsert = $this->sql->engine() === 'mysql'
            ? "{$values} ON DUPLICATE KEY UPDATE {$token} = IF({$end} <= {$now}, VALUES({$token}), {$token}), {$end} = IF({$token} = VALUES({$token}), VALUES({$end}), {$end})"
            : "{$values} ON CONFLICT ({$this->id}) DO UPDATE SET {$token} = excluded.{$token}, {$end} = excluded.{$end} WHERE {$this->table}.{$token} = excluded.{$token} OR {$this->table}.{$end} <= {$now}";
        $changed = $this->change($upsert, [self::key($ask->name), $ask->owner]);
        if ($changed === 0 || $this->sql->engine() === 'mysql') {
            // MySQL counts as it likes.
            $owner = $this->sql->value("SELECT {$token} FROM {$this->table} WHERE {$this->id} = ?", [self::key($ask->name)]);
            if ($owner !== $ask->owner) {
                return Attempt::busy(poll: 0.1);
            }
        }
        $this->prune();

        return true;
    }

    public function release(Ask $ask): bool
    {
        if (isset($this->kept[$ask->owner])) {
            unset($this->kept[$ask->owner]);

            return true;
        }

        return $this->change("DELETE FROM {$this->table} WHERE {$this->id} = ? AND {$this->token} = ?", [self::key($ask->name), $ask->owner]) > 0;
    }

    public function isHeld(Ask $ask): bool
    {
        try {
            return self::outside($this->sql)->value(
                "SELECT 1 FROM {$this->table} WHERE {$this->id} = ? AND {$this->token} = ? AND {$this->end} > {$this->now()}",
                [self::key($ask->name), $ask->owner],
            ) !== null;
        } catch (\Exception $thrown) {
            return $this->sql->isMissingTable($thrown) ? false : throw $thrown;
        }
    }

    public function extend(Ask $ask): bool
    {
        $changed = $this->change(
            "UPDATE {$this->table} SET {$this->end} = {$this->later($this->until($ask))} WHERE {$this->id} = ? AND {$this->token} = ? AND {$this->end} > {$this->now()}",
            [self::key($ask->name), $ask->owner],
        );

        return $changed > 0 || $this->isHeld($ask);
    }

    public function ping(Ask $ask): void
    {
        self::outside($this->sql)->value('SELECT 1');
    }

    public function letGo(string $name, string $owner): void
    {
        $this->kept[$owner] = true;
    }

    public function inherit(string $name, string $owner): void
    {
        $this->heritage[$name] = $owner;
    }

    public function create(): void
    {
        $plain = ['table' => 'a_table', 'id_col' => 'an_id', 'token_col' => 'a_token', 'expiration_col' => 'an_end'];
        $ddl = Store::open('sqlite:/dev/null', ['dialect' => 'symfony'] + $plain)->ddl($this->sql->engine());
        $names = \array_combine(\array_map($this->quote(...), $plain), [$this->table, $this->id, $this->token, $this->end]);
        self::outside($this->sql)->run(\strtr($ddl, $names));
    }

    private function change(string $sql, array $values): int
    {
        try {
            return self::outside($this->sql)->run($sql, $values);
        } catch (\Exception $thrown) {
            if (!$this->sql->isMissingTable($thrown)) {
                throw $thrown;
            }
        }
        try {
            $this->create();
        } catch (\Exception) {
            // Somebody else may have made it at the same time.
        }

        return $this->sql->run($sql, $values);
    }

    private function prune(): void
    {
        if ($this->gcProbability > 0 && \random_int(0, \PHP_INT_MAX) / \PHP_INT_MAX <= $this->gcProbability) {
            $this->sql->run("DELETE FROM {$this->table} WHERE {$this->end} <= {$this->now()}");
        }
    }

    private function now(): string
    {
        return match ($this->sql->engine()) {
            'mysql' => "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) / 1000000.0)",
            'pgsql' => 'CAST(extract(epoch FROM clock_timestamp()) AS double precision)',
            'sqlite' => "((julianday('now') - 2440587.5) * 86400.0)",
        };
    }

    /** The end of a lease from now, never earlier than asked: integer columns would round. */
    private function until(Ask $ask): string
    {
        if ($ask->ttl < 1) {
            throw \Synlock\Internal\Native::invalid("a TTL of {$ask->ttl} seconds: Symfony's table counts in whole ones");
        }
        $end = \sprintf('%s + %.6F', $this->now(), $ask->ttl);

        return $this->sql->engine() === 'sqlite' ? $end : "CEIL({$end})";
    }

    private function later(string $until): string
    {
        return ($this->sql->engine() === 'sqlite' ? 'MAX' : 'GREATEST') . "({$this->end}, {$until})";
    }

    /**
     * Symfony writes names as they come: what is more than a plain name is the database's to read, and a plain one in
     * quotes means what it means there without.
     */
    private function quote(string $name): string
    {
        $plain = Url::identifier($name, $this->sql->engine());
        $mark = $this->sql->engine() === 'mysql' ? '`' : '"';

        return $plain === null ? $name : $mark . \str_replace('.', "{$mark}.{$mark}", $plain) . $mark;
    }

    private static function key(string $name): string
    {
        return \hash('sha256', $name);
    }
}
