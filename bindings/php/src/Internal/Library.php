<?php

declare(strict_types=1);

namespace Synlock\Internal;

use Synlock\Exception\NotAvailable;

/**
 * Finds libsynlock and loads it. Always by its soname: the `-dev` symlink may lead to another ABI.
 *
 * @internal
 */
final class Library
{
    public const SONAME = 'libsynlock.so.0';
    /** The ABI that the header beside this package describes. */
    public const ABI = 0;
    /** Name under which `ffi.preload` keeps the parsed header for all requests. */
    public const SCOPE = 'synlock';

    /**
     * Where the library is looked for, in this order.
     *
     * @return array<string, string> what the place is => path or soname
     */
    public static function places(): array
    {
        if (\defined('SYNLOCK_LIBRARY')) {
            return ['constant SYNLOCK_LIBRARY' => (string) \constant('SYNLOCK_LIBRARY')];
        }
        $ini = \get_cfg_var('synlock.library');
        if (\is_string($ini) && $ini !== '') {
            return ['ini synlock.library' => $ini];
        }

        return [
            'package folder' => \dirname(__DIR__, 2) . '/lib/' . self::SONAME,
            'dynamic linker' => self::SONAME,
        ];
    }

    public static function header(): string
    {
        return \dirname(__DIR__, 2) . '/synlock.ffi.h';
    }

    /**
     * @throws NotAvailable
     */
    public static function load(): \FFI
    {
        if (!\class_exists(\FFI::class, false)) {
            throw new NotAvailable(
                'synlock needs the FFI extension, which is not loaded here: put `extension=ffi` into an ini file',
            );
        }
        $ffi = self::fromScope() ?? self::fromHeader();
        $found = $ffi->synlock_abi_version();
        if ($found !== self::ABI) {
            throw new NotAvailable(\sprintf(
                'this synlock package speaks ABI %d and the library that was found speaks ABI %d (%s); '
                . 'install the two from one release',
                self::ABI,
                $found,
                \implode(', ', self::places()),
            ));
        }

        return $ffi;
    }

    /**
     * Path or soname of the library that would be loaded.
     *
     * @throws NotAvailable
     */
    public static function locate(): string
    {
        $tried = [];
        foreach (self::places() as $what => $path) {
            if (self::tryToOpen('', $path, $what, $tried) !== null) {
                return $path;
            }
        }
        throw self::notFound($tried);
    }

    /**
     * @param list<string> $tried
     */
    private static function tryToOpen(string $header, string $path, string $what, array &$tried): ?\FFI
    {
        if ($path === '' || ($path[0] === '/' && !\is_file($path))) {
            $tried[] = "{$path} ({$what}): no such file";

            return null;
        }
        try {
            return \FFI::cdef($header, $path);
        } catch (\FFI\Exception $error) {
            if (\str_contains($error->getMessage(), 'ffi.enable')) {
                throw new NotAvailable(self::restricted(), previous: $error);
            }
            $tried[] = "{$path} ({$what}): {$error->getMessage()}";

            return null;
        }
    }

    /**
     * @param list<string> $tried
     */
    private static function notFound(array $tried): NotAvailable
    {
        return new NotAvailable(
            'libsynlock was not found. Install it (`make install` of synlock), build it into the package '
            . '(`vendor/bin/synlock-build`), or put `synlock.library=/path/to/' . self::SONAME
            . "` into php.ini. Tried:\n  " . \implode("\n  ", $tried),
        );
    }

    private static function fromScope(): ?\FFI
    {
        if (\defined('SYNLOCK_LIBRARY')) {
            return null;
        }
        try {
            return \FFI::scope(self::SCOPE);
        } catch (\FFI\Exception) {
            return null; // no ffi.preload: the header is parsed once a request
        }
    }

    public static function isHeaderPreloaded(): bool
    {
        return self::fromScope() !== null;
    }

    private static function fromHeader(): \FFI
    {
        $header = @\file_get_contents(self::header());
        if ($header === false) {
            throw new NotAvailable('the package is incomplete: ' . self::header() . ' cannot be read');
        }
        $tried = [];
        foreach (self::places() as $what => $path) {
            $ffi = self::tryToOpen($header, $path, $what, $tried);
            if ($ffi !== null) {
                return $ffi;
            }
        }
        throw self::notFound($tried);
    }

    private static function restricted(): string
    {
        $enable = \strtolower((string) \ini_get('ffi.enable'));
        $files = \implode(', ', \array_filter([\php_ini_loaded_file(), \php_ini_scanned_files()]));
        $why = $enable === 'preload'
            ? 'ffi.enable=preload allows FFI to preloaded classes only, and those of synlock are not preloaded here'
            : "ffi.enable={$enable} forbids FFI here";

        return \sprintf(
            "%s. Put the three lines that `vendor/bin/synlock-check --ini` prints into an ini file of %s and "
            . "restart it:\n  opcache.preload=%s\n  opcache.preload_user=…\n  ffi.preload=…\n%s"
            . "Ini files read: %s\nThe library would be looked for at: %s",
            $why,
            \PHP_SAPI,
            \dirname(__DIR__, 2) . '/preload.php',
            $enable === 'preload' ? '' : "and set ffi.enable=preload, PHP's default.\n",
            \trim(\preg_replace('/\s+/', ' ', $files) ?? '') ?: 'none',
            \implode(', ', self::places()),
        );
    }
}
