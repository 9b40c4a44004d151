<?php

// Waits without a bound: under a web server there is one.

declare(strict_types=1);

require __DIR__ . '/common.php';

echo Synlock\Runtime::maxWait(), "\n";
Synlock\Runtime::setMaxWait((float) $_GET['max']);
try {
    Synlock\Store::open($_GET['url'])->createLock($_GET['name'])->acquire(true);
    echo "acquired\n";
} catch (Synlock\Exception\SynlockException $error) {
    echo $error::class, "\n";
}
