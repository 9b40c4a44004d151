<?php

// Adds one to a counter in a file, in separate steps that only the lock makes one. Says how many microseconds that took,
// and dies after `dies` of them.

declare(strict_types=1);

$start = hrtime(true);
$death = isset($_GET['dies']) ? Synlock\Tests\Death::in((int) $_GET['dies']) : null;
require __DIR__ . '/common.php';

$options = isset($_GET['ttl']) ? ['ttl' => (float) $_GET['ttl'], 'renew' => true] : [];
$lock = Synlock\Store::open($_GET['url'])->createLock($_GET['name'], ...$options);
if (!$lock->acquire(true, 60)) {
    $death?->avert();
    say('timeout');
    exit;
}
$count = (int) file_get_contents($_GET['file']);
usleep(200);
// One write each, without truncating first: a worker that is killed leaves a whole number, new or old.
file_put_contents($_GET['file'] . '.log', $count + 1 . "\n", FILE_APPEND);
$number = fopen($_GET['file'], 'c');
fwrite($number, sprintf('%010d', $count + 1));
fclose($number);
$lock->release();
$death?->avert();
say('counted ' . intdiv(hrtime(true) - $start, 1000));
