<?php

// Prints nothing if the classes and the header are preloaded.

declare(strict_types=1);

if (!class_exists('Synlock\Lock', false)) {
    echo "the classes are not preloaded\n";
}
require __DIR__ . '/common.php';

Synlock\Store::open('memory:')->createLock('x')->acquire();
$maps = (string) file_get_contents('/proc/self/maps');
if (!str_contains($maps, 'libsynlock.so.0')) {
    echo "the library is not loaded by its soname\n";
}
if (!Synlock\Runtime::isHeaderPreloaded()) {
    echo "the header is not preloaded\n";
}
