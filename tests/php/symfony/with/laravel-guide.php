<?php

// The guide to Laravel: laravel.md.

declare(strict_types=1);

namespace Synlock\Tests;

use App\Jobs\ImportFile;
use App\Reports;
use Illuminate\Contracts\Debug\ExceptionHandler;
use Illuminate\Contracts\Queue\ShouldQueue;
use Illuminate\Support\Facades\Cache;
use Synlock\Lock;
use Synlock\Store;

require_once dirname(__DIR__) . '/lib/laravel-app.php';

/** A job that takes a lock of synlock, and forgets it. */
final class Forgetful implements ShouldQueue
{
    use \Illuminate\Queue\InteractsWithQueue;

    public static ?Lock $lock = null;

    public function __construct(private readonly bool $fails)
    {
    }

    public function handle(): void
    {
        self::$lock = Store::open(getenv('LOCK_URL'))->createLock('forgotten', 60);
        same(true, self::$lock->acquire());
        $this->fails ? throw new \RuntimeException('a failure') : null;
    }
}

return static function (Runner $t, Setup $setup): void {
    $folder = $setup->folder('laravel');
    [$files, $blocks] = unpackGuide($setup, $folder);
    $t->test('laravel guide::each block is a file', static fn () => same([7, 7], [$files, $blocks]));
    $app = bootGuide($setup, $folder);
    $store = Store::open(getenv('LOCK_URL'));

    $t->test('laravel guide::the cache has values and locks', static function () use ($store): void {
        Cache::put('key', 'value', 60);
        same('value', Cache::store('file')->get('key'));
        $lock = Cache::lock('mine', 60);
        same([true, true, false], [$lock->get(), $store->isLocked('mine'), Cache::lock('mine', 60)->get()]);
        $lock->release();
    });

    $t->test('laravel guide::reports', static function () use ($store): void {
        $reports = new Reports();
        $inside = null;
        same(true, $reports->write('a', static function () use ($reports, $store, &$inside): void {
            $inside = [$store->isLocked('report a'), $reports->write('a', static fn () => null)];
        }));
        same([true, false], $inside);
        same([true, false], [$reports->append('a', static fn (): bool => true), $reports->append('a', static fn (): bool => false)]);
        same(false, $store->isLocked('report a'));
    });

    $t->test('laravel guide::a job is queued once, by processes that end, and worked on', static function () use ($setup, $folder, $app, $store): void {
        $file = "{$setup->temp}/import";
        $dispatch = static function () use ($setup, $folder, $file): int {
            $process = $setup->process(
                'require $arguments[0]; $app = bootGuide($setup, $arguments[1]); \App\Jobs\ImportFile::dispatch($arguments[2], "account 3"); echo $app["db"]->table("jobs")->count();',
                [dirname(__DIR__) . '/lib/laravel-app.php', $folder, $file],
            );
            same(0, $process->wait(), $process->output);

            return (int) $process->output;
        };
        same([1, 1], [$dispatch(), $dispatch()], 'in the queue');
        $overlap = Cache::lock('laravel-queue-overlap:' . ImportFile::class . ':account 3', 60);
        $overlap->get();
        workOnce($app);
        same([false, 1], [file_exists("{$file}.imported"), $dispatch()], 'somebody works for this account');
        $overlap->release();
        workOnce($app);
        same("account 3\n", file_get_contents("{$file}.imported"));
        same([0, false], [$app['db']->table('jobs')->count(), $store->isLocked('laravel_unique_job:' . ImportFile::class . $file)]);
        same(1, $dispatch(), 'and may be queued again');
        workOnce($app);
        same([], $app[ExceptionHandler::class]->all);
    });

    $t->test('laravel guide::what a job forgot is released after it, and not what a request holds that works on it', static function () use ($app, $store): void {
        foreach ([false, true] as $fails) {
            $app['queue']->connection('database')->push(new Forgetful($fails));
            workOnce($app);
            ok(Forgetful::$lock !== null && !Forgetful::$lock->isAcquired(), 'the job has run');
            same([false, null], [$store->isLocked('forgotten'), Forgetful::$lock = null]);
            $app['db']->table('jobs')->delete();
        }
        $outer = $store->createLock('outer', 60);
        $outer->acquire();
        $app['queue']->connection('sync')->push(new Forgetful(false));
        same([true, true], [$outer->isAcquired(), Forgetful::$lock->isAcquired()]);
        $app['events']->dispatch('Laravel\Octane\Events\RequestTerminated');
        same([false, false], [$outer->isAcquired(), Forgetful::$lock->isAcquired()]);
    });

    $t->test('laravel guide::a worker that is told to stop while it waits for a lock stops after the job', static function () use ($setup, $folder, $app): void {
        $lock = Cache::lock('patience', 600);
        $lock->get();
        foreach ([1, 2] as $ignored) {
            $app['queue']->connection('database')->push(new Patient());
        }
        $process = $setup->process(
            'require $arguments[0]; $app = bootGuide($setup, $arguments[1]);'
            . '$app["queue.worker"]->setCache($app["cache"]->store())->daemon("database", "default", new \Illuminate\Queue\WorkerOptions(sleep: 0, timeout: 0)); echo "stopped\n";',
            [dirname(__DIR__) . '/lib/laravel-app.php', $folder],
        );
        $process->expect('waits');
        $process->signal(SIGTERM);
        usleep(300_000);
        same(true, $process->isRunning(), 'the job is not done');
        $lock->release();
        $process->expect('works');
        $process->expect('stopped');
        same([0, 1], [$process->wait(), $app['db']->table('jobs')->count()], 'the next one is left');
        $app['db']->table('jobs')->delete();
    });

    $t->test('laravel guide::tests in memory', static function () use ($setup, $folder): void {
        $process = $setup->process(
            'require $arguments[0]; class_alias(\Illuminate\Support\Facades\Cache::class, "Cache"); bootGuide($setup, $arguments[1], ".testing"); $reports = new \App\Reports();'
            . 'eval(strtr(substr(file_get_contents("{$arguments[1]}/tests/ReportsTest.php"), 5), ["assert(" => "\Synlock\Tests\same(true, "])); echo getenv("LOCK_URL");',
            [dirname(__DIR__) . '/lib/laravel-app.php', $folder],
        );
        same(0, $process->wait(), $process->output);
        same('memory:', $process->output);
    });
};
