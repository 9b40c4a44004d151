<?php

// Laravel's locks, in Debian's Laravel 8.

declare(strict_types=1);

namespace Synlock\Tests;

use Illuminate\Cache\ArrayStore;
use Illuminate\Cache\Repository;
use Illuminate\Contracts\Cache\LockTimeoutException;
use Synlock\Laravel\CacheStore;
use Synlock\Laravel\LockProvider;
use Synlock\Store;

return static function (Runner $t, Setup $setup): void {
    require_once 'Illuminate/Cache/autoload.php';
    $urls = $setup->urls();
    foreach ($urls as $name => $url) {
        $t->test("laravel {$name}::get, block, release, restore", static function () use ($url): void {
            $can = Store::open($url)->capabilities();
            $locks = new LockProvider($url);
            $lock = $locks->lock('podcast', 30);
            same(true, $lock->get());
            same([false, false], [$lock->get(), $locks->lock('podcast', 30)->get()]);
            throws(LockTimeoutException::class, static fn () => $locks->lock('podcast', 30)->block(0));
            same(false, $locks->restoreLock('podcast', 'somebody else')->release());
            same(true, $lock->release());
            same(false, $lock->release());
            same('done', $locks->lock('podcast', 30)->block(5, static fn (): string => 'done'));
            same('done', $locks->lock('podcast', 30)->get(static fn (): string => 'done'));
            same(true, $locks->lock('podcast', 30)->get(), 'both were released');
            same(false, $locks->lock('podcast', 30)->get(), 'one whose object is gone is held');
            if ($can->breakLock) {
                $locks->lock('podcast')->forceRelease();
            }
            $mine = $locks->lock('named', 30, 'my own word');
            same(true, $mine->get());
            same('my own word', $mine->owner());
            same(true, $locks->restoreLock('named', 'my own word')->release());
            same(false, $mine->release());
            $endless = $locks->lock('endless');
            same(true, $endless->get());
            same(false, $locks->lock('endless')->get());
            same(true, $endless->release());
        });
    }

    $t->test('laravel::a lock that another process restores', static function () use ($setup, $urls): void {
        foreach (['redis', 'shm', 'postgres', 'memcached'] as $name) {
            $locks = new LockProvider($urls[$name]);
            $lock = $locks->lock('handed on', 60);
            $lock->get();
            $process = $setup->process(
                'require_once "Illuminate/Cache/autoload.php"; $locks = new \Synlock\Laravel\LockProvider($arguments[0]);'
                . 'echo json_encode([$locks->lock("handed on", 5)->get(), $locks->restoreLock("handed on", $arguments[1])->release(), $locks->lock("handed on", 5)->get(fn () => "free")]);',
                [$urls[$name], $lock->owner()],
            );
            same(0, $process->wait(), $process->output);
            same('[false,true,"free"]', $process->output, $name);
            same(false, $lock->release(), 'it is not ours any more');
        }
    });

    $t->test('laravel::a wait is woken by another process', static function () use ($setup, $urls): void {
        $process = $setup->process(
            'require_once "Illuminate/Cache/autoload.php"; $lock = (new \Synlock\Laravel\LockProvider($arguments[0]))->lock("waited for", 60); $lock->get(); echo "held\n"; fgets(STDIN); $lock->release();',
            [$urls['shm']],
        );
        $process->expect('held');
        $lock = (new LockProvider($urls['shm']))->lock('waited for', 60);
        same(false, $lock->get());
        $process->send('let go');
        same(true, $lock->block(30));
        $lock->release();
    });

    $t->test('laravel::the cache of an application', static function () use ($urls): void {
        $cache = new Repository(new CacheStore(new ArrayStore(), new LockProvider($urls['shm'])));
        $cache->put('key', 'value', 60);
        same(['value', false, true], [$cache->get('key'), $cache->add('key', 'other', 60), $cache->add('new', 'value', 60)]);
        same(1, $cache->increment('count'));
        same(true, $cache->lock('job', 60)->get());
        same(false, (new LockProvider($urls['shm']))->lock('job', 60)->get());
        $cache->lock('job')->forceRelease();
        same(true, $cache->lock('job', 60)->get(static fn (): bool => true));
    });

    $t->test('laravel::beside Laravel\'s own Redis locks', static function () use ($setup): void {
        $redis = (new Clients($setup))->redis();
        $url = "redis://127.0.0.1:{$setup->ports['redis']}?dialect=plain&prefix=laravel_cache:";
        $lock = (new LockProvider($url))->lock('both', 60);
        // What PhpRedisLock sends.
        $theirs = static fn (): bool => $redis->set('laravel_cache:both', 'their owner', ['nx', 'ex' => 60]);
        same(true, $lock->get());
        same(false, $theirs());
        $lock->release();
        same(true, $theirs());
        same(false, $lock->get());
        $redis->del('laravel_cache:both');
        same(true, $lock->get());
        $lock->release();
    });
};
