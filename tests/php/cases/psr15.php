<?php

// Request guards by PSR-15's middleware, over HTTP: the application is scripts/guarded.php.

declare(strict_types=1);

namespace Synlock\Tests;

return static function (Runner $t, string $temp, string $package, string $redis): void {
    $site = new CliSite($package, "{$temp}/guarded", "{$temp}/scripts/guarded.php");
    guarded($t, 'psr15', $site);
    $site->stop();
};
