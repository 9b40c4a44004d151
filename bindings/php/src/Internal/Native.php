<?php

declare(strict_types=1);

namespace Synlock\Internal;

use FFI\CData;
use Synlock\Code;
use Synlock\Exception;
use Synlock\Exception\SynlockException;

/**
 * The library during one request: its functions, the scope that every handle of the request is made
 * in, and the places that results are written to.
 *
 * What a built-in function or one of the library answers goes into a variable before it is an argument: PHP 8.2 runs
 * handlers of signals between the two, and frees what is no argument yet when one throws.
 *
 * @internal
 */
final class Native
{
    private static ?self $current = null;
    /** Loaded once: types of two parsings do not mix. */
    private static ?\FFI $library = null;
    private static bool $registered = false;

    /** The request is over, and every handle that was made in it is gone. */
    public bool $ended = false;
    public readonly CData $scope;
    /** Where a call puts its error object. */
    public readonly CData $errorSlot;
    /** @var \WeakMap<Events, true> those who listen */
    public readonly \WeakMap $events;
    private readonly CData $error;

    private function __construct(public \FFI|Calm $ffi)
    {
        $this->error = $ffi->new('synlock_error *');
        $this->errorSlot = \FFI::addr($this->error);
        $this->events = new \WeakMap();
        $this->scope = $ffi->new('synlock_scope *');
    }

    public static function current(): self
    {
        return self::$current ??= self::begin();
    }

    public static function library(): \FFI
    {
        if (self::$library === null) {
            self::$library = Library::load();
            // Needed when no file can be opened any more.
            \class_exists(Exception\Exhausted::class);
            \class_exists(Exception\InternalError::class);
            \class_exists(Custom::class);
            \class_exists(Calm::class);
        }

        return self::$library;
    }

    /** From now on: a store has callbacks. */
    public function calm(): void
    {
        if ($this->ffi instanceof \FFI && \function_exists('pcntl_async_signals')) {
            $this->ffi = new Calm($this->ffi);
        }
    }

    private static function begin(): self
    {
        $native = new self(self::library());
        if (!self::$registered) {
            self::$registered = true;
            \register_shutdown_function(static function (): void {
                // A later shutdown function that uses synlock gets another scope, and another end.
                self::$registered = false;
                self::end();
            });
        }
        if (self::$current !== null) {
            return self::$current; // a signal handler was here
        }
        // Known before it has its scope: a handler that runs now must not begin another, which would
        // end this one.
        self::$current = $native;
        // Ends the scope of a request that could not end it itself.
        $place = \FFI::addr($native->scope);
        $status = $native->ffi->synlock_scope_request($place, $native->errorSlot);
        if ($status !== Code::OK) {
            self::$current = null;
            throw $native->failure($status);
        }

        return $native;
    }

    /** Releases and frees what the request made. */
    public static function end(): void
    {
        $native = self::$current;
        if ($native !== null) {
            self::$current = null;
            $native->ended = true;
            $native->ffi->synlock_scope_free($native->scope);
            foreach ($native->events as $events => $_) {
                $events->free();
            }
        }
    }

    /**
     * @throws SynlockException unless the status is OK
     */
    public function check(int $status): void
    {
        if ($status !== Code::OK) {
            throw $this->failure($status);
        }
    }

    /** The exception for a status, with the words of the error object that the call made. */
    public function failure(int $status): SynlockException
    {
        [$name, $class, $retriable] = Code::TABLE[$status] ?? ['UNKNOWN', Exception\InternalError::class, false];
        $message = $name;
        $store = null;
        $error = $this->error;
        if (!\FFI::isNull($error)) {
            $message = (string) $this->ffi->synlock_error_message($error);
            $store = $this->ffi->synlock_error_store($error);
            $retriable = $this->ffi->synlock_error_is_retriable($error) === 1;
            $this->forget();
        }
        // What a custom store threw.
        $thrown = $status >= 100 && \str_starts_with((string) $store, 'custom:') ? Custom::$thrown : null;
        Custom::$thrown = null;

        return new $class($message, $status, $name, $store, $retriable, $thrown);
    }

    /** Frees the error object of a call whose outcome is told without an exception. */
    public function forget(): void
    {
        if (!\FFI::isNull($this->error)) {
            $this->ffi->synlock_error_free($this->error);
            $this->errorSlot[0] = null;
        }
    }

    /**
     * @param array<string, string> $settings
     */
    public function openStore(string $url, array $settings, ?CData $callbacks = null): CData
    {
        $slot = $this->ffi->new('synlock_store *');
        $count = \count($settings);
        $keys = $values = null;
        if ($count > 0) {
            $keys = $this->ffi->new("const char *[{$count}]");
            $values = $this->ffi->new("const char *[{$count}]");
            $kept = [];
            $i = 0;
            foreach ($settings as $key => $value) {
                foreach ([[$keys, (string) $key], [$values, $value]] as [$array, $text]) {
                    $kept[] = $copy = $this->copy($text);
                    $place = \FFI::addr($copy);
                    $array[$i] = $this->ffi->cast('const char *', $place);
                }
                ++$i;
            }
        }
        $place = \FFI::addr($slot);
        $table = $callbacks === null ? null : \FFI::addr($callbacks);
        $status = $table === null
            ? $this->ffi->synlock_store_open($url, $keys, $values, $count, $place, $this->errorSlot)
            : $this->ffi->synlock_store_custom($url, $table, $keys, $values, $count, $place, $this->errorSlot);
        $this->check($status);
        if (!\FFI::isNull($this->scope)) {
            $status = $this->ffi->synlock_scope_add_store($this->scope, $slot, $this->errorSlot);
            $this->check($status);
        }

        return $slot;
    }

    /**
     * A lock handle from one of the functions that take options.
     *
     * @param \Closure(CData, CData): int $call gets the options and the place for the handle
     */
    public function makeLock(Options $options, bool $shared, \Closure $call): CData
    {
        // A struct of its own: a signal handler may make a lock while this one is filled.
        $struct = $this->sized('synlock_lock_options');
        $label = $options->fill($struct, $this, $shared);
        $slot = $this->ffi->new('synlock_lock *');
        [$how, $place] = [\FFI::addr($struct), \FFI::addr($slot)];
        try {
            $this->check($call($how, $place));
        } catch (\Throwable $thrown) {
            $this->takeBack($slot);
            throw $thrown;
        }
        unset($label); // read by now

        return $slot;
    }

    /** Ends a lock, if there is one, whose caller never hears of it: a handler of a signal threw. */
    public function takeBack(CData $lock): void
    {
        if (!\FFI::isNull($lock)) {
            $this->ffi->synlock_lock_release($lock, null);
            $this->ffi->synlock_lock_free($lock);
        }
    }

    /** A struct that starts with its own size. */
    public function sized(string $type): CData
    {
        $struct = $this->ffi->new($type);
        $struct->struct_size = \FFI::sizeof($struct);

        return $struct;
    }

    /** NUL-terminated bytes that C may read while the result lives. */
    public function copy(string $text): CData
    {
        $size = \strlen($text) + 1;
        $bytes = $this->ffi->new("char[{$size}]");
        \FFI::memcpy($bytes, $text . "\0", $size);

        return $bytes;
    }

    /**
     * Text from a function that copies it into a buffer and tells the length that it needs.
     *
     * @param \Closure(self, ?CData, int, CData): int $call
     */
    public function read(\Closure $call): string
    {
        $length = $this->ffi->new('size_t');
        $place = \FFI::addr($length);
        $this->check($call($this, null, 0, $place));
        $size = $length->cdata + 1;
        $buffer = $this->ffi->new("char[{$size}]");
        $this->check($call($this, $buffer, $size, $place));

        return \FFI::string($buffer, $length->cdata);
    }

    /** Seconds to milliseconds, rounded up so that a wait is never cut short. */
    public static function milliseconds(float $seconds, string $what): int
    {
        if (\is_nan($seconds) || $seconds < 0) {
            throw self::invalid("{$what} of {$seconds} seconds");
        }

        $milliseconds = \round($seconds * 1000, 6);

        return $seconds > 1e15 ? \PHP_INT_MAX : (int) \ceil($milliseconds);
    }

    public static function invalid(string $message): Exception\InvalidArgument
    {
        return new Exception\InvalidArgument($message, Code::INVALID_ARGUMENT, 'INVALID_ARGUMENT');
    }
}
