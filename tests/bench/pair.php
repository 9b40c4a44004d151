<?php

// Times acquire + release of one uncontended lock from PHP: pair.php URL NAME SECONDS

declare(strict_types=1);

require __DIR__ . '/../../bindings/php/autoload.php';

[, $url, $name, $seconds] = $argv;
$lock = Synlock\Store::open($url)->createLock($name);
$batch = str_starts_with($url, 'redis') ? 1 : 100;
$pairs = static function (int $count) use ($lock): void {
    for ($i = 0; $i < $count; ++$i) {
        $lock->acquire();
        $lock->release();
    }
};
$pairs($batch * 20);
$samples = [];
$end = hrtime(true) + (int) ((float) $seconds * 1e9);
while (hrtime(true) < $end) {
    $start = hrtime(true);
    $pairs($batch);
    $samples[] = (hrtime(true) - $start) / $batch;
}
sort($samples);
$at = static fn (float $share): float => $samples[(int) ((count($samples) - 1) * $share)];
echo json_encode(['p50_ns' => $at(0.5), 'p99_ns' => $at(0.99), 'n' => count($samples) * $batch]), "\n";
