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
use Symfony\Component\HttpFoundation\BinaryFileResponse;
use Symfony\Component\HttpFoundation\Request;
use Symfony\Component\HttpFoundation\Response;
use Symfony\Component\HttpFoundation\StreamedResponse;
use Symfony\Component\HttpKernel\Event\ExceptionEvent;
use Symfony\Component\HttpKernel\Exception\HttpExceptionInterface;
use Symfony\Component\HttpKernel\Kernel;
use Synlock\Exception\LockLost;
use Synlock\Guard\Bundle\IXarlieMutexBundle;
use Synlock\Guard\Held;

foreach (['Symfony/Bundle/FrameworkBundle', 'Symfony/Bundle/SecurityBundle', 'Symfony/Bundle/TwigBundle', 'Symfony/Bundle/WebProfilerBundle', 'Symfony/Component/Yaml', 'Symfony/Component/Stopwatch', 'Doctrine/Common/Annotations'] as $part) {
    require_once "{$part}/autoload.php";
}
require_once getenv('SYNLOCK_PACKAGE') . '/autoload.php';

/** A controller with these policies, written as a program would have them. */
function declareController(array $policies, bool $annotations): void
{
    $text = static function (mixed $value) use ($annotations, &$text): string {
        if (!is_array($value)) {
            return $annotations ? json_encode($value) : var_export($value, true);
        }
        $parts = [];
        foreach ($value as $key => $one) {
            $parts[] = ($annotations ? "\"{$key}\"=" : "'{$key}' => ") . $text($one);
        }

        return $annotations ? '{' . implode(', ', $parts) . '}' : '[' . implode(', ', $parts) . ']';
    };
    $lines = '';
    foreach ($policies as $policy) {
        $arguments = [];
        foreach ($policy as $name => $value) {
            $arguments[] = $name . ($annotations ? '=' : ': ') . $text($value);
        }
        $arguments = implode(', ', $arguments);
        $lines .= $annotations ? " * @MutexRequest({$arguments})\n" : "#[MutexRequest({$arguments})]\n";
    }
    $lines = $annotations ? "/**\n{$lines} */" : $lines;
    $file = getenv('GUARD_PLACE') . '/' . md5($lines) . '.php';
    // A reader of annotations wants the file, for its imports.
    file_put_contents($own = "{$file}." . getmypid(), "<?php\nuse Synlock\\Guard\\MutexRequest;\nclass Guarded\n{\n    use Answers;\n\n{$lines}\npublic function run(\\Symfony\\Component\\HttpFoundation\\Request \$request) { return \$this->answer(\$request); }\n}\n");
    rename($own, $file);
    require $file;
}

trait Answers
{
    private function answer(Request $request): Response
    {
        $place = (string) getenv('GUARD_PLACE');
        file_put_contents("{$place}/inside-" . $request->query->get('id', ''), (string) getmypid());
        $held = $request->attributes->get(Held::class);
        $lock = $held?->all()[0]->lock ?? null;
        $text = $held?->all()[0]->name ?? '';
        switch ($request->query->get('do', 'answer')) {
            case 'wait':
                waitForGo();
                try {
                    $lock?->ensureHeld();
                } catch (LockLost $lost) {
                    return plain($lost->getMessage(), 409);
                }
                break;
            case 'alone':
                $alone = fopen("{$place}/alone", 'x'); // fails if it is there
                usleep(5000);
                fclose($alone);
                unlink("{$place}/alone");
                file_put_contents("{$place}/order", $request->query->get('id') . "\n", FILE_APPEND);
                break;
            case 'throw':
                throw new DomainException('broken');
            case 'stream': // its size is not known
                return new StreamedResponse(static fn () => print 'streamed');
            case 'sized':
                return new StreamedResponse(static function (): void {
                    echo 'sized ';
                    echo 'body';
                    flush();
                    waitForGo();
                }, 200, ['Content-Length' => '10']);
            case 'file':
                file_put_contents($file = "{$place}/file", str_repeat('x', 100_000));

                return new BinaryFileResponse($file);
            case 'drip': // never ends
                return new StreamedResponse(static function (): void {
                    for (; ; flush()) {
                        echo str_repeat('y', 4096);
                    }
                });
            case 'empty':
                return new Response('', 204);
            case 'profile':
                return new Response("<html><body>{$text}</body></html>");
        }

        return plain($text);
    }
}

function plain(string $text, int $status = 200): Response
{
    return new Response($text, $status, ['Content-Length' => (string) strlen($text), 'Content-Type' => 'text/plain']);
}

function waitForGo(): void
{
    $file = getenv('GUARD_PLACE') . '/go-' . ($_GET['id'] ?? '');
    for ($end = microtime(true) + 60; !file_exists($file); clearstatcache()) {
        microtime(true) < $end || throw new RuntimeException('nobody said go');
        usleep(2000);
    }
}

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
        return [new FrameworkBundle(), new SecurityBundle(), new TwigBundle(), new WebProfilerBundle(), new IXarlieMutexBundle()];
    }

    public function getProjectDir(): string
    {
        return getenv('GUARD_PLACE') . '/symfony';
    }

    public function registerContainerConfiguration(LoaderInterface $loader): void
    {
        $loader->load(static function (ContainerBuilder $container): void {
            file_put_contents($routes = getenv('GUARD_PLACE') . '/routes.yaml', "profiler:\n    resource: '@WebProfilerBundle/Resources/config/routing/profiler.xml'\n    prefix: /_profiler\norder:\n    path: /orders/{id}\n    controller: Guarded::run\nany:\n    path: /{any}\n    controller: Guarded::run\n");
            $container->loadFromExtension('framework', [
                'secret' => 'x', 'http_method_override' => false, 'router' => ['resource' => $routes, 'utf8' => true],
                'session' => ['storage_factory_id' => 'session.storage.factory.native', 'save_path' => (string) getenv('GUARD_PLACE')],
                'profiler' => ['collect' => true, 'only_exceptions' => false],
                'php_errors' => ['log' => false],
                'annotations' => ['cache' => 'none'], // the controller is another one with each request
            ]);
            $container->loadFromExtension('security', [
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

$kernel = new GuardedKernel('prod', false);
if (PHP_SAPI === 'cli') {
    $kernel->boot();

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
$given = json_decode($_GET['policy'] ?? '[{}]', true, 8, JSON_THROW_ON_ERROR);
declareController(array_is_list($given) ? $given : [$given], ($_GET['as'] ?? '') === 'annotation' || isset($_SERVER['HTTP_X_ANNOTATIONS']));
$request = Request::createFromGlobals();
$response = $kernel->handle($request);
$response->send();
if (isset($_GET['linger'])) {
    waitForGo();
}
$kernel->terminate($request, $response);
