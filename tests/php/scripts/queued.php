<?php

// Waits for a lock, tells of each SIGALRM meanwhile, and holds it until the next line of input.

declare(strict_types=1);

[, $package, $url, $name] = $argv;
require "{$package}/autoload.php";

pcntl_async_signals(true);
pcntl_signal(SIGALRM, static function (): void {
    echo "handled\n";
});
$lock = Synlock\Store::open($url)->createLock($name);
$lock->acquire(true);
echo "got it\n";
fgets(STDIN);
$lock->release();
