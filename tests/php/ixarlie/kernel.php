<?php

// Runs the samples of ixarlie's documentation in Symfony's kernel: kernel.php FOLDER REDIS-SOCKET CONFIG..., and prints
// as JSON what each of them did alone, and beside somebody who held its lock. With `dialect: ixarlie` in the
// configuration that is Symfony's Lock component, on which the original stood.

declare(strict_types=1);

use Ixarlie\Samples;
use Symfony\Bundle\FrameworkBundle\FrameworkBundle;
use Symfony\Bundle\SecurityBundle\SecurityBundle;
use Symfony\Component\Config\Loader\LoaderInterface;
use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\HttpFoundation\Request;
use Symfony\Component\HttpFoundation\Response;
use Symfony\Component\HttpKernel\Event\ExceptionEvent;
use Symfony\Component\HttpKernel\Exception\HttpExceptionInterface;
use Symfony\Component\HttpKernel\Kernel;
use Symfony\Component\Lock\LockFactory;
use Symfony\Component\Lock\Store\FlockStore;
use Symfony\Component\Lock\Store\RedisStore;
use Symfony\Component\Lock\Store\SemaphoreStore;
use Synlock\Guard\Bundle\IXarlieMutexBundle;
use Synlock\Guard\Held;

foreach (['Bundle/FrameworkBundle', 'Bundle/SecurityBundle', 'Component/Yaml', 'Component/Lock'] as $part) {
    require_once "Symfony/{$part}/autoload.php";
}
require_once 'Doctrine/Common/Annotations/autoload.php';
require_once getenv('SYNLOCK_PACKAGE') . '/autoload.php';
require_once __DIR__ . '/samples/Samples.php';
preg_match('/^```php\n(.+?)^```$/ms', (string) file_get_contents(getenv('SYNLOCK_PACKAGE') . '/coming-from-ixarlie.md'), $guide);
eval($guide[1]);
[, $folder, $socket] = $argv;

/** What an application has: its answers to exceptions. */
final class Errors
{
    public function __invoke(ExceptionEvent $event): void
    {
        $error = $event->getThrowable();
        $event->setResponse($error instanceof HttpExceptionInterface
            ? new Response($error->getMessage(), $error->getStatusCode())
            : new Response($error::class . ': ' . $error->getMessage(), 500));
    }
}

final class SampleKernel extends Kernel
{
    /** @param list<string> $configs */
    public function __construct(private readonly string $folder, private readonly string $socket, private readonly array $configs)
    {
        parent::__construct('prod', false);
    }

    public function registerBundles(): iterable
    {
        return [new FrameworkBundle(), new SecurityBundle(), new IXarlieMutexBundle()];
    }

    public function getProjectDir(): string
    {
        return $this->folder;
    }

    public function registerContainerConfiguration(LoaderInterface $loader): void
    {
        $loader->load(function (ContainerBuilder $container): void {
            $routes = "guide:\n    path: /orders/{id}\n    controller: App\\Controller\\OrderController::pay\n";
            foreach ((new ReflectionClass(Samples::class))->getMethods(ReflectionMethod::IS_PUBLIC) as $method) {
                if (!$method->isConstructor()) {
                    $routes .= "{$method->name}:\n    path: /{$method->name}/{id}\n    controller: Ixarlie\\Samples::{$method->name}\n";
                }
            }
            file_put_contents($file = "{$this->folder}/routes.yaml", $routes);
            $container->loadFromExtension('framework', ['secret' => 'x', 'http_method_override' => false, 'router' => ['resource' => $file, 'utf8' => true], 'php_errors' => ['log' => false]]);
            $container->loadFromExtension('security', [
                'enable_authenticator_manager' => true,
                'password_hashers' => ['Symfony\Component\Security\Core\User\InMemoryUser' => 'plaintext'],
                'providers' => ['people' => ['memory' => ['users' => ['bob' => ['password' => 'x'], 'eve' => ['password' => 'x']]]]],
                'firewalls' => ['main' => ['http_basic' => null, 'stateless' => true]],
            ]);
            $container->register('redis_client', Redis::class)->setPublic(true)->addMethodCall('connect', [$this->socket]);
            $container->register('monolog.logger', Psr\Log\NullLogger::class);
            $container->register(Samples::class, Samples::class)->setSynthetic(true)->setPublic(true);
            $container->register('App\Controller\OrderController')->setPublic(true);
            $container->register(Errors::class, Errors::class)->addTag('kernel.event_listener', ['event' => 'kernel.exception', 'method' => '__invoke']);
        });
        foreach ($this->configs as $config) {
            $loader->load($config);
        }
    }
}

$kernel = new SampleKernel($folder, $socket, array_slice($argv, 3));
$kernel->boot();
$container = $kernel->getContainer();
$redis = $container->get('redis_client');
$isOld = (bool) array_filter(array_slice($argv, 3), static fn (string $file): bool => str_contains((string) file_get_contents($file), 'dialect: ixarlie'));
$others = $isOld ? new LockFactory(new RedisStore($redis)) : $container->get('ixarlie_mutex.default_factory');
$seen = [];
$container->set(Samples::class, new Samples(static function (Request $request) use (&$seen, $others, $redis): void {
    $held = $request->attributes->get(Held::class)->all()[0];
    $other = $others->createLock($held->name, 60);
    $seen = ['name' => $held->name, 'other gets in' => $other->acquire(), 'ttl' => $redis->pTtl($held->name)];
    $other->release();
}));
$ask = static function (string $path, ?string $user = null) use ($kernel, &$seen): array {
    $seen = [];
    $request = Request::create($path, server: $user === null ? [] : ['PHP_AUTH_USER' => $user, 'PHP_AUTH_PW' => 'x']);
    $response = $kernel->handle($request);
    $text = (string) $response->getContent();
    $kernel->terminate($request, $response);

    return [$response->getStatusCode(), $text, $seen];
};

$found = [];
foreach (['block', 'resource', 'check', 'queue', 'force', 'queued', 'queuedDefault', 'fullName', 'shortName', 'noName', 'user'] as $sample) {
    [$status, $text, $inside] = $ask("/{$sample}/17", 'bob');
    $found[$sample] = ['alone' => [$status, $text], ...$inside];
    // Whoever waits gets it when this lease is over.
    $holder = $others->createLock($inside['name'] ?? 'none', str_starts_with($sample, 'queue') ? 0.3 : 600, false);
    $found[$sample]['free again'] = $holder->acquire();
    $found[$sample]['held'] = array_slice($ask("/{$sample}/17", 'bob'), 0, 2);
    $found[$sample]['another'] = $ask("/{$sample}/18", 'eve')[0];
    $found[$sample]['still theirs'] = $holder->isAcquired();
    $holder->isAcquired() && $holder->release();
}
$found['nobody'] = array_slice($ask('/user/17'), 0, 2);
$found['guide'] = array_slice($ask('/orders/17', 'bob'), 0, 2);
$found['factory'] = $container->get('ixarlie_mutex.default_factory')->createLock('factory', 60)->acquire();
if ($isOld) {
    foreach (['flock.files' => new FlockStore("{$folder}/locks"), 'semaphore.main' => new SemaphoreStore()] as $service => $store) {
        $ours = $container->get('ixarlie_mutex.' . str_replace('.', '_factory.', $service))->createLock("{$folder}/both");
        $theirs = (new LockFactory($store))->createLock("{$folder}/both");
        $beside = [$ours->acquire(), $theirs->acquire()];
        $ours->release();
        $found['beside'][$service] = [...$beside, $theirs->acquire(), $ours->acquire()];
        $theirs->release();
    }
}
file_put_contents("{$folder}/found.json", json_encode($found, JSON_THROW_ON_ERROR));
