<?php

// Waits for a lock for some seconds and tells how it went.

declare(strict_types=1);

require __DIR__ . '/common.php';

say('started');
try {
    $lock = Synlock\Store::open($_GET['url'])->createLock($_GET['name']);
    $seconds = (float) ($_GET['seconds'] ?? 0);
    $got = $seconds > 0 ? $lock->acquire(true, $seconds) : $lock->acquire();
    $at = microtime(true);
    if ($got) {
        $lock->release();
    }
    say(json_encode(['got' => $got, 'pid' => getmypid(), 'at' => $at]));
} catch (Throwable $error) {
    say(json_encode(['error' => $error::class, 'message' => $error->getMessage(), 'at' => microtime(true)]));
}
