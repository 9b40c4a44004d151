<?php

declare(strict_types=1);

namespace Synlock;

use Synlock\Internal\Library;
use Synlock\Internal\Native;

/** The library as a whole, and the request that uses it. */
final class Runtime
{
    /** Longest wait without a bound under a web server, in seconds. */
    public const MAX_WAIT = 30.0;

    private static float|false|null $maxWait = false;

    private function __construct()
    {
    }

    /**
     * Ends the request: releases every lock that it holds, but for those with auto-release off, and
     * frees what it made. Done by itself at the end of a script; a long-lived worker calls it after
     * each job. Stores and locks that were made before can be used after it.
     */
    public static function endRequest(): void
    {
        Native::end();
    }

    /** How long a wait without a bound may take, in seconds; null: for ever, as on the command line. */
    public static function maxWait(): ?float
    {
        if (self::$maxWait === false) {
            $ini = \get_cfg_var('synlock.max_wait');
            $web = !\in_array(\PHP_SAPI, ['cli', 'phpdbg', 'embed', 'micro'], true);
            self::$maxWait = \is_numeric($ini) && $ini >= 0 ? (float) $ini : ($web ? self::MAX_WAIT : null);
        }

        return self::$maxWait;
    }

    /**
     * @param float|null $seconds null: for ever
     *
     * @throws Exception\InvalidArgument
     */
    public static function setMaxWait(?float $seconds): void
    {
        if ($seconds !== null) {
            Native::milliseconds($seconds, 'a limit');
        }
        self::$maxWait = $seconds;
    }

    /**
     * Counters and histograms of the stores that this process measures (`Store::measure()`), in Prometheus'
     * text format. Each worker has numbers of its own.
     */
    public static function metrics(): string
    {
        $native = Native::current();
        $length = $native->ffi->new('size_t');
        $place = \FFI::addr($length);
        for ($size = 65536; ; $size = $length->cdata + 4096) {
            $buffer = $native->ffi->new("char[{$size}]");
            $status = $native->ffi->synlock_metrics_text($buffer, $size, $place, $native->errorSlot);
            if ($status !== Code::INVALID_ARGUMENT || $length->cdata < $size) {
                $native->check($status);

                return \FFI::string($buffer, $length->cdata);
            }
            $native->forget();
        }
    }

    /** Version of libsynlock. */
    public static function version(): string
    {
        return Native::library()->synlock_version_string();
    }

    /**
     * The URL schemes that this build of libsynlock can open.
     *
     * @return list<string>
     */
    public static function schemes(): array
    {
        return \explode(' ', Native::current()->read(
            static fn (Native $native, $buffer, int $size, $length): int
                => $native->ffi->synlock_store_schemes($buffer, $size, $length, $native->errorSlot),
        ));
    }

    /**
     * How many handles are live in this process, of one kind or (0) of any; for those who look for leaks.
     *
     * @internal
     */
    public static function countHandles(int $kind = 0): int
    {
        return Native::library()->synlock_debug_live($kind);
    }

    /**
     * Whether `ffi.preload` has the header, so that no request parses it.
     *
     * @internal
     */
    public static function isHeaderPreloaded(): bool
    {
        return Library::isHeaderPreloaded();
    }
}
