<?php

declare(strict_types=1);

namespace Synlock\Internal;

use Synlock\Exception\NotAvailable;

/**
 * The program `synlock-check`.
 *
 * @internal
 */
final class Check
{
    private const USAGE = <<<'TEXT'
        usage: synlock-check [--fpm=/usr/sbin/php-fpm8.2]
                 says what the command line and PHP-FPM find, and what to do if that is not enough
               synlock-check --ini [--user=www-data] [--header=FILE]
                 prints the ini file that PHP-FPM needs; writes the header that it names, by default
                 into the package's folder lib/

        TEXT;

    private bool $good = true;

    /**
     * @param list<string> $arguments
     */
    public static function main(array $arguments): int
    {
        $options = ['ini' => null, 'user' => null, 'header' => null, 'fpm' => null];
        foreach ($arguments as $argument) {
            if (!\preg_match('/^--(ini|user|header|fpm)(?:=(.+))?$/', $argument, $parts)) {
                \fwrite(\STDERR, self::USAGE);

                return 2;
            }
            $options[$parts[1]] = $parts[2] ?? '';
        }
        try {
            return $options['ini'] !== null
                ? self::printIni($options['user'], $options['header'] ?? self::defaultHeader())
                : (new self())->report($options['fpm']);
        } catch (NotAvailable $error) {
            \fwrite(\STDERR, $error->getMessage() . "\n");

            return 1;
        }
    }

    private static function defaultHeader(): string
    {
        return \dirname(__DIR__, 2) . '/lib/synlock.preload.h';
    }

    /** What FPM's `ffi.preload` reads: the header, and which library it is of. */
    private static function preloadHeader(string $library): string
    {
        return \sprintf(
            "#define FFI_SCOPE \"%s\"\n#define FFI_LIB \"%s\"\n%s",
            Library::SCOPE,
            $library,
            (string) \file_get_contents(Library::header()),
        );
    }

    /** FPM does not start if the library that `ffi.preload` names cannot be loaded: it is tried first. */
    private static function printIni(?string $user, string $header): int
    {
        Library::load();
        $library = self::forService(Library::locate());
        $content = self::preloadHeader($library);
        if (@\file_get_contents($header) !== $content) {
            $folder = \dirname($header);
            if ((!\is_dir($folder) && !@\mkdir($folder, 0o755, true)) || @\file_put_contents($header, $content) === false) {
                \fwrite(\STDERR, "synlock-check: cannot write {$header}: choose another place with --header=FILE\n");

                return 1;
            }
            @\chmod($header, 0o644);
            \fwrite(\STDERR, "synlock-check: wrote {$header}, which names {$library}\n");
        }
        $user ??= self::defaultUser();
        echo 'opcache.preload=', \dirname(__DIR__, 2), "/preload.php\n",
            "opcache.preload_user={$user}\n",
            'ffi.preload=', \realpath($header), "\n";

        return 0;
    }

    /** A service does not have this shell's LD_LIBRARY_PATH: what was found by it is named in full. */
    private static function forService(string $library): string
    {
        $path = '#^\S+ \S+ \S+ \S+ \S+ +(/.*/' . \preg_quote(Library::SONAME, '#') . '[^/]*)$#m';
        if ($library[0] !== '/' && \getenv('LD_LIBRARY_PATH') !== false
            && \preg_match($path, (string) @\file_get_contents('/proc/self/maps'), $parts)) {
            return $parts[1];
        }

        return $library;
    }

    private static function defaultUser(): string
    {
        $passwd = (string) @\file_get_contents('/etc/passwd');
        foreach (['www-data', 'apache', 'nginx', 'http', 'nobody'] as $user) {
            if (\preg_match("/^{$user}:/m", $passwd)) {
                return $user;
            }
        }

        return 'nobody';
    }

    private function say(bool $good, string $what, string $advice = ''): void
    {
        echo $good ? '  ok   ' : '  NOT  ', $what, $good || $advice === '' ? '' : "\n         {$advice}", "\n";
        $this->good = $this->good && $good;
    }

    private function report(?string $fpm): int
    {
        echo 'command line, PHP ', \PHP_VERSION, "\n";
        $this->say(\extension_loaded('ffi'), 'the FFI extension is loaded', 'put `extension=ffi` into an ini file');
        foreach (Library::places() as $what => $path) {
            echo "       looked for: {$path} ({$what})\n";
        }
        try {
            $library = Library::locate();
            $version = Library::load()->synlock_version_string();
            $this->say(true, "libsynlock {$version}: {$library}");
        } catch (NotAvailable $error) {
            $this->say(false, 'libsynlock is loaded', \str_replace("\n", "\n         ", $error->getMessage()));
        }

        $fpm ??= self::findFpm();
        if ($fpm === null) {
            echo "PHP-FPM: no php-fpm of this version was found (--fpm=PATH names one)\n";
        } else {
            echo "PHP-FPM, as {$fpm} -i tells\n";
            $this->reportFpm($fpm);
        }

        return $this->good ? 0 : 1;
    }

    private static function findFpm(): ?string
    {
        $version = \PHP_MAJOR_VERSION . '.' . \PHP_MINOR_VERSION;
        foreach (["/usr/sbin/php-fpm{$version}", \PHP_BINDIR . "/php-fpm{$version}", \PHP_BINDIR . '/../sbin/php-fpm', '/usr/sbin/php-fpm'] as $path) {
            if (\is_executable($path)) {
                return $path;
            }
        }

        return null;
    }

    private function reportFpm(string $fpm): void
    {
        $text = (string) \shell_exec(\escapeshellarg($fpm) . ' -i 2>&1');
        $ini = static function (string $key) use ($text): string {
            $found = \preg_match('/^' . \preg_quote($key, '/') . ' => (.*?)(?: => .*)?$/m', $text, $parts) ? \trim($parts[1]) : '';

            return $found === 'no value' ? '' : $found;
        };
        if ($ini('PHP Version') === '') {
            $this->say(false, 'it starts', \trim(\substr($text, 0, 500)));

            return;
        }
        echo '       ini files: ', $ini('Loaded Configuration File'), ', ', $ini('Scan this dir for additional .ini files'), "\n";
        $advice = 'put the lines that `synlock-check --ini` prints into an ini file there and restart it';
        $enable = \strtolower($ini('ffi.enable'));
        $this->say($ini('FFI support') === 'enabled', 'the FFI extension is loaded', 'put `extension=ffi` into an ini file there');
        $this->say(\in_array($enable, ['preload', 'on', '1', 'true'], true), "ffi.enable={$enable}", "set ffi.enable=preload, PHP's default");
        $this->say(\strtolower($ini('opcache.enable')) === 'on', "opcache.enable={$ini('opcache.enable')}", 'preloading needs OPcache');

        $preload = $ini('opcache.preload');
        $own = \dirname(__DIR__, 2) . '/preload.php';
        $required = \is_file($preload) && (\realpath($preload) === \realpath($own)
            || \preg_match('#synlock[^\n]*/preload\.php#', (string) @\file_get_contents($preload)) === 1);
        $this->say($required, 'opcache.preload=' . ($preload ?: '(not set)'), $preload === ''
            ? $advice
            : "{$preload} does not name synlock's preload file: require {$own} from it");
        echo '       opcache.preload_user=', $ini('opcache.preload_user') ?: '(not set: a master that runs as root refuses to start)', "\n";
        $this->reportHeader($ini('ffi.preload'), $advice);
    }

    private function reportHeader(string $setting, string $advice): void
    {
        foreach (\array_filter(\explode(':', $setting)) as $header) {
            $content = (string) @\file_get_contents($header);
            if (\str_contains($content, 'FFI_SCOPE "' . Library::SCOPE . '"')) {
                $library = \preg_match('/FFI_LIB "(.+)"/', $content, $parts) ? $parts[1] : '';
                $this->say(
                    $content === self::preloadHeader($library),
                    "ffi.preload={$header}, for {$library}",
                    'it is of another version of this package: run synlock-check --ini again',
                );

                return;
            }
        }
        echo "  note ffi.preload has no header of synlock: it is parsed anew in each request\n       {$advice}\n";
    }
}
