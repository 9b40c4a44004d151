<?php

declare(strict_types=1);

namespace Synlock\Semaphore;

use Symfony\Component\Stopwatch\StopwatchEvent;
use Synlock\Code;
use Synlock\Exception\SynlockException;
use Synlock\Internal\Events;
use Synlock\Internal\Json;
use Synlock\Internal\Manager;
use Synlock\Internal\Native;
use Synlock\Semaphore\Exception\SemaphoreAcquireException;
use Synlock\Semaphore\Exception\SemaphoreException;
use Synlock\Semaphore\Exception\SemaphoreReleaseException;
use Synlock\Store;
use Synlock\Symfony\Internal\Timeline;

/**
 * Avtonom's manager of semaphores, over any store: locks by typed keys, with one set of retry settings. What
 * it holds is released when it is destroyed or the request ends, and told as forgotten.
 */
class SemaphoreManager implements SemaphoreManagerInterface
{
    private readonly Manager $manager;
    /** @var array<string, StopwatchEvent|null> by key in JSON */
    private array $shown = [];

    /**
     * @param Store|string                      $adapter                   a store or its URL
     * @param SemaphoreKeyStorageInterface|null $keyStorage                the application's keys
     * @param int                               $tryCount                  how often to try; with `$sleepTime`, how long to wait
     * @param int|float                         $sleepTime                 microseconds that one try lasts. Waiting is woken, not slept
     * @param int|float                         $maxLockTime               lease in seconds. Where the store has none, a lock is
     *                                                                     held until released or its owner dies
     * @param bool                              $isExceptionRepeatBlockKey asking again for a held key throws; else its lease
     *                                                                     is extended
     * @param bool                              $useExtendedMethods        kept for the original's sake: a release is always
     *                                                                     checked against its owner
     * @param string                            $prefix                    what names begin with
     * @param object|null                       $logger                    PSR-3, or a function (level, message, context)
     * @param string|null                       $mode                      `demo`: nothing is written, all is granted and logged
     * @param int|float                         $jitter                    microseconds by which a try may last longer, at random
     * @param Timeline|null                     $timeline                  has each wait and each hold
     *
     * @throws SemaphoreException|SynlockException
     */
    public function __construct(
        Store|string $adapter,
        private readonly ?SemaphoreKeyStorageInterface $keyStorage = null,
        int $tryCount = 240,
        int|float $sleepTime = 500000,
        int|float $maxLockTime = 60,
        bool $isExceptionRepeatBlockKey = true,
        bool $useExtendedMethods = true,
        private readonly string $prefix = 'lock_',
        ?object $logger = null,
        ?string $mode = null,
        int|float $jitter = 0,
        private readonly ?Timeline $timeline = null,
    ) {
        if (!\in_array($mode, [null, '', 'demo'], true)) {
            throw new SemaphoreException("There is no mode \"{$mode}\": it is demo, or nothing.");
        }
        $log = match (true) {
            $logger === null => null,
            $logger instanceof \Closure => $logger,
            \method_exists($logger, 'log') => $logger->log(...),
            default => throw new SemaphoreException('A logger has a method log(level, message, context).'),
        };
        $this->manager = new Manager(
            \is_string($adapter) ? Store::open($adapter) : $adapter,
            $tryCount,
            $sleepTime / 1e6,
            $jitter / 1e6,
            (float) $maxLockTime,
            !$isExceptionRepeatBlockKey,
            $mode === 'demo',
            $prefix,
            $log,
        );
    }

    public function acquire($srcKey, $path = null, $ttl = null)
    {
        $key = self::json($srcKey);
        $wait = $this->timeline?->start('wait', Manager::name($key, $this->prefix));
        try {
            // Before, not after: then a signal's handler may throw, and the key would be held.
            $name = Manager::name($key, $this->prefix);
            $this->manager->acquire($key, self::path($path), \is_numeric($ttl) && (float) $ttl !== 0.0 ? (float) $ttl : null);
        } catch (SynlockException $error) {
            $what = match ($error->getCode()) {
                Code::REENTERED => 'Retrying to acquire key-lock',
                Code::TIMEOUT, Code::BUSY => 'Key lock time expired',
                default => 'Error',
            };
            throw new SemaphoreAcquireException($this->words($what, $key, $srcKey, $error), $error->getCode(), $error);
        } finally {
            $this->timeline?->stop($wait);
        }
        if ($this->timeline !== null) {
            // Asked for again, it is the same hold.
            $this->shown[$key] ??= $this->timeline->start('held', $name);
        }

        return $name;
    }

    public function release($srcKey, $path = null)
    {
        $key = self::json($srcKey);
        try {
            $this->manager->release($key, self::path($path));
        } catch (SynlockException $error) {
            $what = match ($error->getCode()) {
                Code::NOT_HELD => 'Retrying to release key-lock',
                Code::LOST => 'Trying to release a non existent key',
                default => 'Error',
            };
            throw new SemaphoreReleaseException($this->words($what, $key, $srcKey, $error), $error->getCode(), $error);
        } finally {
            $this->timeline?->stop($this->shown[$key] ?? null);
            unset($this->shown[$key]);
        }
    }

    /**
     * Lengthens the lease of a held key to `$ttl` seconds from now, or to its own.
     *
     * @param array<mixed>|object|string $srcKey
     *
     * @throws SynlockException `NotHeld`, `LockLost`
     */
    public function refresh($srcKey, int|float|null $ttl = null): void
    {
        $this->manager->refresh(self::json($srcKey), $ttl === null ? null : (float) $ttl);
    }

    /**
     * Whether this manager holds a key; asks the store.
     *
     * @param array<mixed>|object|string $srcKey
     */
    public function isAcquired($srcKey): bool
    {
        return $this->manager->isAcquired(self::json($srcKey));
    }

    /** Counts what happens to the locks, for `Runtime::metrics()`. */
    public function measure(bool $on = true): void
    {
        $this->manager->measure($on);
    }

    /**
     * The name that a key stands for, in every language.
     *
     * @param array<mixed>|object|string $srcKey
     */
    public function getKey($srcKey): string
    {
        return Manager::name(self::json($srcKey), $this->prefix);
    }

    /**
     * The name that a key stands for, in every language.
     *
     * @param array<mixed>|object|string $key
     */
    public static function keyName($key, string $prefix = ''): string
    {
        if (\str_contains($prefix, "\0")) {
            throw Native::invalid('a NUL in the prefix');
        }

        return Manager::name(self::json($key), $prefix);
    }

    /**
     * The name that a template such as `order_{id}` makes, in every language. A placeholder without a value is an
     * error, and so is a value that languages write in different ways.
     *
     * @param array<array-key, string|int> $values
     *
     * @throws SynlockException `InvalidArgument`
     */
    public static function templateName(string $template, array $values): string
    {
        return Manager::templateName($template, $values);
    }

    public function getKeyStorage()
    {
        return $this->keyStorage ?? new SemaphoreKeyStorageBase();
    }

    private static function path(mixed $path): string
    {
        return $path === null ? Events::caller() : \str_replace("\0", ' ', (string) $path);
    }

    /** @param array<mixed>|object|string $srcKey */
    private static function json($srcKey): string
    {
        $first = \is_array($srcKey) ? \reset($srcKey) : null;
        if ($first instanceof \Stringable && Json::of($first) !== Json::of((string) $first)) {
            throw Native::invalid('a key begins with ' . $first::class . ', whose text is not what it is in JSON: give its text');
        }

        return Json::of(match (true) {
            \is_array($srcKey), \is_string($srcKey) => $srcKey,
            \is_object($srcKey) => self::identity($srcKey),
            default => throw Native::invalid('a key is an array, a string or an object, not ' . \get_debug_type($srcKey)),
        });
    }

    /** An object as Symfony's ACL names it. */
    private static function identity(object $object): string
    {
        $id = match (true) {
            $object instanceof \Stringable => null,
            \method_exists($object, 'getObjectIdentifier') => $object->getObjectIdentifier(),
            \method_exists($object, 'getId') => $object->getId(),
            default => throw Native::invalid('an object that is a key has getObjectIdentifier() or getId(), or is text'),
        };

        return $id === null ? (string) $object : \sprintf('ObjectIdentity(%s, %s)', $id, $object::class);
    }

    /** @param array<mixed>|object|string $srcKey */
    private function words(string $what, string $key, $srcKey, SynlockException $error): string
    {
        try {
            $name = Manager::name($key, $this->prefix);
        } catch (SynlockException) {
            $name = '';
        }
        $shown = \json_encode($srcKey, \JSON_UNESCAPED_UNICODE | \JSON_PARTIAL_OUTPUT_ON_ERROR);

        return "{$what}: ({$name}) {$shown}: {$error->getMessage()}";
    }
}
