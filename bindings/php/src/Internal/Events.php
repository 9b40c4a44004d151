<?php

declare(strict_types=1);

namespace Synlock\Internal;

use FFI\CData;
use Synlock\Code;

/**
 * What happens to the locks of one store, told to a logger between calls.
 *
 * @internal
 */
final class Events
{
    private const KINDS = [
        1 => 'acquired',
        2 => 'waiting',
        3 => 'refused',
        4 => 'released',
        5 => 'refreshed',
        6 => 'lost',
        7 => 'forgotten',
        8 => 'warning',
    ];
    private const CAPACITY = 1000;

    private readonly CData $handle;
    private readonly CData $row;
    private readonly CData $place;
    /** The struct as plain pointers: FFI would look for a NUL behind the name. */
    private readonly CData $pointers;
    private bool $busy = false;

    /**
     * @param \Closure(string, string, array<string, mixed>): void $log
     * @param bool                                                  $all false: what nobody else would tell
     * @param bool                                                  $ofManager each event is one line that says all
     */
    public function __construct(
        private readonly Native $native,
        CData $store,
        private readonly \Closure $log,
        bool $all,
        private readonly bool $ofManager = false,
    ) {
        $slot = $native->ffi->new('synlock_events *');
        $place = \FFI::addr($slot);
        $status = $all
            ? $native->ffi->synlock_events_new($store, self::CAPACITY, $place, $native->errorSlot)
            : $native->ffi->synlock_events_new_warnings($store, self::CAPACITY, $place, $native->errorSlot);
        $native->check($status);
        $this->handle = $slot;
        $this->row = $native->sized('synlock_event');
        $this->place = \FFI::addr($this->row);
        $this->pointers = $native->ffi->cast('char **', $this->place);
    }

    /**
     * For stores without a logger.
     *
     * @param array<string, mixed> $context
     */
    public static function warn(string $level, string $message, array $context): void
    {
        foreach (['event', 'resource', 'store', 'text'] as $key) {
            $message = \str_replace("{{$key}}", (string) $context[$key], $message);
        }
        \trigger_error($message, \E_USER_WARNING);
    }

    /** Tells what has happened since the last time. What a logger throws is not thrown on: it must not change what a lock does. */
    public function tell(): void
    {
        if ($this->busy) {
            return; // the logger itself uses a lock
        }
        $this->busy = true;
        try {
            $caller = null;
            while ($this->native->ffi->synlock_events_next($this->handle, $this->place, null) === Code::OK) {
                $this->tellRow($caller);
            }
            $this->busy = false;
        } catch (\Throwable $thrown) {
            // The handler of a signal threw. Not in a `finally`, which is left out when that happens on the way to it.
            $this->busy = false;
            throw $thrown;
        }
    }

    /** @param string|null $caller known from an event before */
    private function tellRow(?string &$caller): void
    {
        $row = $this->row;
        // Size, kind and status, level, store, name: the name is the fifth word.
        $resource = $row->name_length > 0 ? \FFI::string($this->pointers[4], $row->name_length) : '';
        $from = $row->caller; // `??` on the field itself would not make text of it
        $context = [
            'event' => self::KINDS[$row->kind] ?? 'event',
            'resource' => $resource,
            'store' => $row->store,
            'text' => $row->message,
            'owner' => $row->owner,
            'label' => $row->label,
            'status' => $row->status,
            'waited' => $row->waited_ms / 1000,
            'held' => $row->held_ms / 1000,
            'attempts' => $row->attempts,
            'pid' => $row->pid,
            'caller' => $from ?? ($caller ??= self::caller()),
        ];
        $message = 'synlock: {event} "{resource}" on {store}: {text}';
        if ($this->ofManager) {
            $context += ['key' => $row->key, 'operation' => $row->operation];
            $message = $row->line;
        }
        try {
            ($this->log)($row->level, $message, $context);
        } catch (\Throwable $error) {
            \error_log('synlock: the logger failed: ' . $error->getMessage());
        }
    }

    /** Where this package was called: `file:line`, or nothing at the end of a request. */
    public static function caller(): string
    {
        foreach (\debug_backtrace(\DEBUG_BACKTRACE_IGNORE_ARGS) as $frame) {
            if (isset($frame['file']) && !\str_starts_with($frame['file'], \dirname(__DIR__) . \DIRECTORY_SEPARATOR)) {
                return $frame['file'] . ':' . ($frame['line'] ?? 0);
            }
        }

        return '';
    }

    public function free(): void
    {
        $this->tell();
        $this->native->ffi->synlock_events_free($this->handle);
    }
}
