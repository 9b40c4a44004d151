<?php

// Takes a lock, waits for the file `go`, and ends in the way that the query names.

declare(strict_types=1);

require __DIR__ . '/common.php';

if ($_GET['end'] === 'early-exit') {
    // Ends the shutdown functions before synlock's own, which is registered later.
    register_shutdown_function(static function (): void {
        exit;
    });
}

$options = json_decode($_GET['options'] ?? '[]', true);
$lock = Synlock\Store::open($_GET['url'])->createLock($_GET['name'], ...$options);
if (!$lock->acquire()) {
    say('busy');
    exit;
}
// A cycle that no destructor breaks in time: only the end of the request lets go of the lock.
$holder = new stdClass();
$holder->self = $holder;
$holder->lock = $lock;
$GLOBALS['keep'][] = $holder;
say('held ' . getmypid());

if ($_GET['end'] === 'finished') {
    fastcgi_finish_request();
}
wait_for($_GET['go']);

switch ($_GET['end']) {
    case 'return':
    case 'early-exit':
        return;
    case 'exit':
        exit(3);
    case 'exception':
        throw new RuntimeException('nobody catches this');
    case 'memory':
        ini_set('memory_limit', '16M');
        $hoard = [];
        while (true) {
            $hoard[] = str_repeat('x', 100_000);
        }
    case 'time':
        set_time_limit(1);
        while (true) {
        }
    case 'finished':
        // Whole at once, for a reader that sees it as soon as it is there.
        file_put_contents($_GET['go'] . '.new', (string) microtime(true));
        rename($_GET['go'] . '.new', $_GET['go'] . '.end');
        return;
    case 'abort':
        while (true) {
            say(str_repeat('x', 1000));
            usleep(10_000);
        }
    case 'never':
        sleep(60);
}
