<?php

// What the listeners of the bundle do with a request, by their configuration: bundle-listeners.php FOLDER, prints as JSON.

declare(strict_types=1);

use Symfony\Bundle\FrameworkBundle\FrameworkBundle;
use Symfony\Component\Config\Loader\LoaderInterface;
use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\HttpFoundation\Request;
use Symfony\Component\HttpFoundation\Response;
use Symfony\Component\HttpKernel\Event\ControllerEvent;
use Symfony\Component\HttpKernel\Exception\HttpException;
use Symfony\Component\HttpKernel\HttpKernelInterface;
use Symfony\Component\HttpKernel\Kernel;
use Symfony\Component\Security\Core\Authentication\Token\Storage\TokenStorage;
use Symfony\Component\Security\Core\Authentication\Token\UsernamePasswordToken;
use Symfony\Component\Security\Core\User\InMemoryUser;
use Synlock\Guard\Bundle\EventListener;
use Synlock\Guard\Bundle\IXarlieMutexBundle;
use Synlock\Guard\Guards;
use Synlock\Guard\MutexRequest;
use Synlock\Runtime;
use Synlock\Store;

foreach (['Bundle/FrameworkBundle', 'Component/Yaml', 'Component/Translation', 'Component/Security/Core'] as $part) {
    require_once "Symfony/{$part}/autoload.php";
}
require_once getenv('SYNLOCK_PACKAGE') . '/autoload.php';
[, $folder] = $argv;

final class Lines extends Psr\Log\AbstractLogger
{
    public static array $events = [];

    public function log($level, $message, array $context = []): void
    {
        if (isset($context['event'])) {
            self::$events[] = [$context['event'], $context['resource']];
        }
    }
}

final class Controllers
{
    public static ?Closure $do = null;

    #[MutexRequest(name: 'here')]
    public function here(Request $request): Response
    {
        return (self::$do)($request);
    }

    #[MutexRequest(name: 'here', http: ['domain' => 'locks'])]
    public function translated(): Response
    {
        return new Response('in');
    }

    #[MutexRequest(name: 'here', http: ['message' => 'Not now.', 'code' => 409])]
    public function plain(): Response
    {
        return new Response('in');
    }

    #[MutexRequest(name: 'sub')]
    public function sub(): Response
    {
        return new Response('sub');
    }
}

final class ListenerKernel extends Kernel
{
    public function __construct(private readonly string $folder, private readonly array $listener)
    {
        parent::__construct('k' . md5(serialize($listener)), false);
    }

    public function registerBundles(): iterable
    {
        return [new FrameworkBundle(), new IXarlieMutexBundle()];
    }

    public function getProjectDir(): string
    {
        return $this->folder;
    }

    public function registerContainerConfiguration(LoaderInterface $loader): void
    {
        $loader->load(function (ContainerBuilder $container): void {
            $routes = '';
            foreach (['here', 'translated', 'plain', 'sub'] as $name) {
                $routes .= "{$name}:\n    path: /{$name}\n    controller: Controllers::{$name}\n";
            }
            file_put_contents("{$this->folder}/routes.yaml", $routes);
            is_dir("{$this->folder}/translations") || mkdir("{$this->folder}/translations");
            file_put_contents("{$this->folder}/translations/locks.de.yaml", "'Resource is not available at this moment.': Gerade besetzt.\n");
            $container->loadFromExtension('framework', [
                'secret' => 'x', 'http_method_override' => false, 'router' => ['resource' => "{$this->folder}/routes.yaml", 'utf8' => true],
                'php_errors' => ['log' => false], 'default_locale' => 'de',
                'translator' => ['default_path' => "{$this->folder}/translations"],
            ]);
            $container->loadFromExtension('i_xarlie_mutex', [
                'default' => 'synlock.main',
                'synlock' => ['main' => ['url' => 'memory:listeners', 'logger' => Lines::class]],
                'request_listener' => $this->listener,
            ]);
            $container->register(Lines::class, Lines::class);
            $container->register(Controllers::class, Controllers::class)->setPublic(true);
        });
    }
}

$store = Store::open('memory:listeners');
$isHeld = static fn (): bool => $store->isLocked('here');
$kernel = static function (array $listener) use ($folder): Kernel {
    $kernel = new ListenerKernel($folder, $listener);
    $kernel->boot();

    return $kernel;
};
$ask = static function (Kernel $kernel, string $path, bool $ends = true): array {
    $response = $kernel->handle($request = Request::create($path), HttpKernelInterface::MAIN_REQUEST, true);
    $ends && $kernel->terminate($request, $response);

    return [$response->getStatusCode(), $request, $response];
};
$found = [];

// Which listener comes when.
$plain = $kernel([]);
$order = static function (Kernel $kernel): array {
    $order = [];
    $dispatcher = $kernel->getContainer()->get('event_dispatcher');
    foreach (['kernel.controller', 'kernel.exception', 'kernel.response', 'kernel.finish_request', 'kernel.terminate'] as $event) {
        foreach ($dispatcher->getListeners($event) as $listener) {
            if (is_array($listener) && str_starts_with($listener[0]::class, 'Synlock\\')) {
                $order[$event][] = [substr(strrchr($listener[0]::class, '\\'), 1), $dispatcher->getListenerPriority($event, $listener)];
            }
        }
    }

    return $order;
};
$found['order'] = $order($plain);
$found['other order'] = $order($kernel(['priority' => 7, 'autorelease' => false]));
$found['disabled'] = $order($disabled = $kernel(['enabled' => false]));

// When it lets go.
Controllers::$do = static function () use (&$found, $isHeld): Response {
    $found['inside'] = $isHeld();

    return new Response('done');
};
foreach (['response' => [], 'terminate' => ['release' => 'terminate'], 'never' => ['autorelease' => false]] as $when => $listener) {
    $guarded = $kernel($listener);
    [, $request, $response] = $ask($guarded, '/here', false);
    $found[$when] = [$isHeld()];
    $guarded->terminate($request, $response);
    $found[$when][] = $isHeld();
    unset($guarded, $request, $response);
    Runtime::endRequest();
    $found[$when][] = $isHeld();
}

// An exception that nobody answers leaves only by the end of the request.
Controllers::$do = static fn (): Response => throw new LogicException('nobody answers');
foreach (['caught' => [], 'not let go' => ['autorelease' => false]] as $when => $listener) {
    $guarded = $kernel($listener);
    $request = Request::create('/here');
    try {
        $guarded->handle($request, HttpKernelInterface::MAIN_REQUEST, false);
    } catch (LogicException $thrown) {
        $found[$when] = [$thrown->getMessage(), $isHeld()];
    }
    Runtime::endRequest();
}

// Requests inside a request are not guarded, and let nothing go.
Controllers::$do = static function (Request $request) use (&$found, $plain, $isHeld, $store): Response {
    $inner = $plain->handle(Request::create('/sub'), HttpKernelInterface::SUB_REQUEST);
    $found['sub request'] = [$inner->getContent(), $store->isLocked('sub'), $isHeld()];

    return new Response('done');
};
$ask($plain, '/here');
$found['sub request'][] = $isHeld();

// Refusals.
$other = $store->createLock('here', 60);
$other->acquire();
$found['unguarded'] = [$ask($disabled, '/plain')[0], $ask($disabled, '/plain')[2]->getContent()];
$refused = null;
$plain->getContainer()->get('event_dispatcher')->addListener('kernel.exception', static function ($event) use (&$refused): void {
    $refused = $event->getThrowable();
});
foreach (['translated', 'plain'] as $path) {
    [$status] = $ask($plain, "/{$path}");
    $found[$path] = [$status, $refused->getMessage(), $refused instanceof HttpException, isset($refused->getHeaders()['Retry-After'])];
}
$other->release();

// The names of users in the dialects of the original, and what they are made of.
$user = new InMemoryUser('bob', 'secret', ['ROLE_USER']);
$token = new UsernamePasswordToken($user, 'main', ['ROLE_USER']);
$tokens = new TokenStorage();
$tokens->setToken($token);
foreach (['ixarlie', 'ixarlie2'] as $dialect) {
    $guards = new Guards(['main' => 'memory:'], $dialect);
    $request = Request::create('/here');
    $policy = #[MutexRequest(name: 'cart', userIsolation: true)] static fn () => null;
    (new EventListener\MutexDecoratorListener($guards, $dialect, $tokens))->onController(new ControllerEvent($plain, $policy, $request, HttpKernelInterface::MAIN_REQUEST));
    $found['users'][$dialect] = $guards->name(...$request->attributes->get(EventListener\MutexDecoratorListener::POLICIES)[0]);
}
$found['token'] = ['ixarlie' => md5(serialize($token->__serialize())), 'ixarlie2' => md5(serialize($token))];
$found['log'] = array_values(array_unique(Lines::$events, SORT_REGULAR));
echo json_encode($found, JSON_THROW_ON_ERROR);
