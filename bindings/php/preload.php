<?php

// For opcache.preload: makes the classes of synlock known to every request, and so entitled to FFI
// where ffi.enable=preload. Can be required from a preload file of your own. Opens no store, starts
// no thread, and does not load the library: `ffi.preload` does that, by its soname. What stands on the classes of
// other packages is left to the autoloader: it calls these classes, and needs no FFI.

declare(strict_types=1);

foreach ([__DIR__ . '/src/Exception/SynlockException.php', ...glob(__DIR__ . '/src/{,Exception/,Internal/}*.php', GLOB_BRACE)] as $file) {
    require_once $file;
}
