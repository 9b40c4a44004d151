<?php

// Signals in quick succession, at whatever moment of a call, whose handler throws: how often it did, what calls that threw
// left held, and what the logger hears when all is over.

declare(strict_types=1);

use Synlock\Guard\Guards;
use Synlock\Guard\MutexRequest;
use Synlock\Guard\Request;
use Synlock\Internal\Manager;
use Synlock\LockSet;
use Synlock\State;
use Synlock\Store;

[, $package, $what, $times] = $argv;
require "{$package}/autoload.php";

$armed = false;
pcntl_async_signals(true);
pcntl_signal(SIGUSR1, static function () use (&$armed): void {
    if ($armed) {
        $armed = false; // one for each call
        throw new DomainException('from the handler');
    }
});
$me = getmypid();
$sender = pcntl_fork();
if ($sender === 0) {
    while (posix_getppid() === $me) {
        usleep(random_int(50, 400));
        posix_kill($me, SIGUSR1);
    }
    posix_kill(getmypid(), SIGKILL); // no shutdown functions
}

$heard = 0;
$store = Store::open('memory:storm');
if (str_starts_with($what, 'logged')) {
    $store->setLogger(static function () use (&$heard): void {
        ++$heard;
    });
}
ini_set('error_log', '/dev/null'); // what the handler throws inside of the logger
$guards = new Guards([$store]);
[$policy, $request] = [new MutexRequest(name: 'n', autoRelease: false), new Request('pay', '/')];
$locks = [$store->createLock('n'), $store->createLock('m')];
$set = new LockSet(...$locks);
$held = $store->createLock('held');
$held->acquire();
$manager = new Manager($store, 1, 0.0, 0.0, 60.0, false, false, '', static function () use (&$heard): void {
    ++$heard;
});
$named = Manager::name('"k"', '');
$call = match ($what) {
    'logged manager' => static function () use ($manager): bool {
        $manager->acquire('"k"', 'here', null);

        return true;
    },
    'logged lock' => static fn () => $locks[0]->acquire(),
    'logged reader' => static fn () => $locks[0]->acquireRead(),
    'logged set' => static fn () => $set->acquire(),
    'guard' => static fn () => $guards->enter($policy, $request),
    'text' => static fn () => [$store->url(), $guards->name($policy, $request), $held->ownerToken()],
    'rows' => static fn () => [$store->inspect('held'), iterator_to_array($store->list()), $store->isLocked('held'), $store->capabilities()],
};
$left = $thrown = 0;
while ($thrown < (int) $times) {
    $given = null;
    try {
        $armed = true;
        $given = $call();
        $armed = false;
    } catch (DomainException) {
        ++$thrown;
        if ($given === null && array_filter(['n', 'm', $named], $store->isLocked(...)) !== []) {
            ++$left;
        }
    }
    $armed = false;
    if ($store->isLocked($named)) {
        $manager->release('"k"', 'here');
    }
    foreach (array_filter(['n', 'm'], $store->isLocked(...)) as $name) {
        $store->breakLock($name);
    }
    foreach ($locks as $lock) {
        if ($lock->state() !== State::Idle) {
            $lock->isAcquired(); // finds it lost
        }
    }
}
posix_kill($sender, SIGKILL);
pcntl_waitpid($sender, $status);
$heard = 0;
$locks[1]->acquire();
echo json_encode(['thrown' => $thrown, 'left' => $left, 'heard' => $heard > 0]), "\n";
