<?php

declare(strict_types=1);

namespace Synlock\Drupal;

use Drupal\Core\Database\Database;
use Synlock\Internal\Native;
use Synlock\Store;

/** The store of a site. */
final class StoreFactory
{
    private function __construct()
    {
    }

    /**
     * @param string                                    $url     any store; empty: the table `semaphore` of the
     *                                                           site's own database
     * @param array<string, string|int|float|bool|null> $options as for `Store::open()`
     */
    public static function create(string $url = '', array $options = []): Store
    {
        if ($url !== '') {
            return Store::open($url, $options);
        }
        [$url, $own] = self::fromConnection(Database::getConnectionInfo()['default'] ?? []);

        return Store::open($url, $options + $own);
    }

    /**
     * The URL and options for one of Drupal's `$databases['default']['default']`.
     *
     * @param array<string, mixed> $info
     *
     * @return array{string, array<string, string>}
     *
     * @throws \Synlock\Exception\InvalidArgument for a driver that synlock has no store for
     */
    public static function fromConnection(array $info): array
    {
        $prefix = $info['prefix'] ?? '';
        if (\is_array($prefix)) {
            $prefix = $prefix['semaphore'] ?? $prefix['default'] ?? '';
        }
        $database = (string) ($info['database'] ?? '');
        $options = ['dialect' => 'drupal'];
        $driver = (string) ($info['driver'] ?? '');
        if ($driver === 'sqlite') {
            // A prefix is the name of another file there, beside the first.
            $file = $prefix === '' ? $database : "{$database}-{$prefix}";
            $folder = \realpath(\dirname($file));

            return ['sqlite:' . self::encoded($folder === false ? $file : "{$folder}/" . \basename($file), '/'), $options];
        }
        $scheme = ['mysql' => 'mysql', 'pgsql' => 'postgres'][$driver]
            ?? throw Native::invalid("synlock has no store for Drupal's database driver \"{$driver}\": give a URL");
        if ($prefix !== '') {
            $options['table'] = "{$prefix}semaphore";
        }
        if ($driver === 'pgsql' && ($info['schema'] ?? '') !== '') {
            $options['table'] = "{$info['schema']}." . ($options['table'] ?? 'semaphore');
        }
        $login = self::encoded((string) ($info['username'] ?? ''))
            . (($info['password'] ?? '') === '' ? '' : ':' . self::encoded((string) $info['password']));
        $host = (string) ($info['host'] ?? '') ?: 'localhost';
        if (($info['port'] ?? '') !== '') {
            $host .= ":{$info['port']}";
        }
        if ($driver === 'mysql' && ($info['unix_socket'] ?? '') !== '') {
            $options['socket'] = (string) $info['unix_socket'];
            $host = '';
        }

        return ["{$scheme}://{$login}@{$host}/" . self::encoded($database), $options];
    }

    /** Percent-encoded, but for the characters that stay. */
    private static function encoded(string $text, string $stay = ''): string
    {
        $encoded = \rawurlencode($text);

        return $stay === '' ? $encoded : \str_replace(\rawurlencode($stay), $stay, $encoded);
    }
}
