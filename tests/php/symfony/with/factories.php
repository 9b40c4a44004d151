<?php

// ixarlie's configuration of 2.1, `factories`: the framework's own, over Symfony's stores, and ours. With `dialect:
// ixarlie2` the names are those of 2.1, so that its processes, who take them by the same factories, are excluded.

declare(strict_types=1);

namespace Synlock\Tests;

use Symfony\Bundle\FrameworkBundle\FrameworkBundle;
use Symfony\Component\Config\Loader\LoaderInterface;
use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\DependencyInjection\Reference;
use Symfony\Component\HttpFoundation\Request;
use Symfony\Component\HttpFoundation\Response;
use Symfony\Component\HttpKernel\HttpKernelInterface;
use Symfony\Component\HttpKernel\Kernel;
use Symfony\Component\Lock\LockFactory;
use Symfony\Component\Lock\Store\InMemoryStore;
use Synlock\Guard\Bundle\IXarlieMutexBundle;
use Synlock\Guard\Held;
use Synlock\Guard\MutexException;
use Synlock\Guard\MutexRequest;
use Synlock\Symfony\SynlockStore;

/** As 2.1 wants them: `service` and `strategy` are required. */
final class Orders21
{
    /** @var \Closure(Request): void */
    public static \Closure $inside;

    #[MutexRequest(service: 'lock.default.factory', strategy: 'block')]
    public function redis(Request $request): Response
    {
        return self::answer($request);
    }

    #[MutexRequest(service: 'lock.files.factory', strategy: 'block', ttl: 5.0, message: 'Not now.')]
    public function flock(Request $request): Response
    {
        return self::answer($request);
    }

    #[MutexRequest(service: 'lock.items.factory', strategy: 'block')]
    public function memcached(Request $request): Response
    {
        return self::answer($request);
    }

    #[MutexRequest(service: 'lock.rows.factory', strategy: 'block')]
    public function table(Request $request): Response
    {
        return self::answer($request);
    }

    #[MutexRequest(service: 'lock.numbers.factory', strategy: 'block')]
    public function semaphore(Request $request): Response
    {
        return self::answer($request);
    }

    #[MutexRequest(service: 'lock.both.factory', strategy: 'block')]
    public function combined(Request $request): Response
    {
        return self::answer($request);
    }

    #[MutexRequest(service: 'lock.shm.factory', strategy: 'queue', maxWait: 0.05)]
    public function queue(Request $request): Response
    {
        return self::answer($request);
    }

    #[MutexRequest(service: 'ours', strategy: 'force', name: 'order_{id}')]
    public function force(Request $request): Response
    {
        return self::answer($request);
    }

    #[MutexRequest(strategy: 'block', name: 'by default')]
    public function byDefault(Request $request): Response
    {
        return self::answer($request);
    }

    private static function answer(Request $request): Response
    {
        (self::$inside)($request);

        return new Response('done');
    }
}

return static function (Runner $t, Setup $setup): void {
    foreach (['Bundle/FrameworkBundle', 'Component/Yaml'] as $part) {
        require_once "Symfony/{$part}/autoload.php";
    }
    $kernel = static function (array $mutex, string $name) use ($setup): Kernel {
        $kernel = new class ($setup, $mutex, $name) extends Kernel {
            public function __construct(private readonly Setup $setup, private readonly array $mutex, string $name)
            {
                parent::__construct($name, false);
            }

            public function registerBundles(): iterable
            {
                return [new FrameworkBundle(), new IXarlieMutexBundle()];
            }

            public function getProjectDir(): string
            {
                return $this->setup->folder('factories');
            }

            public function registerContainerConfiguration(LoaderInterface $loader): void
            {
                $loader->load(function (ContainerBuilder $container): void {
                    $routes = '';
                    foreach (get_class_methods(Orders21::class) as $method) {
                        $routes .= "{$method}:\n    path: /{$method}/{id}\n    controller: Synlock\\Tests\\Orders21::{$method}\n";
                    }
                    file_put_contents("{$this->getProjectDir()}/routes.yaml", $routes);
                    $at = fn (string $server): string => "127.0.0.1:{$this->setup->ports[$server]}";
                    $container->loadFromExtension('framework', [
                        'secret' => 'x', 'http_method_override' => false, 'php_errors' => ['log' => false],
                        'router' => ['resource' => "{$this->getProjectDir()}/routes.yaml", 'utf8' => true],
                        'lock' => [
                            'default' => "redis://{$at('redis')}",
                            'files' => "flock://{$this->setup->folder('locks')}",
                            'items' => "memcached://{$at('memcached')}",
                            'rows' => "sqlite:{$this->setup->folder('rows')}/locks.db",
                            'numbers' => 'semaphore',
                            'both' => ["flock://{$this->setup->folder('both')}", "sqlite:{$this->setup->folder('both')}/locks.db"],
                            'shm' => 'flock',
                        ],
                    ]);
                    $container->register('store.shm', SynlockStore::class)->setArguments(["shm:{$this->setup->folder('shm')}/segment"]);
                    $container->register('lock.shm.factory', LockFactory::class)->setArguments([new Reference('store.shm')]);
                    $container->register('ours', \Synlock\Symfony\LockFactory::class)->setPublic(true)->setArguments([new Reference('store.shm')]);
                    $container->register('unknown', LockFactory::class)->setPublic(true)->setArguments([new Reference('store.memory')]);
                    $container->register('store.memory', InMemoryStore::class);
                    foreach (['default', 'files', 'items', 'rows', 'numbers', 'both', 'shm'] as $lock) {
                        $container->setAlias("test {$lock}", "lock.{$lock}.factory")->setPublic(true);
                    }
                    $container->register(Orders21::class, Orders21::class)->setPublic(true);
                    $container->loadFromExtension('i_xarlie_mutex', $this->mutex);
                });
            }
        };
        $kernel->boot();

        return $kernel;
    };
    $factories = [...array_map(static fn (string $lock): string => "lock.{$lock}.factory", ['default', 'files', 'items', 'rows', 'numbers', 'both', 'shm']), 'ours'];
    $ask = static function (Kernel $kernel, string $path): Response|\Throwable {
        $request = Request::create($path);
        try {
            $response = $kernel->handle($request, HttpKernelInterface::MAIN_REQUEST, false);
            $kernel->terminate($request, $response);

            return $response;
        } catch (\Throwable $thrown) {
            return $thrown;
        }
    };
    $refused = static fn (Response|\Throwable $thrown): array => [$thrown::class, $thrown instanceof MutexException ? [$thrown->getStatusCode(), $thrown->getMessage()] : $thrown->getMessage()];
    $guarded = null;
    $t->test('factories::the tree of 2.1', static function () use (&$guarded, $kernel, $factories): void {
        $guarded = $kernel(['factories' => $factories, 'dialect' => 'ixarlie2'], 'old');
        $guards = $guarded->getContainer()->get('ixarlie_mutex.guards');
        same([$factories, 'lock.default.factory'], [$guards->names(), $guards->find()]);
    });
    if ($guarded === null) {
        return;
    }
    foreach (['redis' => 'default', 'flock' => 'files', 'memcached' => 'items', 'table' => 'rows', 'semaphore' => 'numbers', 'combined' => 'both'] as $path => $lock) {
        $t->test("factories::{$path}: who takes the lock by the framework's factory is excluded, and excludes", static function () use ($guarded, $ask, $refused, $path, $lock): void {
            // The name of 2.1, and the component's own stores.
            $theirs = $guarded->getContainer()->get("test {$lock}")->createLock("Synlock_Tests_Orders21__{$path}_{$path}_17", 60);
            $inside = null;
            Orders21::$inside = static function (Request $request) use ($theirs, &$inside): void {
                $inside = [$request->attributes->get(Held::class)->all()[0]->name, $theirs->acquire()];
            };
            same('done', $ask($guarded, "/{$path}/17")->getContent());
            same(["Synlock_Tests_Orders21__{$path}_{$path}_17", false], $inside);
            same(true, $theirs->acquire());
            $message = $path === 'flock' ? 'Not now.' : MutexRequest::DEFAULT_MESSAGE;
            same([MutexException::class, [423, $message]], $refused($ask($guarded, "/{$path}/17")));
            same('done', $ask($guarded, "/{$path}/18")->getContent());
            $theirs->release();
            same('done', $ask($guarded, "/{$path}/17")->getContent());
        });
    }
    $t->test('factories::stores of synlock, theirs and ours; queue and force', static function () use ($guarded, $ask, $refused): void {
        $factory = $guarded->getContainer()->get('ours');
        $names = [];
        Orders21::$inside = static function (Request $request) use (&$names): void {
            $names[] = $request->attributes->get(Held::class)->all()[0]->name;
        };
        $holder = $factory->createLock('Synlock_Tests_Orders21__queue_queue_1', 60);
        same(true, $holder->acquire());
        same([MutexException::class, [423, MutexRequest::DEFAULT_MESSAGE]], $refused($ask($guarded, '/queue/1')));
        $holder->release();
        same('done', $ask($guarded, '/queue/1')->getContent());
        // 2.1 puts nothing in the place of {id}.
        $victim = $factory->createLock('order_{id}', 60);
        same(true, $victim->acquire());
        same('done', $ask($guarded, '/force/1')->getContent());
        same([false, ['Synlock_Tests_Orders21__queue_queue_1', 'order_{id}']], [$victim->isAcquired(), $names]);
    });
    $t->test('factories::the first is the default, or the one that is said', static function () use ($guarded, $kernel, $ask, $refused, $factories): void {
        Orders21::$inside = static fn () => null;
        $theirs = $guarded->getContainer()->get('ixarlie_mutex.default_factory')->createLock('by default', 60);
        same(true, $theirs->acquire());
        same(MutexException::class, $refused($ask($guarded, '/byDefault/1'))[0]);
        $said = $kernel(['factories' => $factories, 'default' => 'ours'], 'said');
        same('done', $ask($said, '/byDefault/1')->getContent());
        same($said->getContainer()->get('ours'), $said->getContainer()->get('ixarlie_mutex.default_factory'));
        $theirs->release();
        $beside = $kernel(['factories' => ['ours'], 'default' => 'synlock.main', 'synlock' => ['main' => ['url' => 'memory:']]], 'beside');
        same('synlock.main', $beside->getContainer()->get('ixarlie_mutex.guards')->find());
    });
    $t->test('factories::the guide', static function () use ($setup, $kernel, $ask): void {
        preg_match_all('/^```yaml\n(.+?)^```$/ms', (string) file_get_contents("{$setup->package}/coming-from-ixarlie.md"), $blocks);
        $config = \Symfony\Component\Yaml\Yaml::parse($blocks[1][2]);
        same('redis://localhost', $config['framework']['lock']);
        same(['lock.default.factory'], $config['i_xarlie_mutex']['factories']);
        Orders21::$inside = static fn () => null;
        same('done', $ask($kernel($config['i_xarlie_mutex'], 'guide'), '/redis/1')->getContent());
    });
    $t->test('factories::a store of which nothing can be read is called', static function () use ($kernel, $ask, $refused): void {
        $called = $kernel(['factories' => ['unknown']], 'unknown');
        $theirs = $called->getContainer()->get('unknown')->createLock('by default', 60);
        Orders21::$inside = static fn () => same(false, $theirs->acquire());
        same('done', $ask($called, '/byDefault/1')->getContent());
        same(true, $theirs->acquire());
        same(MutexException::class, $refused($ask($called, '/byDefault/1'))[0]);
        $enter = static fn (array $policy) => $called->getContainer()->get('ixarlie_mutex.guards')->enter(new MutexRequest(...$policy, name: 'by default'), new \Synlock\Guard\Request('r', '/'));
        throws(MutexException::class, static fn () => $enter(['mode' => 'queue', 'maxWait' => 0.06]));
        foreach (['check', 'force'] as $mode) {
            throws(\Synlock\Exception\Unsupported::class, static fn () => $enter(['mode' => $mode]));
        }
        same(true, $theirs->isAcquired());
        $theirs->release();
        $held = $enter(['mode' => 'queue', 'ttl' => 20.0])->lock;
        $held->refresh(40.0);
        same([false, true], [$theirs->acquire(), $held->isAcquired()]);
        $held->release();
        same(true, $theirs->acquire());
    });
    $t->test('factories::what is no store is refused in words', static function () use ($kernel, $ask): void {
        $thrown = $ask($kernel(['factories' => [Orders21::class]], 'wrong'), '/byDefault/1');
        ok(str_contains($thrown->getMessage(), 'Orders21 is no store'), $thrown->getMessage());
        $error = throws(\Symfony\Component\Config\Definition\Exception\InvalidConfigurationException::class, static fn () => $kernel([], 'none'));
        ok(str_contains($error->getMessage(), 'factories'), $error->getMessage());
    });
};
