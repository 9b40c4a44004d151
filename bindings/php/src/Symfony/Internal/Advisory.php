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
    /** @var \WeakMap<object, \ArrayObject<string, array<string, string>>>|null connection => its holds */
    private static ?\WeakMap $known = null;
    /** @var \ArrayObject<string, array<string, string>> key => owner => mode */
    private readonly \ArrayObject $holds;

    public function __construct(private readonly Sql $sql)
    {
        self::$known ??= new \WeakMap();
        $this->holds = self::$known[$sql->session()] ??= new \ArrayObject();
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
        $holds = $this->held($key);
        if (isset($holds[$ask->owner])) {
            return $holds[$ask->owner] === $ask->mode;
        }
        if ($holds !== [] && ($ask->mode === 'exclusive' || \in_array('exclusive', $holds, true))) {
            return Attempt::busy(poll: 0.05);
        }
        if (!$this->ask('pg_try_advisory_lock', $key, $ask->mode)) {
            return Attempt::busy(poll: 0.05);
        }
        $this->holds[$key] = [$ask->owner => $ask->mode] + $holds;

        return true;
    }

    public function changeMode(Ask $ask): Attempt|bool
    {
        $key = self::key($ask->name);
        $holds = $this->held($key);
        $mode = $holds[$ask->owner] ?? throw new LockLost('not held in this session');
        if ($mode === $ask->mode) {
            return true;
        }
        if (\count($holds) > 1 || !$this->ask('pg_try_advisory_lock', $key, $ask->mode)) {
            return Attempt::busy(poll: 0.05);
        }
        $this->ask('pg_advisory_unlock', $key, $mode);
        $this->holds[$key] = [$ask->owner => $ask->mode];

        return true;
    }

    public function release(Ask $ask): bool
    {
        $key = self::key($ask->name);
        $holds = $this->held($key);
        $mode = $holds[$ask->owner] ?? null;
        unset($holds[$ask->owner]);
        $held = $mode !== null && $this->ask('pg_advisory_unlock', $key, $mode);
        $this->remember($key, $holds);

        return $held;
    }

    public function isHeld(Ask $ask): bool
    {
        return isset($this->held(self::key($ask->name))[$ask->owner]);
    }

    public function ping(Ask $ask): void
    {
        self::outside($this->sql)->value('SELECT 1');
    }

    /**
     * The holds of this process, without those that the session does not have: a connection that was closed is another
     * session when it is used again, and the program may have unlocked all.
     *
     * @return array<string, string> owner => mode
     */
    private function held(string $key): array
    {
        $sql = self::outside($this->sql);
        $holds = $this->holds[$key] ?? [];
        if ($holds === []) {
            return [];
        }
        $modes = (string) $sql->value(
            "SELECT string_agg(mode, ' ') FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND classid = 0 AND objid = {$key} AND objsubid = 1"
            . ' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())',
        );
        $isThere = static fn (string $mode): bool => \str_contains($modes, $mode === 'shared' ? 'ShareLock' : 'ExclusiveLock');

        return $this->remember($key, \array_filter($holds, $isThere));
    }

    /** @param array<string, string> $holds */
    private function remember(string $key, array $holds): array
    {
        if ($holds === []) {
            unset($this->holds[$key]);
        } else {
            $this->holds[$key] = $holds;
        }

        return $holds;
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
