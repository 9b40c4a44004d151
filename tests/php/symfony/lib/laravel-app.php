<?php

// The application of the guide to Laravel: its blocks as files, and what a framework has besides.

declare(strict_types=1);

namespace Synlock\Tests;

use Illuminate\Config\Repository;
use Illuminate\Contracts\Debug\ExceptionHandler;
use Illuminate\Database\Schema\Blueprint;
use Illuminate\Foundation\Application;
use Illuminate\Queue\WorkerOptions;
use Illuminate\Support\Facades\Facade;
use Illuminate\Support\Facades\Schema;

require_once 'Illuminate/autoload.php';

/**
 * Writes them.
 *
 * @return array{int, int} how many files there are, and how many blocks
 */
function unpackGuide(Setup $setup, string $folder): array
{
    $guide = (string) file_get_contents("{$setup->package}/laravel.md");
    preg_match_all('~^```(?:php|)\n(?:#|//) (\S+)\n(.+?)^```$~ms', $guide, $blocks);
    foreach ($blocks[1] as $number => $file) {
        is_dir(dirname("{$folder}/{$file}")) || mkdir(dirname("{$folder}/{$file}"), 0o700, true);
        file_put_contents("{$folder}/{$file}", (str_ends_with($file, '.php') ? "<?php\n" : '') . $blocks[2][$number]);
    }

    // A closing fence looks like one without a language.
    return [count(array_unique($blocks[1])), intdiv(preg_match_all('/^```/m', $guide), 2)];
}

/** Says what it is told of. */
final class Complaints implements ExceptionHandler
{
    /** @var list<string> */
    public array $all = [];

    public function report(\Throwable $e): void
    {
        $this->all[] = $e->getMessage();
    }

    public function shouldReport(\Throwable $e): bool
    {
        return true;
    }

    public function render($request, \Throwable $e)
    {
        throw $e;
    }

    public function renderForConsole($output, \Throwable $e): void
    {
        throw $e;
    }
}

function bootGuide(Setup $setup, string $folder, string $environment = ''): Application
{
    foreach (['app/Reports', 'app/Jobs/ImportFile', 'app/Providers/LockServiceProvider'] as $file) {
        require_once "{$folder}/{$file}.php";
    }
    [$name, $url] = explode('=', trim((string) file_get_contents("{$folder}/.env{$environment}")));
    putenv("{$name}=" . strtr($url, ['redis://localhost' => "redis://127.0.0.1:{$setup->ports['redis']}/9"]));
    $app = new Application($folder);
    Facade::setFacadeApplication($app);
    $database = ['driver' => 'sqlite', 'database' => "{$folder}/queue.db", 'prefix' => ''];
    touch($database['database']);
    $app->instance('config', new Repository([
        'cache' => require "{$folder}/config/cache.php",
        'database' => ['default' => 'queue', 'connections' => ['queue' => $database]],
        'queue' => [
            'default' => 'database', 'failed' => ['driver' => null],
            'connections' => ['database' => ['driver' => 'database', 'table' => 'jobs', 'queue' => 'default', 'retry_after' => 90], 'sync' => ['driver' => 'sync']],
        ],
    ]));
    $app->instance(ExceptionHandler::class, new Complaints());
    foreach (['Filesystem\FilesystemServiceProvider', 'Database\DatabaseServiceProvider', 'Cache\CacheServiceProvider', 'Bus\BusServiceProvider', 'Queue\QueueServiceProvider'] as $provider) {
        $app->register("Illuminate\\{$provider}");
    }
    $app->register(\App\Providers\LockServiceProvider::class);
    $app->boot();
    if (!Schema::hasTable('jobs')) {
        Schema::create('jobs', static function (Blueprint $table): void {
            $table->bigIncrements('id');
            $table->string('queue');
            $table->text('payload');
            foreach (['attempts', 'reserved_at', 'available_at', 'created_at'] as $column) {
                $table->unsignedInteger($column)->nullable();
            }
        });
    }

    return $app;
}

/** A job that waits for a lock. */
final class Patient implements \Illuminate\Contracts\Queue\ShouldQueue
{
    use \Illuminate\Queue\InteractsWithQueue;

    public function handle(): void
    {
        echo "waits\n";
        \Illuminate\Support\Facades\Cache::lock('patience', 60)->block(600, static fn () => print("works\n"));
    }
}

/** As `queue:work --once`. */
function workOnce(Application $app): void
{
    $app['queue.worker']->setCache($app['cache']->store())->runNextJob('database', 'default', new WorkerOptions(sleep: 0, maxTries: 3));
}
