<?php

// The guide to Symfony: an application of its blocks, its kernel and what that serves.

declare(strict_types=1);

namespace Synlock\Tests;

use App\Exports;
use App\Import;
use App\ImportHandler;
use App\Imports;
use App\Invoices;
use Symfony\Component\Config\Loader\LoaderInterface;
use Symfony\Component\Console\Input\ArrayInput;
use Symfony\Component\Console\Output\BufferedOutput;
use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\HttpFoundation\Request;
use Symfony\Component\HttpKernel\Kernel;
use Symfony\Component\Lock\Exception\LockConflictedException;
use Symfony\Component\Lock\Exception\UnserializableKeyException;
use Symfony\Component\Lock\Key;
use Symfony\Component\Lock\LockFactory;
use Synlock\Runtime;
use Synlock\Store;
use Synlock\Symfony\SynlockStore;

/** What the application logs. */
final class Lines extends \Psr\Log\AbstractLogger
{
    public static array $all = [];

    public function log($level, $message, array $context = []): void
    {
        self::$all[] = [$level, (string) $message, $context];
    }
}

return static function (Runner $t, Setup $setup): void {
    foreach (['Bundle/FrameworkBundle', 'Component/Yaml', 'Component/Messenger', 'Component/Semaphore', 'Component/Stopwatch', 'Component/Console'] as $part) {
        require_once "Symfony/{$part}/autoload.php";
    }
    $app = $setup->folder('app');
    $guide = (string) file_get_contents("{$setup->package}/symfony.md");
    preg_match_all('~^```(?:yaml|php|)\n(?:#|//) (\S+)\n(.+?)^```$~ms', $guide, $blocks);
    $shorter = ['timeout: 5000' => 'timeout: 300', 'maxWait: 5' => 'maxWait: 0.3'];
    foreach ($blocks[1] as $number => $file) {
        is_dir(dirname("{$app}/{$file}")) || mkdir(dirname("{$app}/{$file}"), 0o700, true);
        file_put_contents("{$app}/{$file}", (str_ends_with($file, '.php') ? "<?php\n" : '') . strtr($blocks[2][$number], $shorter));
    }
    $t->test('framework::each block is a file', static fn () => same(
        // A closing fence looks like one without a language.
        preg_match_all('/^```/m', $guide) / 2,
        count(array_unique($blocks[1])),
    ));
    foreach (glob("{$app}/src/*.php") as $file) {
        require $file;
    }
    $load = static function (string $file) use ($app, $setup): void {
        $lines = preg_grep('/=/', file("{$app}/{$file}", FILE_IGNORE_NEW_LINES));
        foreach ($lines as $line) {
            [$name, $value] = explode('=', $line, 2);
            $value = strtr($value, ['shm:app' => "shm:{$app}/segment", 'redis://localhost' => "redis://127.0.0.1:{$setup->ports['redis']}"]);
            $_ENV[$name] = $_SERVER[$name] = $value;
        }
    };
    $kernel = static function (string $environment, bool $debug = false) use ($app, $setup): Kernel {
        $_ENV['MESSENGER_TRANSPORT_DSN'] = $_SERVER['MESSENGER_TRANSPORT_DSN'] = "redis://127.0.0.1:{$setup->ports['redis']}/messages-" . getmypid();
        $kernel = new class ($environment, $debug, $app) extends Kernel {
            public function __construct(string $environment, bool $debug, private readonly string $app)
            {
                parent::__construct($environment, $debug);
            }

            public function registerBundles(): iterable
            {
                foreach (array_keys(require "{$this->app}/config/bundles.php") as $bundle) {
                    yield new $bundle();
                }
            }

            public function getProjectDir(): string
            {
                return $this->app;
            }

            public function registerContainerConfiguration(LoaderInterface $loader): void
            {
                file_put_contents("{$this->app}/routes.yaml", "pay:\n    path: /orders/{id}\n    controller: App\\OrderController::pay\n");
                $loader->load("{$this->app}/config/packages/*.yaml", 'glob');
                $loader->load("{$this->app}/config/services.yaml");
                $loader->load(static function (ContainerBuilder $container): void {
                    $container->loadFromExtension('framework', [
                        'secret' => 'x', 'http_method_override' => false, 'php_errors' => ['log' => false],
                        'router' => ['resource' => '%kernel.project_dir%/routes.yaml', 'utf8' => true],
                        'profiler' => ['collect' => $container->getParameter('kernel.debug'), 'dsn' => 'file:%kernel.cache_dir%/profiler'],
                    ]);
                    $container->register('logger', Lines::class);
                    foreach ([Invoices::class, Exports::class, Imports::class, ImportHandler::class, Store::class, SynlockStore::class, 'profiler', 'messenger.default_bus'] as $id) {
                        $container->setAlias("test {$id}", $id)->setPublic(true);
                    }
                });
            }
        };
        $kernel->boot();

        return $kernel;
    };
    $load('.env');
    $running = null;
    $t->test('framework::the application boots, and opens nothing', static function () use (&$running, $kernel, $app): void {
        $running = $kernel('prod');
        same(false, file_exists("{$app}/segment"));
    });
    if ($running === null) {
        return;
    }
    $of = static fn (string $service, ?Kernel $of = null): object => ($of ?? $running)->getContainer()->get("test {$service}");

    $t->test('framework::services have the default factory, or the one that they name', static function () use ($of): void {
        $invoices = $of(Invoices::class);
        same(true, $invoices->send(17));
        $locks = $of(Store::class);
        same('shm', $locks->capabilities()->store);
        $other = $locks->createLock('invoice 17');
        same(true, $other->acquire());
        same([false, true], [$invoices->send(17), $invoices->send(18)]);
        $other->release();
        $reports = Store::open($_ENV['REPORTS_LOCK_URL']);
        same([true, false], $invoices->report(static fn (): array => [$reports->isLocked('report'), $locks->isLocked('report')]));
        same(false, $reports->isLocked('report'));
    });
    $t->test('framework::so many have a semaphore and no more', static function () use ($of): void {
        $exports = $of(Exports::class);
        $answers = [];
        $run = static function () use (&$run, &$answers, $exports): void {
            $answers[] = $exports->run($run);
        };
        $run();
        same([false, true, true, true], $answers);
        $places = $of(Store::class)->createLock('exports', permits: 3, of: 3);
        same(true, $places->acquire(), 'all are free');
        same(false, $exports->run(static fn () => null));
        $places->release();
    });
    $t->test('framework::the logger gets what happens to locks', static function () use ($of): void {
        Lines::$all = [];
        same(true, $of(Invoices::class)->send(19));
        $about = array_filter(Lines::$all, static fn (array $line): bool => [$line[2]['resource'] ?? '', isset($line[2]['event'])] === ['invoice 19', true]);
        same([['info', 'acquired'], ['info', 'released']], array_map(static fn (array $line): array => [$line[0], $line[2]['event']], array_values($about)));
    });
    $t->test('framework::a wait is bounded by the option of the store', static function () use ($of): void {
        $other = Store::open($_ENV['REPORTS_LOCK_URL'])->createLock('report');
        $other->acquire();
        throws(LockConflictedException::class, static fn () => $of(Invoices::class)->report(static fn () => null));
        $other->release();
    });
    $pay = static function (Kernel $kernel): array {
        $response = $kernel->handle($request = Request::create('/orders/17'), catch: true);
        $kernel->terminate($request, $response);

        return [$response->getStatusCode(), $response->getContent(), $response];
    };
    $t->test('framework::a controller is guarded, and the panel shows it', static function () use ($running, $kernel, $of, $pay): void {
        same([200, 'paid 17'], array_slice($pay($running), 0, 2));
        $debugging = $kernel('prod', true);
        $lock = $of(Store::class)->createLock('order_17', label: 'the other one');
        $lock->acquire();
        [$status, , $response] = $pay($debugging);
        same(423, $status);
        $shown = $of('profiler', $debugging)->loadProfileFromResponse($response)->getCollector('ixarlie_mutex');
        $lock->release();
        ok(str_contains(serialize($shown), 'order_17') && str_contains(serialize($shown), 'the other one'), serialize($shown));
        $debugging->shutdown();
    });

    $consume = static function () use ($running): void {
        $console = new \Symfony\Bundle\FrameworkBundle\Console\Application($running);
        $console->setAutoExit(false);
        $status = $console->run(new ArrayInput(['command' => 'messenger:consume', 'receivers' => ['async'], '--limit' => '1', '--time-limit' => '60', '-vv' => true]), $output = new BufferedOutput());
        same(0, $status, $output->fetch());
    };
    $t->test('framework::a message brings the lock of its sender', static function () use ($of, $app, $consume): void {
        $store = Store::open($_ENV['REPORTS_LOCK_URL']);
        $imports = $of(Imports::class);
        same([true, false], [$imports->start("{$app}/a"), $imports->start("{$app}/a")]);
        Runtime::endRequest();
        same(true, $store->isLocked("import {$app}/a"));
        $consume();
        same([true, false], [is_file("{$app}/a.imported"), $store->isLocked("import {$app}/a")]);
    });
    $t->test('framework::a message that comes twice brings its lock once', static function () use ($of, $app): void {
        $factory = new LockFactory(new SynlockStore($_ENV['REPORTS_LOCK_URL']));
        same(true, $factory->createLockFromKey($key = new Key("import {$app}/b"), 600, false)->acquire());
        $sent = serialize(new Import("{$app}/b", $key));
        $of(ImportHandler::class)(unserialize($sent));
        same(true, unlink("{$app}/b.imported"));
        $next = $factory->createLock("import {$app}/b", 600);
        same(true, $next->acquire());
        throws(LockConflictedException::class, static fn () => $of(ImportHandler::class)(unserialize($sent)));
        same([true, false], [$next->isAcquired(), is_file("{$app}/b.imported")], 'the next lock is left alone');
        $next->release();
    });
    $t->test('framework::what a handler forgot goes after its message', static function () use ($of, $app, $consume): void {
        $store = $of(Store::class);
        $forgotten = $store->createLock('forgotten');
        same(true, $forgotten->acquire());
        $of(Imports::class)->start("{$app}/c");
        same(true, $store->isLocked('forgotten'));
        $consume();
        same([true, false], [is_file("{$app}/c.imported"), $store->isLocked('forgotten')]);
        // Stores and locks can be used after it.
        same(true, $forgotten->acquire());
        $forgotten->release();
    });
    $t->test('framework::a store that cannot hand over says so when the message is sent', static function () use ($of, $setup): void {
        $factory = new LockFactory(new SynlockStore("flock:{$setup->folder('files')}"));
        $factory->createLockFromKey($key = new Key('import d'), 600, false)->acquire();
        throws(UnserializableKeyException::class, static fn () => $of('messenger.default_bus')->dispatch(new Import('d', $key)));
        Runtime::endRequest();
    });
    $running->shutdown();

    $t->test('framework::tests', static function () use ($load, $kernel, $of, $app): void {
        $load('.env.test');
        $testing = $kernel('test');
        $invoices = $of(Invoices::class, $testing);
        $test = (string) file_get_contents("{$app}/tests/InvoicesTest.php");
        // PHP leaves assertions out unless php.ini says otherwise.
        same(3, substr_count($test, 'assert('));
        eval('namespace Synlock\Tests; use Synlock; ' . str_replace('assert(', 'same(true, ', substr($test, strlen('<?php'))));
        same(true, $invoices->report(static fn (): bool => Store::open('memory:reports')->isLocked('report')));
        $testing->shutdown();
    });

    $t->test('framework::a worker that is told to stop while it waits for a lock notes it, and stops after the message', static function () use ($setup): void {
        $url = $setup->urls()['shm'];
        $code = <<<'PHP'
            require_once 'Symfony/Component/Messenger/autoload.php';
            require_once 'Symfony/Component/EventDispatcher/autoload.php';
            pcntl_async_signals(true); // as the console does
            $lock = (new \Symfony\Component\Lock\LockFactory(new \Synlock\Symfony\SynlockStore($arguments[0])))->createLock('worker', 60);
            $messages = new class implements \Symfony\Component\Messenger\Transport\Receiver\ReceiverInterface {
                public function get(): iterable { return [new \Symfony\Component\Messenger\Envelope(new \stdClass())]; }
                public function ack(\Symfony\Component\Messenger\Envelope $envelope): void {}
                public function reject(\Symfony\Component\Messenger\Envelope $envelope): void {}
            };
            $handle = static function () use ($lock): void { echo "waits\n"; $lock->acquire(true); echo "works\n"; $lock->release(); };
            $bus = new \Symfony\Component\Messenger\MessageBus([new \Symfony\Component\Messenger\Middleware\HandleMessageMiddleware(
                new \Symfony\Component\Messenger\Handler\HandlersLocator([\stdClass::class => [$handle]]),
            )]);
            $told = new class extends \Psr\Log\AbstractLogger {
                public function log($level, $message, array $context = []): void { echo "told\n"; }
            };
            $dispatcher = new \Symfony\Component\EventDispatcher\EventDispatcher();
            $dispatcher->addSubscriber(new \Symfony\Component\Messenger\EventListener\StopWorkerOnSigtermSignalListener($told));
            (new \Symfony\Component\Messenger\Worker(['all' => $messages], $bus, $dispatcher))->run();
            echo "stopped\n";
            PHP;
        $holder = Store::open($url)->createLock('worker', 60);
        $holder->acquire();
        $process = $setup->process($code, [$url]);
        $process->expect('waits');
        $process->signal(SIGTERM);
        $process->expect('told');
        same(true, $process->isRunning(), 'the message is not done');
        $holder->release();
        $process->expect('works');
        $process->expect('stopped');
        same(0, $process->wait());
    });
};
