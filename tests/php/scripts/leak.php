<?php

// Counts live handles before and after it makes a store and a lock.

declare(strict_types=1);

require __DIR__ . '/common.php';

$before = Synlock\Runtime::countHandles();
$lock = Synlock\Store::open($_GET['url'])->createLock('leak');
$lock->acquire();
say("before {$before} during " . Synlock\Runtime::countHandles());
$GLOBALS['keep'] = new stdClass();
$GLOBALS['keep']->self = $GLOBALS['keep'];
$GLOBALS['keep']->lock = $lock;
trigger_error('a fatal error', E_USER_ERROR);
