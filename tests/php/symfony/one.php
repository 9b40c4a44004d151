<?php

// One file of cases: one.php MODE FILE PACKAGE TEMP PORTS [FILTER], started by run.

declare(strict_types=1);

namespace Synlock\Tests;

const ROOT = __DIR__ . '/../../..';
[, $mode, $file, $package, $temp, $ports] = $argv;
foreach (['lib/Runner', 'lib/Process', 'lib/Ports', 'symfony/lib/Setup', 'symfony/lib/Clients', 'symfony/lib/behaviours'] as $part) {
    require __DIR__ . "/../{$part}.php";
}
error_reporting(E_ALL);
$setup = new Setup($mode, $package, $temp, json_decode($ports, true));
$setup->load();
$runner = new Runner($argv[6] ?? '');
(require $file)($runner, $setup);
printf("%d passed, %d failed\n", $runner->passed, $runner->failed);
exit($runner->failed > 0 ? 1 : 0);
