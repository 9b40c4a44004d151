<?php

// The application of guarded.php in Symfony's kernel with the bundle: the query's policies are attributes of its controller
// (annotations with `as=annotation`). Called from the command line it only compiles the container.

declare(strict_types=1);

use Symfony\Bundle\FrameworkBundle\FrameworkBundle;
use Symfony\Bundle\SecurityBundle\SecurityBundle;
use Symfony\Bundle\TwigBundle\TwigBundle;
use Symfony\Bundle\WebProfilerBundle\WebProfilerBundle;
use Symfony\Component\Config\Loader\LoaderInterface;
use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\HttpFoundation\Request;
use Symfony\Component\HttpKernel\Event\ExceptionEvent;
use Symfony\Component\HttpKernel\Exception\HttpExceptionInterface;
use Symfony\Component\HttpKernel\Kernel;
use Synlock\Guard\Bundle\IXarlieMutexBundle;

foreach (['Symfony/Bundle/FrameworkBundle', 'Symfony/Bundle/SecurityBundle', 'Symfony/Bundle/TwigBundle', 'Symfony/Bundle/WebProfilerBundle', 'Symfony/Component/Yaml', 'Symfony/Component/Stopwatch', 'Doctrine/Common/Annotations'] as $part) {
    require_once "{$part}/autoload.php";
}
require_once getenv('SYNLOCK_PACKAGE') . '/autoload.php';
require_once __DIR__ . '/guarded-controller.php';

/** What an application has: its answers to exceptions. */
final class Errors
{
    public function __invoke(ExceptionEvent $event): void
    {
        $error = $event->getThrowable();
        $response = $error instanceof HttpExceptionInterface
            ? plain($error->getMessage(), $error->getStatusCode())
            : plain($error::class . ': ' . $error->getMessage(), 500);
        $response->headers->add($error instanceof HttpExceptionInterface ? $error->getHeaders() : []);
        $event->setResponse($response);
    }
}

final class GuardedKernel extends Kernel
{
    public function registerBundles(): iterable
    {
        $security = $this->environment === 'nobody' ? [] : [new SecurityBundle()];

        return [new FrameworkBundle(), ...$security, new TwigBundle(), new WebProfilerBundle(), new IXarlieMutexBundle()];
    }

    public function getProjectDir(): string
    {
        return getenv('GUARD_PLACE') . '/symfony';
    }

    public function registerContainerConfiguration(LoaderInterface $loader): void
    {
        $loader->load(function (ContainerBuilder $container): void {
            file_put_contents($routes = getenv('GUARD_PLACE') . '/routes.yaml', "wdt:\n    resource: '@WebProfilerBundle/Resources/config/routing/wdt.xml'\n    prefix: /_wdt\nprofiler:\n    resource: '@WebProfilerBundle/Resources/config/routing/profiler.xml'\n    prefix: /_profiler\norder:\n    path: /orders/{id}\n    controller: Guarded::run\ninvoked:\n    path: /invoked/{id}\n    controller: Guarded\nany:\n    path: /{any}\n    controller: Guarded::run\n");
            $container->loadFromExtension('framework', [
                'secret' => 'x', 'http_method_override' => false, 'router' => ['resource' => $routes, 'utf8' => true],
                'session' => ['storage_factory_id' => 'session.storage.factory.native', 'save_path' => (string) getenv('GUARD_PLACE')],
                'profiler' => ['collect' => true, 'only_exceptions' => false],
                'php_errors' => ['log' => false],
                'annotations' => ['cache' => 'none'], // the controller is another one with each request
            ]);
            $this->environment === 'nobody' || $container->loadFromExtension('security', [
                'enable_authenticator_manager' => true,
                'password_hashers' => ['Symfony\Component\Security\Core\User\InMemoryUser' => 'plaintext'],
                'providers' => ['people' => ['memory' => ['users' => ['bob' => ['password' => 'x'], 'eve' => ['password' => 'x']]]]],
                'firewalls' => ['main' => ['http_basic' => null, 'stateless' => true]],
            ]);
            $container->loadFromExtension('i_xarlie_mutex', [
                'default' => 'synlock.main',
                'synlock' => ['main' => ['url' => (string) getenv('GUARD_URL')], 'queued' => ['url' => (string) getenv('GUARD_URL'), 'blocking' => ['retry_sleep' => 1, 'retry_count' => 50]]],
                'flock' => ['files' => ['lock_dir' => '%kernel.cache_dir%/locks']],
            ]);
            $container->register(Errors::class, Errors::class)->addTag('kernel.event_listener', ['event' => 'kernel.exception', 'method' => '__invoke']);
        });
    }
}

// Only where it debugs it has a timeline.
$kernel = new GuardedKernel(isset($_SERVER['HTTP_X_NO_USERS']) ? 'nobody' : 'prod', isset($_SERVER['HTTP_X_DEBUG']));
if (PHP_SAPI === 'cli') {
    $kernel->boot();
    (new GuardedKernel('nobody', false))->boot();

    return;
}
if (isset($_SERVER['HTTP_X_USER'])) {
    [$_SERVER['PHP_AUTH_USER'], $_SERVER['PHP_AUTH_PW']] = [$_SERVER['HTTP_X_USER'], 'x'];
}
if (isset($_SERVER['HTTP_X_SESSION'])) {
    $_COOKIE['PHPSESSID'] = $id = md5($_SERVER['HTTP_X_SESSION']);
    // One that is known already.
    file_exists($file = getenv('GUARD_PLACE') . "/sess_{$id}") || file_put_contents($file, 'known|b:1;');
}
declareAsked();
$request = Request::createFromGlobals();
$response = $kernel->handle($request);
$response->send();
if (isset($_GET['linger'])) {
    waitForGo();
}
$kernel->terminate($request, $response);
