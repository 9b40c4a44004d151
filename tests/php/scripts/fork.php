<?php

// Holds a lock over the life of a forked child: fork.php PACKAGE URL NAME FATE [TTL]

declare(strict_types=1);

[, $package, $url, $name, $fate] = $argv;
require "{$package}/autoload.php";

$lock = Synlock\Store::open($url)->createLock($name, isset($argv[5]) ? (float) $argv[5] : null);
$lock->acquire();
$parent = getmypid();
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
        case 'lives on':
            while (posix_getppid() === $parent) {
                usleep(5000);
            }
            exit(0);
        case 'outlives its parent':
            fclose(STDOUT);
            fgets(STDIN);
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
$status = 0;
if ($fate !== 'lives on' && $fate !== 'outlives its parent') {
    pcntl_wait($status);
}
echo pcntl_wifexited($status) && pcntl_wexitstatus($status) === 9 ? "the child could use it\n" : "as it should be\n";
echo $lock->isAcquired() ? "held\n" : "lost\n";
fgets(STDIN);
$lock->release();
echo "released\n";
fgets(STDIN);
