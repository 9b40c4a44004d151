<?php

// What the scripts that run under FPM share.

declare(strict_types=1);

// The package is found like any other: through its autoloader, which the pool's environment names.
require getenv('SYNLOCK_PACKAGE') . '/autoload.php';

/** Sends what was printed to the client now. */
function say(string $line): void
{
    echo $line, "\n";
    while (ob_get_level() > 0) {
        ob_end_flush();
    }
    flush();
}

function wait_for(string $file): void
{
    while (!file_exists($file)) {
        usleep(5000);
        clearstatcache();
    }
}
