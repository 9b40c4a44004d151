<?php

// A lock of Symfony's component, Debian's, on a store of synlock; printed: what is preloaded of it, and what it says.

declare(strict_types=1);

require __DIR__ . '/common.php';
require 'Symfony/Component/Lock/autoload.php';

say(json_encode(class_exists('Synlock\Symfony\SynlockStore', false)));
$factory = new Symfony\Component\Lock\LockFactory(new Synlock\Symfony\SynlockStore($_GET['url']));
$lock = $factory->createLock('symfony', 60);
say(json_encode([$lock->acquire(), $factory->createLock('symfony', 60)->acquire(), $lock->isAcquired()]));
if ($_GET['end'] === 'memory') {
    ini_set('memory_limit', (string) (memory_get_usage(true) + 4_000_000));
    str_repeat('x', 1 << 30);
}
