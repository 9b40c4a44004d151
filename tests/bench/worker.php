<?php

// Drives a lock from PHP: worker.php KIND WHERE NAME, then `pair SECONDS` or `hand OUT START END HOLD_US`
// (drive.h says what they do). KIND is synlock, or a peer; WHERE is a URL, a folder, or a Redis socket.

declare(strict_types=1);

use Symfony\Component\Lock\LockFactory;
use Symfony\Component\Lock\Store;

[, $kind, $where, $name, $way] = $argv;

/** @return array{Closure, Closure} what takes the lock, and what gives it back */
function lock(string $kind, string $where, string $name, bool $waits): array
{
    if ($kind === 'synlock') {
        require __DIR__ . '/../../bindings/php/autoload.php';
        $lock = Synlock\Store::open($where)->createLock($name);

        return [static fn () => $lock->acquire($waits), static fn () => $lock->release()];
    }
    if ($kind === 'apcu') {
        return [static fn () => apcu_add($name, 1, 30), static fn () => apcu_delete($name)];
    }
    require '/usr/share/php/Symfony/Component/Lock/autoload.php';
    $store = match ($kind) {
        'FlockStore' => new Store\FlockStore($where),
        'SemaphoreStore' => new Store\SemaphoreStore(),
        'RedisStore' => new Store\RedisStore(redis($where)),
    };
    $lock = (new LockFactory($store))->createLock($name);

    return [static fn () => $lock->acquire($waits), static fn () => $lock->release()];
}

function redis(string $socket): Redis
{
    $redis = new Redis();
    $redis->connect($socket);

    return $redis;
}

function pairs(Closure $take, Closure $give, int $batch, float $seconds): string
{
    $samples = [];
    $end = null;
    while ($end === null || hrtime(true) < $end) {
        if ($end === null) {
            // The warm-up.
            for ($i = 0; $i < $batch * 20; ++$i) {
                $take() or exit(1);
                $give();
            }
            $end = hrtime(true) + (int) ($seconds * 1e9);
        }
        $start = hrtime(true);
        for ($i = 0; $i < $batch; ++$i) {
            $take();
            $give();
        }
        $samples[] = (hrtime(true) - $start) / $batch;
    }
    sort($samples);
    $at = static fn (float $share): float => $samples[(int) ((count($samples) - 1) * $share)];

    return json_encode(['p50_ns' => $at(0.5), 'p99_ns' => $at(0.99), 'n' => count($samples) * $batch]) . "\n";
}

function turns(Closure $take, Closure $give, int $start, int $end, int $hold): string
{
    $log = '';
    $take() or exit(1);
    $give();
    usleep(max(0, intdiv($start - hrtime(true), 1000)));
    while (($request = hrtime(true)) < $end) {
        $take() or exit(1);
        $acquired = hrtime(true);
        usleep($hold);
        $log .= "{$request} {$acquired} " . hrtime(true) . "\n";
        $give();
    }

    return $log;
}

[$take, $give] = lock($kind, $where, $name, $way === 'hand');
if ($way === 'pair') {
    $batch = $kind === 'RedisStore' || str_starts_with($where, 'redis') ? 1 : 100;
    echo pairs($take, $give, $batch, (float) $argv[5]);
} else {
    file_put_contents($argv[5], turns($take, $give, (int) $argv[6], (int) $argv[7], (int) $argv[8]));
}
