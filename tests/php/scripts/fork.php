<?php

// Holds a lock over the life of a forked child: fork.php PACKAGE URL NAME FATE

declare(strict_types=1);

[, $package, $url, $name, $fate] = $argv;
require "{$package}/autoload.php";

$lock = Synlock\Store::open($url)->createLock($name);
$lock->acquire();
if (pcntl_fork() === 0) {
    ini_set('display_errors', '0');
    ini_set('log_errors', '0');
    try {
        $lock->isAcquired();
        exit(9);
    } catch (Synlock\Exception\ForkedHandle) {
    }
    switch ($fate) {
        case 'exits':
            $own = Synlock\Store::open($url)->createLock("{$name} of the child");
            $own->acquire();
            exit(0);
        case 'throws':
            throw new Error('nobody catches this');
        case 'is killed':
            posix_kill(posix_getpid(), SIGKILL);
        case 'is terminated':
            posix_kill(posix_getpid(), SIGTERM);
        case 'executes another program':
            pcntl_exec('/bin/true');
        case 'forks again':
            if (pcntl_fork() === 0) {
                unset($lock);
                exit(0);
            }
            pcntl_wait($status);
            Synlock\Runtime::endRequest();
            exit(0);
    }
}
pcntl_wait($status);
echo pcntl_wifexited($status) && pcntl_wexitstatus($status) === 9 ? "the child could use it\n" : "child gone\n";
echo $lock->isAcquired() ? "held\n" : "lost\n";
fgets(STDIN);
$lock->release();
echo "released\n";
fgets(STDIN);
