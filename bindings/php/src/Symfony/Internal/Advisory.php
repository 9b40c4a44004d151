<?php

declare(strict_types=1);

namespace Synlock\Symfony\Internal;

use Synlock\Ask;
use Synlock\Attempt;
use Synlock\CustomStore;
use Synlock\Exception\LockLost;
use Synlock\Store;

/**
 * PostgreSQL's advisory locks in the session of a connection of the program, on Symfony's keys. The server lets one
 * session take a lock twice, so the holds of this process are told apart here.
 *
 * @internal
 */
final class Advisory implements CustomStore
{
    use Guarded;

    public bool $shared = true;
    public bool $freesOnDeath = true;
    public string $scope = 'cluster';
    /** @var \WeakMap<object, self>|null one for each session */
    private static ?\WeakMap $known = null;
    /** @var array<string, array<string, string>> key => owner => mode */
    private array $holds = [];

    private function __construct(private readonly Sql $sql)
    {
    }

    public static function of(Sql $sql): self
    {
        self::$known ??= new \WeakMap();

        return self::$known[$sql->session()] ??= new self($sql);
    }

    /** Throws inside a transaction, before the core begins what it could not end. */
    public function check(): void
    {
        self::outside($this->sql);
    }

    public function open(): Store
    {
        return Store::custom($this, self::name(self::outside($this->sql), 'advisory'));
    }

    public function attempt(Ask $ask): Attempt|bool
    {
        $key = self::key($ask->name);
        $holds = $this->holds[$key] ?? [];
        if (isset($holds[$ask->owner])) {
            return $holds[$ask->owner] === $ask->mode;
        }
        if ($holds !== [] && ($ask->mode === 'exclusive' || \in_array('exclusive', $holds, true))) {
            return Attempt::busy(poll: 0.05);
        }
        if (!$this->ask('pg_try_advisory_lock', $key, $ask->mode)) {
            return Attempt::busy(poll: 0.05);
        }
        $this->holds[$key][$ask->owner] = $ask->mode;

        return true;
    }

    public function changeMode(Ask $ask): Attempt|bool
    {
        $key = self::key($ask->name);
        $mode = $this->holds[$key][$ask->owner] ?? throw new LockLost('not held in this session');
        if ($mode === $ask->mode) {
            return true;
        }
        if (\count($this->holds[$key]) > 1 || !$this->ask('pg_try_advisory_lock', $key, $ask->mode)) {
            return Attempt::busy(poll: 0.05);
        }
        $this->ask('pg_advisory_unlock', $key, $mode);
        $this->holds[$key][$ask->owner] = $ask->mode;

        return true;
    }

    public function release(Ask $ask): bool
    {
        $key = self::key($ask->name);
        $mode = $this->holds[$key][$ask->owner] ?? null;
        $held = $mode !== null && $this->ask('pg_advisory_unlock', $key, $mode);
        unset($this->holds[$key][$ask->owner]);
        if (($this->holds[$key] ?? []) === []) {
            unset($this->holds[$key]);
        }

        return $held;
    }

    /** The session may be another one by now. */
    public function isHeld(Ask $ask): bool
    {
        $key = self::key($ask->name);
        $mode = $this->holds[$key][$ask->owner] ?? null;

        return $mode !== null && self::outside($this->sql)->value(
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND classid = 0 AND objid = {$key} AND objsubid = 1"
            . " AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND mode = ?",
            [$mode === 'shared' ? 'ShareLock' : 'ExclusiveLock'],
        ) !== null;
    }

    public function ping(Ask $ask): void
    {
        self::outside($this->sql)->value('SELECT 1');
    }

    private function ask(string $function, string $key, string $mode): bool
    {
        $function .= $mode === 'shared' ? '_shared' : '';

        return self::outside($this->sql)->value("SELECT CASE WHEN {$function}({$key}::bigint) THEN 1 END") !== null;
    }

    private static function key(string $name): string
    {
        return (string) \crc32($name);
    }
}
