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
            same([true, true], [$endless->refresh(), $endless->refresh(40)]);
            same([true, true], [$endless->isLocked(), $locks->lock('endless')->isLocked()], 'whoever asks');
            same(false, $locks->lock('endless')->refresh(40), 'it is not held by this one');
            same(true, $endless->release());
            same([false, false, false], [$endless->refresh(), $endless->isLocked(), $locks->lock('endless')->isLocked()]);
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

    foreach (['redis', 'memcached', 'sqlite', 'postgres', 'mysql', 'etcd'] as $name) {
        $work = static function (string $word) use ($setup, $urls, $name): mixed {
            $process = $setup->process(
                'require $arguments[0]; echo json_encode(work($arguments[1], $arguments[2], $arguments[3]));',
                [dirname(__DIR__) . '/lib/jobs.php', $urls[$name], $setup->folder('cache'), $word],
            );
            same($word === 'overlap, and die' ? -SIGKILL : 0, $process->wait(), $process->output);

            return json_decode($process->output, true);
        };
        $lasts = static function (string $lock) use ($urls, $name): void {
            $store = Store::open($urls[$name]);
            if ($store->capabilities()->list) {
                $left = $store->inspect($lock)->holders[0]->remaining;
                ok($left > 80_000 && $left <= 86_400, "a day, not {$left} s");
            }
        };
        $t->test("laravel {$name}::a unique job is dispatched once, although who dispatched it has ended", static function () use ($work, $lasts): void {
            same([true, false], [$work('dispatch'), $work('dispatch')]);
            $lasts('laravel_unique_job:Synlock\Tests\Importfile 17');
            $work('worked');
            same([true, false], [$work('dispatch'), $work('dispatch')]);
            $work('worked');
        });

        $t->test("laravel {$name}::jobs without overlapping, although a worker was killed", static function () use ($work, $lasts): void {
            same([null, null], [$work('overlap'), $work('overlap')]);
            $work('overlap, and die');
            same(0, $work('overlap'), 'back to the queue');
            $lasts('laravel-queue-overlap:Synlock\Tests\Import:account 3');
            $work('overlap is over');
            same(null, $work('overlap'));
        });

        $t->test("laravel {$name}::tasks of the scheduler without overlapping", static function () use ($work): void {
            same([true, false], [$work('schedule'), $work('schedule')]);
            $work('scheduled');
            same([true, null, false], [$work('schedule'), $work('scheduled'), $work('exists 9')]);
            same([true, false, true], [$work('schedule 9'), $work('schedule 9'), $work('exists 9')]);
            $work('scheduled 9');
            same(false, $work('exists 9'));
        });
    }

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

    $t->test('laravel::a refreshed lock lasts longer, and never shorter', static function () use ($urls): void {
        foreach (['redis', 'shm', 'postgres', 'sqlite', 'mysql'] as $name) {
            $locks = new LockProvider($urls[$name]);
            $left = static fn (): ?float => Store::open($urls[$name])->inspect('refreshed')->holders[0]->remaining;
            $lock = $locks->lock('refreshed', 60);
            $lock->get();
            same(true, $lock->refresh(600));
            ok($left() > 500 && $left() <= 600, "{$name}: 600 s");
            same(true, $lock->refresh());
            ok($left() > 500, "{$name}: not 60 s");
            same(true, $locks->restoreLock('refreshed', $lock->owner())->refresh(5000), 'by its owner');
            ok($left() > 4000, "{$name}: 5000 s");
            $locks->lock('refreshed')->forceRelease();
        }
    });

    $t->test('laravel::a lock that is held over the end of a worker\'s request', static function () use ($urls): void {
        foreach (['redis', 'shm', 'postgres', 'memcached'] as $name) {
            $locks = new LockProvider($urls[$name]);
            foreach ([null, 'my own word'] as $owner) {
                $lock = $locks->lock('held over', 60, $owner);
                same(true, $lock->get());
                \Synlock\Runtime::endRequest();
                same([false, true], [$locks->lock('held over', 60)->get(), $lock->refresh(90)], $name);
                \Synlock\Runtime::endRequest();
                same([true, false], [$locks->restoreLock('held over', $lock->owner())->release(), $lock->release()]);
            }
        }
    });

    $t->test('laravel::tags of a cache that has them', static function () use ($urls): void {
        require_once 'Illuminate/Filesystem/autoload.php';
        $locks = new LockProvider($urls['shm']);
        $cache = new Repository(CacheStore::around(new ArrayStore(), $locks));
        same(true, $cache->supportsTags());
        $cache->tags(['people', 'artists'])->put('John', 'a painter', 60);
        $cache->tags('people')->put('Anne', 'a writer', 60);
        same(['a painter', null], [$cache->tags(['people', 'artists'])->get('John'), $cache->get('John')]);
        $cache->tags('artists')->flush();
        same([null, 'a writer'], [$cache->tags(['people', 'artists'])->get('John'), $cache->tags('people')->get('Anne')]);
        same([true, false], [$cache->lock('tagged', 60)->get(), $locks->lock('tagged', 60)->get()]);
        $cache->lock('tagged')->forceRelease();
        $files = new Repository(CacheStore::around(new \Illuminate\Cache\FileStore(new \Illuminate\Filesystem\Filesystem(), '/nowhere'), $locks));
        same(false, $files->supportsTags());
        throws(\BadMethodCallException::class, static fn () => $files->tags('people'));
    });

    $t->test('laravel::the signatures of 13, of which those of 9 to 12 are a part', static function () use ($setup, $urls): void {
        $code = 'error_reporting(E_ALL); require $argv[1]; require $argv[2];'
            . 'foreach (["Lock", "LockProvider", "CacheStore", "TaggableCacheStore"] as $class) { class_exists("Synlock\\\\Laravel\\\\{$class}") || print("no {$class}"); }'
            . '$locks = new Synlock\Laravel\LockProvider($argv[3]); [$lock, $other] = [$locks->lock("stub", 60), $locks->lock("stub", 60)];'
            . 'echo json_encode([$lock->get(), $other->get(), $lock->refresh(90), $other->refresh(90), $other->isLocked(), $lock->isOwnedByCurrentProcess(), $other->isOwnedByCurrentProcess(), $lock->release(), $other->isLocked()]);';
        $process = new Process([PHP_BINARY, '-d', 'display_errors=1', '-r', $code, '--', dirname(__DIR__) . '/stubs/laravel-13.php', "{$setup->package}/autoload.php", $urls['shm']]);
        same(0, $process->wait(), $process->output);
        same('[true,false,true,false,true,true,false,true,false]', $process->output);
    });
};
