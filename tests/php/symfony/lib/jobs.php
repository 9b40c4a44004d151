<?php

// Jobs of a Laravel application, and the parts of the framework that lock for them. Each word is done by a process of
// its own, which ends: `work(URL, WORD)` answers whether it was let in.

declare(strict_types=1);

namespace Synlock\Tests;

use Illuminate\Bus\UniqueLock;
use Illuminate\Cache\CacheManager;
use Illuminate\Cache\Repository;
use Illuminate\Console\Scheduling\CacheEventMutex;
use Illuminate\Console\Scheduling\Event;
use Illuminate\Container\Container;
use Illuminate\Contracts\Cache\Repository as Cache;
use Illuminate\Filesystem\Filesystem;
use Illuminate\Queue\Middleware\WithoutOverlapping;
use Synlock\Laravel\CacheStore;
use Synlock\Laravel\LockProvider;

foreach (['Bus', 'Cache', 'Config', 'Console', 'Container', 'Filesystem', 'Queue'] as $part) {
    require_once "Illuminate/{$part}/autoload.php";
}

/** It says nothing of `uniqueFor`: unique until it has been worked on. */
final class Import
{
    public ?int $releasedFor = null;

    public function uniqueId(): string
    {
        return 'file 17';
    }

    /** What a job that is not let in calls. */
    public function release(int $seconds): void
    {
        $this->releasedFor = $seconds;
    }
}

function work(string $url, string $files, string $word): mixed
{
    $app = new Container();
    Container::setInstance($app);
    $app['config'] = ['cache.default' => 'synlock', 'cache.stores.synlock' => ['driver' => 'synlock']];
    $cache = new CacheManager($app);
    $cache->extend('synlock', fn (): Repository => $cache->repository(
        new CacheStore(new \Illuminate\Cache\FileStore(new Filesystem(), $files), new LockProvider($url)),
    ));
    $app->instance(Cache::class, $cache->store());
    $event = (new Event($mutex = new CacheEventMutex($cache), 'report'))->withoutOverlapping();
    $job = new Import();
    $name = 'laravel_unique_job:' . Import::class . $job->uniqueId();
    $overlap = static function (\Closure $next) use ($job): ?int {
        (new WithoutOverlapping('account 3'))->handle($job, $next);

        return $job->releasedFor;
    };

    return match ($word) {
        'dispatch' => (new UniqueLock($cache->store()))->acquire($job),
        // The worker's CallQueuedHandler.
        'worked' => $cache->store()->lock($name)->forceRelease(),
        'overlap' => $overlap(static fn () => null),
        'overlap, and die' => $overlap(static fn () => posix_kill(getmypid(), SIGKILL)),
        'overlap is over' => $cache->store()->lock((new WithoutOverlapping('account 3'))->getLockKey($job))->forceRelease(),
        'schedule' => $mutex->create($event),
        'scheduled' => $mutex->forget($event),
        // As the CacheEventMutex since the last versions of 9.
        'schedule 9' => $cache->store()->getStore()->lock($event->mutexName(), $event->expiresAt * 60)->acquire(),
        'exists 9' => !$cache->store()->getStore()->lock($event->mutexName(), $event->expiresAt * 60)->get(static fn (): bool => true),
        'scheduled 9' => $cache->store()->getStore()->lock($event->mutexName(), $event->expiresAt * 60)->forceRelease(),
    };
}
