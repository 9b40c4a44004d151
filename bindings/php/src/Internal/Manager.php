<?php

declare(strict_types=1);

namespace Synlock\Internal;

use FFI\CData;
use Synlock\Code;
use Synlock\Exception\SynlockException;
use Synlock\Store;

/**
 * The library's manager of semaphores. Made anew in each request, as the locks that it holds are released at
 * the end of one.
 *
 * @internal
 */
final class Manager
{
    private CData $handle;
    private ?CData $store = null;
    private Native $native;
    private ?Events $events = null;

    /**
     * @param \Closure(string, string, array<string, mixed>): void|null $log
     */
    public function __construct(
        private readonly Store $of,
        private readonly int $tries,
        private readonly float $sleep,
        private readonly float $jitter,
        private readonly float $ttl,
        private readonly bool $extends,
        private readonly bool $demo,
        private readonly string $prefix,
        private readonly ?\Closure $log,
    ) {
        if ($tries < 1 || $tries > 0xFFFFFFFF) {
            throw Native::invalid("{$tries} tries");
        }
        if (\str_contains($prefix, "\0")) {
            throw Native::invalid('a NUL in the prefix');
        }
        Options::ttl($ttl);
        $this->native();
    }

    public function __destruct()
    {
        if (isset($this->handle)) {
            $native = $this->native;
            $native->ffi->synlock_manager_free($this->handle);
            if (!$native->ended) {
                $this->events?->free();
                $native->ffi->synlock_store_free($this->store);
            }
        }
    }

    private function native(): Native
    {
        if (!isset($this->native) || $this->native->ended) {
            $native = $this->of->native();
            $options = $native->sized('synlock_manager_options');
            $options->sleep_ms = Native::milliseconds($this->sleep, 'a sleep') ?: -2;
            $options->jitter_ms = Native::milliseconds($this->jitter, 'a jitter');
            $options->ttl_ms = Options::ttl($this->ttl);
            $options->tries = $this->tries;
            $options->repeat = $this->extends ? 2 : 1;
            $options->demo = (int) $this->demo;
            $options->interruptible = 1;
            $options->scope = $native->scope;
            $prefix = $native->copy($this->prefix);
            $place = \FFI::addr($prefix);
            $options->prefix = $native->ffi->cast('char *', $place);
            $slot = $native->ffi->new('synlock_manager *');
            [$how, $place] = [\FFI::addr($options), \FFI::addr($slot)];
            $status = $native->ffi->synlock_manager_new($this->of->handle(), $how, $place, $native->errorSlot);
            $native->check($status);
            $this->handle = $slot;
            $this->native = $native;
            $store = $native->ffi->new('synlock_store *');
            $place = \FFI::addr($store);
            $status = $native->ffi->synlock_manager_store($slot, $place, $native->errorSlot);
            $native->check($status);
            $status = $native->ffi->synlock_scope_add_store($native->scope, $store, $native->errorSlot);
            $native->check($status);
            $this->store = $store;
            $this->events = new Events($native, $store, $this->log ?? Events::warn(...), $this->log !== null, true);
            $native->events[$this->events] = true;
        }

        return $this->native;
    }

    /** @param string $key JSON */
    public function acquire(string $key, ?string $caller, ?float $ttl): void
    {
        $native = $this->native();
        $milliseconds = $ttl === null ? 0 : Options::ttl($ttl);
        $status = Code::INTERRUPTED;
        $how = $native->sized('synlock_acquired');
        $place = \FFI::addr($how);
        try {
            while ($status === Code::INTERRUPTED) {
                $native->forget();
                // Comes back on a signal and every 200 ms; made again, it keeps its place in the queue.
                $status = $native->ffi->synlock_manager_acquire(
                    $this->handle,
                    $key,
                    \strlen($key),
                    $caller,
                    $milliseconds,
                    null,
                    $place,
                    $native->errorSlot,
                );
            }
            $this->check($status);

            return; // not after the catch: PHP may run a handler on the way there
        } catch (\Throwable $thrown) {
            // A signal handler threw: nothing stays held or queued for a caller who never hears of it, but for what
            // was held before.
            $native->forget();
            $native->ffi->synlock_manager_abandon($this->handle, $key, \strlen($key), null);
            if ($how->attempts > 0 && $how->extended === 0) {
                $native->ffi->synlock_manager_release($this->handle, $key, \strlen($key), $caller, null);
            }
            throw $thrown;
        }
    }

    public function release(string $key, ?string $caller): void
    {
        $native = $this->native();
        $status = $native->ffi->synlock_manager_release($this->handle, $key, \strlen($key), $caller, $native->errorSlot);
        $this->check($status);
    }

    public function refresh(string $key, ?float $ttl): void
    {
        $native = $this->native();
        $milliseconds = $ttl === null ? 0 : Options::ttl($ttl);
        $status = $native->ffi->synlock_manager_refresh($this->handle, $key, \strlen($key), $milliseconds, $native->errorSlot);
        $this->check($status);
    }

    public function isAcquired(string $key): bool
    {
        $native = $this->native();
        $held = $native->ffi->new('int32_t');
        $place = \FFI::addr($held);
        $status = $native->ffi->synlock_manager_is_acquired($this->handle, $key, \strlen($key), $place, $native->errorSlot);
        $this->check($status);

        return $held->cdata === 1;
    }

    public function measure(bool $on): void
    {
        $native = $this->native();
        $status = $native->ffi->synlock_store_measure($this->store, (int) $on, $native->errorSlot);
        $native->check($status);
    }

    /** The name that a key in JSON stands for. */
    public static function name(string $key, string $prefix): string
    {
        return Native::current()->read(
            static fn (Native $native, ?CData $buffer, int $size, CData $length): int
                => $native->ffi->synlock_key_name($key, \strlen($key), $prefix, $buffer, $size, $length, $native->errorSlot),
        );
    }

    /**
     * The name that a template makes of values.
     *
     * @param array<array-key, string|int> $values
     */
    public static function templateName(string $template, array $values): string
    {
        $native = Native::current();
        $count = \count($values);
        $kept = [];
        $pairs = $count === 0 ? null : $native->ffi->new("synlock_placeholder[{$count}]");
        $i = 0;
        foreach ($values as $name => $value) {
            if (!\is_string($value) && !\is_int($value)) {
                throw Native::invalid("the value of {$name} is made of text or a whole number, not of " . \get_debug_type($value));
            }
            foreach (['name' => (string) $name, 'value' => (string) $value] as $field => $text) {
                $kept[] = $copy = $native->copy($text);
                $place = \FFI::addr($copy);
                $pairs[$i]->{$field} = $native->ffi->cast('char *', $place);
                $pairs[$i]->{"{$field}_length"} = \strlen($text);
            }
            ++$i;
        }

        return $native->read(
            static fn (Native $native, ?CData $buffer, int $size, CData $length): int
                => $native->ffi->synlock_template_name($template, \strlen($template), $pairs, $count, $buffer, $size, $length, $native->errorSlot),
        );
    }

    /**
     * @throws SynlockException
     */
    private function check(int $status): void
    {
        // Read first: whoever is told may use synlock.
        $failure = $status === Code::OK ? null : $this->native->failure($status);
        if (!$this->native->ended) {
            $this->events?->tell();
        }
        if ($failure !== null) {
            throw $failure;
        }
    }
}
