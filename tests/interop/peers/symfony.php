<?php

// A store of Symfony's Lock, Debian's package: symfony.php STORE NAME [ARGUMENT of the store]…
// A store that cannot wait is asked again and again, as Symfony's own Lock does.

declare(strict_types=1);

use Symfony\Component\Lock\BlockingStoreInterface;
use Symfony\Component\Lock\LockFactory;
use Symfony\Component\Lock\Store\FlockStore;
use Symfony\Component\Lock\Store\SemaphoreStore;

require 'Symfony/Component/Lock/autoload.php';
require __DIR__ . '/turns.php';

[, $kind, $name] = $argv;
$rest = array_slice($argv, 3);
$store = match ($kind) {
    'flock' => new FlockStore(...$rest),
    'semaphore' => new SemaphoreStore(),
};
$lock = (new LockFactory($store))->createLock($name);
serve(
    static fn (): bool => $lock->acquire(true),
    static fn (): bool => $lock->acquire(),
    static function () use ($lock): bool {
        $lock->release();

        return true;
    },
);
