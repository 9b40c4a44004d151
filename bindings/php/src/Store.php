<?php

declare(strict_types=1);

namespace Synlock;

use FFI\CData;
use Synlock\Exception\SynlockException;
use Synlock\Internal\Events;
use Synlock\Internal\Native;
use Synlock\Internal\Options;

/**
 * A place that keeps locks. Opening connects to nothing; the first operation does. Usable in a
 * forked child, and after the end of a request in a long-lived worker.
 */
final class Store
{
    private CData $handle;
    private Native $native;
    private ?\Closure $log = null;
    /** @internal whether every call must tell the logger what has happened */
    public bool $isLogged = false;
    private ?Events $events = null;
    private ?Internal\Custom $callbacks = null;
    private bool $isMeasured = false;

    /**
     * @param array<string, string> $settings
     */
    private function __construct(
        private readonly string $given,
        private readonly array $settings,
        private readonly ?CustomStore $custom = null,
    ) {
        $this->native();
    }

    /**
     * @param string                                     $url     such as `flock:/tmp`, `redis://host/0`, `memory:`;
     *                                                            empty: the variable `SYNLOCK_URL`
     * @param array<string, string|int|float|bool|null>  $options win over those of the URL; null is left out
     *
     * @throws SynlockException `InvalidUrl`, `InvalidArgument`; `NotAvailable` if libsynlock cannot be used
     */
    public static function open(string $url = '', array $options = []): self
    {
        return new self($url, self::settings($url, $options));
    }

    /**
     * A store that keeps its locks in an object of one's own. The object is called inside the calls that use
     * the locks: a wait asks it again and again, and nobody renews a lease (its locks need a `ttl`, unless
     * its property `freesOnDeath` is true). Handlers of signals run when it has answered.
     *
     * @param CustomStore                               $store   its properties `shared`, `permits`, `freesOnDeath`,
     *                                                           `survivesRestart`, `fence` (`E`, `H`, `D`) and `scope`
     *                                                           (`process`, `host`, `cluster`) say what it can do
     * @param string                                    $name    what its URL shows, `custom:NAME`
     * @param array<string, string|int|float|bool|null> $options of its locks, as in a URL
     *
     * @throws SynlockException `InvalidArgument`, `Unsupported`
     */
    public static function custom(CustomStore $store, string $name = 'php', array $options = []): self
    {
        return new self($name, self::settings($name, $options), $store);
    }

    /**
     * @param array<string, string|int|float|bool|null> $options
     *
     * @return array<string, string>
     */
    private static function settings(string $url, array $options): array
    {
        $settings = [];
        foreach ($options as $key => $value) {
            if ($value !== null) {
                $settings[(string) $key] = \is_bool($value) ? (string) (int) $value : (string) $value;
            }
        }
        foreach ([$url, ...\array_keys($settings), ...$settings] as $text) {
            if (\str_contains((string) $text, "\0")) {
                throw Native::invalid('a NUL in the URL or an option');
            }
        }

        return $settings;
    }

    public function __destruct()
    {
        if (isset($this->handle)) {
            if (!$this->native->ended) {
                $this->events?->free();
            }
            $this->native->ffi->synlock_store_free($this->handle);
        }
    }

    private function __clone()
    {
    }

    public function __serialize(): array
    {
        throw new Exception\Unsupported('a store cannot be serialized; open it by its URL', Code::UNSUPPORTED, 'UNSUPPORTED');
    }

    /**
     * A lock on a name; takes nothing yet.
     *
     * @param string      $name        bytes, 1 to 65536
     * @param float|null  $ttl         lease in seconds, 0.001 to ten years; narrower on some stores: memcached 1 s
     *                                 to 30 days, etcd from 1 s, a quorum up to its `max_ttl` (60 s), Symfony's and
     *                                 Laravel's tables from 1 s. Null: held until released or the owner dies; on
     *                                 stores that do not see that, a 30 s lease that is renewed
     * @param bool|null   $autoRelease release on destruction and at the end of the request; null: the
     *                                 store's default, on
     * @param float|null  $timeout     what `acquire(true)` waits, in seconds; null: for ever
     * @param bool|null   $renew       keep the lease alive until release; null: only if `$ttl` is null
     * @param bool        $shared      `acquire()` takes a shared hold
     * @param int|null    $permits     take so many permits of `$of` (a counting semaphore); null: one
     * @param int|null    $of          permits that there are
     * @param bool|null   $fair        first come, first served; null: the store's default, on
     * @param bool|null   $strict      refuse whatever the store cannot promise
     * @param string|null $reentry     this process asks again through another object: `independent`,
     *                                 `error`, `extend` (the first release ends the hold for all of them); null:
     *                                 the store's default, `independent`
     * @param string|null $label       words shown to whoever inspects the lock, at most 255 bytes
     *
     * @throws SynlockException `InvalidArgument`; `Unsupported` for what the store cannot do
     */
    public function createLock(
        string $name,
        ?float $ttl = null,
        ?bool $autoRelease = null,
        ?float $timeout = null,
        ?bool $renew = null,
        bool $shared = false,
        ?int $permits = null,
        ?int $of = null,
        ?bool $fair = null,
        ?bool $strict = null,
        ?string $reentry = null,
        ?string $label = null,
    ): Lock {
        $options = new Options($ttl, $autoRelease, $timeout, $renew, $shared, $permits, $of, $fair, $strict, $reentry, $label);

        return new Lock($this, $name, $options);
    }

    /**
     * One owner of many locks, known by its id: Drupal's model.
     *
     * @param string|null $id null: the session draws one, and its locks end with it. Otherwise the persistent
     *                        session of this id, 1 to 255 printable characters of ASCII
     *
     * @throws SynlockException `InvalidArgument`; `Unsupported` for a persistent session where locks end with
     *                          the process that took them
     */
    public function createSession(?string $id = null): Session
    {
        return new Session($this, $id);
    }

    /**
     * Takes over a hold that `Lock::export()` let go of, perhaps in another process or language; one
     * of several adopters wins.
     *
     * @param float|null $ttl         as for `createLock()`
     * @param bool|null  $autoRelease as for `createLock()`
     *
     * @throws SynlockException `LockLost` if the hold is gone or was adopted; `InvalidArgument` for
     *                          other text or another store; `Unsupported`
     */
    public function adopt(string $exported, ?float $ttl = null, ?bool $autoRelease = null): Lock
    {
        return Lock::adopt($this, $exported, new Options($ttl, $autoRelease, null, null, false, null, null, null, null, null, null));
    }

    /**
     * Connects now, and throws unless the store can serve.
     *
     * @param float|null $timeout seconds; null: the store's own limit
     *
     * @throws SynlockException
     */
    public function ping(?float $timeout = null): void
    {
        $native = $this->native();
        $wait = $timeout === null ? -1 : Native::milliseconds($timeout, 'a timeout');
        $status = $native->ffi->synlock_store_ping($this->handle, $wait, $native->errorSlot);
        $native->check($status);
    }

    /**
     * Whether anybody holds the lock.
     *
     * @throws SynlockException
     */
    public function isLocked(string $name): bool
    {
        $native = $this->native();
        $held = $native->ffi->new('int32_t');
        $place = \FFI::addr($held);
        $status = $native->ffi->synlock_store_is_locked($this->handle, $name, \strlen($name), $place, $native->errorSlot);
        $native->check($status);

        return $held->cdata === 1;
    }

    /**
     * Takes the lock from whoever holds it, who finds it lost. False if nobody held it.
     *
     * @throws SynlockException
     */
    public function breakLock(string $name): bool
    {
        $native = $this->native();
        $broken = $native->ffi->new('int32_t');
        $place = \FFI::addr($broken);
        $status = $native->ffi->synlock_store_break($this->handle, $name, \strlen($name), $place, $native->errorSlot);
        $native->check($status);

        return $broken->cdata === 1;
    }

    /**
     * Makes the table that the store keeps its locks in, if it is not there.
     *
     * @param float|null $timeout seconds; null: the store's own limit
     *
     * @throws SynlockException `Unsupported` on a store without a table
     */
    public function createTable(?float $timeout = null): void
    {
        $native = $this->native();
        $wait = $timeout === null ? -1 : Native::milliseconds($timeout, 'a timeout');
        $status = $native->ffi->synlock_store_create_table($this->handle, $wait, $native->errorSlot);
        $native->check($status);
    }

    /**
     * The SQL that makes that table, on the store's own engine or on `sqlite`, `postgres` or `mysql`.
     *
     * @throws SynlockException `Unsupported` on a store without a table
     */
    public function ddl(?string $engine = null): string
    {
        return $this->native()->read(
            fn (Native $native, ?CData $buffer, int $size, CData $length): int
                => $native->ffi->synlock_store_ddl($this->handle, $engine, $buffer, $size, $length, $native->errorSlot),
        );
    }

    /**
     * What dead users left in the store and nobody has cleared away yet, and damage, in words; empty
     * if the store is sound. Changes nothing.
     *
     * @return list<string>
     *
     * @throws SynlockException `Unsupported` except on `shm:`
     */
    public function check(): array
    {
        $native = $this->native();
        $findings = $native->ffi->new('uint64_t');
        $text = $native->ffi->new('char[8192]');
        $place = \FFI::addr($findings);
        $status = $native->ffi->synlock_store_check($this->handle, $place, $text, 8192, null, $native->errorSlot);
        $native->check($status);
        $found = \FFI::string($text);

        return $found === '' ? [] : explode("\n", $found);
    }

    /**
     * Waits until nobody holds the lock, and takes nothing. False when the time is over.
     *
     * @param float|null $timeout seconds; null: for ever, or `LockTimeout` after `Runtime::maxWait()`
     *
     * @throws SynlockException
     */
    public function waitFree(string $name, ?float $timeout = null): bool
    {
        $deadline = Internal\Deadline::in($timeout);
        do {
            // In slices, so that PHP can run its signal handlers between them.
            $native = $this->native();
            $status = $native->ffi->synlock_store_wait_free($this->handle, $name, \strlen($name), $deadline->slice(), $native->errorSlot);
            if ($status !== Code::TIMEOUT) {
                $native->check($status);

                return true;
            }
            $native->forget();
        } while (!$deadline->isOver());

        return $deadline->end("nobody let go of the lock \"{$name}\"");
    }

    /**
     * Who holds the lock and how many wait.
     *
     * @throws SynlockException
     */
    public function inspect(string $name): Inspection
    {
        $native = $this->native();
        $list = $native->ffi->new('synlock_list *');
        $place = \FFI::addr($list);
        $status = $native->ffi->synlock_store_inspect($this->handle, $name, \strlen($name), $place, $native->errorSlot);
        $native->check($status);
        try {
            $waiters = $native->ffi->synlock_list_waiters($list);
            $found = Internal\Rows::read($native, $list);
        } finally {
            $native->ffi->synlock_list_free($list);
        }

        return $found[0] ?? new Inspection($name, [], $waiters < 0 ? null : $waiters);
    }

    /**
     * The locks that are held and whose names begin with `$prefix`, in no particular order.
     *
     * @return \Generator<int, Inspection>
     *
     * @throws SynlockException
     */
    public function list(string $prefix = ''): \Generator
    {
        $cursor = null;
        do {
            $native = $this->native();
            $list = $native->ffi->new('synlock_list *');
            $place = \FFI::addr($list);
            $status = $native->ffi->synlock_store_list($this->handle, $prefix, \strlen($prefix), $cursor, 500, $place, $native->errorSlot);
            $native->check($status);
            try {
                $page = Internal\Rows::read($native, $list);
                $cursor = $native->ffi->synlock_list_cursor($list);
            } finally {
                $native->ffi->synlock_list_free($list);
            }
            foreach ($page as $found) {
                yield $found;
            }
        } while ($cursor !== null);
    }

    /**
     * Tells a logger what happens to the locks of this store: a PSR-3 `LoggerInterface`, or a function
     * (level, message, context). It is called between calls of synlock, never from another thread;
     * what it throws goes to PHP's error log. Costs about a microsecond an event.
     *
     * Without one, a loss that no call reports (of a lock that is destroyed, say) and cautions about
     * the store are an E_USER_WARNING.
     *
     * @param object|null $logger null: nobody
     *
     * @throws Exception\InvalidArgument
     */
    public function setLogger(?object $logger): void
    {
        $this->log = match (true) {
            $logger === null => null,
            $logger instanceof \Closure => $logger,
            \method_exists($logger, 'log') => $logger->log(...),
            default => throw Native::invalid('a logger has a method log(level, message, context)'),
        };
        $this->isLogged = $this->log !== null;
        $this->native();
        $this->listen();
    }

    /**
     * Counts from now on what happens to the locks of this store, for `Runtime::metrics()`, or stops it.
     *
     * @throws SynlockException
     */
    public function measure(bool $on = true): void
    {
        $native = $this->native();
        $status = $native->ffi->synlock_store_measure($this->handle, (int) $on, $native->errorSlot);
        $native->check($status);
        $this->isMeasured = $on;
    }

    private function listen(): void
    {
        if ($this->events !== null && isset($this->native->events[$this->events])) {
            $this->events->free();
        }
        $this->events = new Events($this->native, $this->handle, $this->log ?? Events::warn(...), $this->log !== null);
        $this->native->events[$this->events] = true;
    }

    /**
     * Tells the logger what has happened.
     *
     * @internal
     */
    public function tell(): void
    {
        if ($this->log !== null && !$this->native->ended) {
            $this->events?->tell();
        }
    }

    /**
     * As `tell()`, after what may have left a warning behind.
     *
     * @internal
     */
    public function warn(): void
    {
        if (!$this->native->ended) {
            $this->events?->tell();
        }
    }

    /**
     * Lets a request guard use the store.
     *
     * @internal
     */
    public function guard(CData $guard, string $name, bool $canWait): void
    {
        $native = $this->native();
        $status = $native->ffi->synlock_guard_add($guard, $name, $this->handle, $canWait ? 1 : -1, $native->errorSlot);
        $native->check($status);
    }

    /** What the store can do. */
    public function capabilities(): Capabilities
    {
        $native = $this->native();
        $can = $native->sized('synlock_capabilities');
        $place = \FFI::addr($can);
        $status = $native->ffi->synlock_store_capabilities($this->handle, $place, $native->errorSlot);
        $native->check($status);

        return new Capabilities(
            $can->store,
            $can->shared === 1,
            $can->promote === 1,
            $can->permits === 1,
            $can->ttl === 1,
            $can->frees_on_death === 1,
            $can->fence,
            $can->wakes === 1,
            $can->fair === 1,
            $can->can_export === 1,
            $can->list === 1,
            $can->break_lock === 1,
            $can->survives_restart === 1,
            $can->clock,
            $can->scope,
        );
    }

    /** The URL without credentials. */
    public function url(): string
    {
        return $this->native()->read(
            fn (Native $native, ?CData $buffer, int $size, CData $length): int
                => $native->ffi->synlock_store_url($this->handle, $buffer, $size, $length, $native->errorSlot),
        );
    }

    /** Equal in every process and language that shares the same locks. */
    public function fingerprint(): string
    {
        return $this->native()->read(
            fn (Native $native, ?CData $buffer, int $size, CData $length): int
                => $native->ffi->synlock_store_fingerprint($this->handle, $buffer, $size, $length, $native->errorSlot),
        );
    }

    /**
     * The library and this store's handle in it, which is made anew after the end of a request.
     *
     * @internal
     */
    public function native(): Native
    {
        if (!isset($this->native) || $this->native->ended) {
            $native = Native::current();
            if ($this->custom !== null) {
                $native->calm();
                // Kept from request to request: PHP frees no callback before its own end.
                $this->callbacks ??= new Internal\Custom($native, $this->custom);
            }
            $this->handle = $native->openStore($this->given, $this->settings, $this->callbacks?->table);
            $this->native = $native;
            $this->listen();
            if ($this->isMeasured) {
                $this->measure();
            }
        }

        return $this->native;
    }

    /**
     * @internal
     */
    public function handle(): CData
    {
        $this->native();

        return $this->handle;
    }
}
