<?php

// One of the processes of the demo: count.php URL FILE TIMES RECORDS. `-` as URL counts without a lock.

declare(strict_types=1);

require __DIR__ . '/../../bindings/php/autoload.php';

[, $url, $path, $times, $records] = $argv;
$lock = $url === '-' ? null : Synlock\Store::open($url)->createLock('demo counter', timeout: 60.0);
$file = fopen($path, 'r+');
// Nothing read ahead, nothing held back: every read and write is a call of its own.
stream_set_read_buffer($file, 0);
stream_set_write_buffer($file, 0);
$lines = [];
echo "ready\n";
if (fgets(STDIN) === false) {
    exit(1);
}
for ($i = 1; $i <= (int) $times; ++$i) {
    $asked = hrtime(true);
    if ($lock !== null && !$lock->acquire(true)) {
        fwrite(STDERR, "the lock was not free in time\n");
        exit(1);
    }
    $got = hrtime(true);
    rewind($file);
    $value = (int) fread($file, 12);
    rewind($file);
    fwrite($file, sprintf("%011d\n", $value + 1));
    $done = hrtime(true);
    $lock?->release();
    $lines[] = "{$value} {$asked} {$got} {$done}\n";
    if ($i % 100 === 0) {
        echo "{$i}\n";
    }
    usleep(random_int(500, 2500));
}
file_put_contents($records, implode('', $lines));
