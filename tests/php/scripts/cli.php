<?php

// Holds a lock until it is told to stop: cli.php PACKAGE URL NAME [TTL]

declare(strict_types=1);

[, $package, $url, $name] = $argv;
require "{$package}/autoload.php";

$lock = Synlock\Store::open($url)->createLock($name, ($argv[4] ?? '') === '' ? null : (float) $argv[4]);
echo $lock->acquire() ? "held\n" : "busy\n";
while (($line = fgets(STDIN)) !== false) {
    if (trim($line) === 'release') {
        $lock->release();
        echo "released\n";
    }
}
