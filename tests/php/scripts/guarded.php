<?php

// A web application whose requests are guarded, for PHP's own server. The query says how and what to do:
//   policy=JSON  arguments of MutexRequest, or a list of them
//   do=          answer, wait (until the file `go` is there), throw, stream, drip, alone (nobody else may be inside),
//                memory, time (what PHP limits)
//   linger=1     stay after the last byte, until the file `go` is there
//   id=          of the files `inside-ID` (made when the handler runs) and `go-ID`

declare(strict_types=1);

use Nyholm\Psr7\Factory\Psr17Factory;
use Nyholm\Psr7\ServerRequest;
use Psr\Http\Message\ResponseInterface;
use Psr\Http\Message\ServerRequestInterface;
use Psr\Http\Server\RequestHandlerInterface;
use Synlock\Exception\LockLost;
use Synlock\Guard\Guards;
use Synlock\Guard\Held;
use Synlock\Guard\MutexRequest;
use Synlock\Guard\Psr15\GuardMiddleware;
use Synlock\Guard\Request;
use Synlock\Guard\User;

require_once 'Nyholm/Psr7/autoload.php';
require_once __DIR__ . '/psr15.php';
require_once getenv('SYNLOCK_PACKAGE') . '/autoload.php';

$place = (string) getenv('GUARD_PLACE');
$wait = static function () use ($place): void {
    $file = "{$place}/go-" . ($_GET['id'] ?? '');
    for ($end = microtime(true) + 60; !file_exists($file); clearstatcache()) {
        microtime(true) < $end || throw new RuntimeException('nobody said go');
        usleep(2000);
    }
};

/** A stream that breaks when it is read. */
final class Crumbling
{
    /** @var resource|null */
    public $context;

    public function stream_open(): bool
    {
        return true;
    }

    public function stream_read(): string
    {
        throw new DomainException('crumbled');
    }

    public function stream_eof(): bool
    {
        return false;
    }

    public function stream_seek(): bool
    {
        return false;
    }
}
stream_wrapper_register('crumbling', Crumbling::class);

$handler = new class ($place, $wait) implements RequestHandlerInterface {
    public function __construct(private readonly string $place, private readonly Closure $wait)
    {
    }

    public function handle(ServerRequestInterface $request): ResponseInterface
    {
        $factory = new Psr17Factory();
        file_put_contents("{$this->place}/inside-" . ($_GET['id'] ?? ''), (string) getmypid());
        $held = $request->getAttribute(Held::class);
        $lock = $held->all()[0]->lock ?? null;
        $text = $held->all()[0]->name ?? '';
        switch ($_GET['do'] ?? 'answer') {
            case 'wait':
                ($this->wait)();
                try {
                    $lock?->ensureHeld();
                } catch (LockLost $lost) {
                    return $factory->createResponse(409)->withBody($factory->createStream($lost->getMessage()));
                }
                break;
            case 'alone':
                $alone = fopen("{$this->place}/alone", 'x'); // fails if it is there
                usleep(5000);
                fclose($alone);
                unlink("{$this->place}/alone");
                file_put_contents("{$this->place}/order", ($_GET['id'] ?? '') . "\n", FILE_APPEND);
                break;
            case 'memory':
                ini_set('memory_limit', '64M');
                str_repeat('x', 1 << 30);
                // no break
            case 'time':
                set_time_limit(1);
                for (; ; ) {
                }
                // no break
            case 'throw':
                throw new class ($request) extends DomainException { // as frameworks' own, it keeps the request
                    public function __construct(public readonly ServerRequestInterface $request)
                    {
                        parent::__construct('broken');
                    }
                };
            case 'stream': // its size is not known
                return $factory->createResponse()->withBody($factory->createStreamFromResource(popen('printf streamed', 'r')));
            case 'drip': // never ends
                return $factory->createResponse()->withBody($factory->createStreamFromResource(popen('exec yes', 'r')));
            case 'empty':
                return $factory->createResponse(204);
            case 'unchanged':
                return $factory->createResponse(304)->withBody($factory->createStreamFromResource(popen('printf never', 'r')));
            case 'crumble':
                return $factory->createResponse()->withBody($factory->createStreamFromResource(fopen('crumbling://', 'r')));
        }

        return $factory->createResponse()->withBody($factory->createStream($text));
    }
};

$emit = static function (ResponseInterface $response): void {
    http_response_code($response->getStatusCode());
    foreach ($response->getHeaders() as $name => $values) {
        header("{$name}: {$values[0]}");
    }
    $body = $response->getBody();
    if ($_SERVER['REQUEST_METHOD'] === 'HEAD' || $response->getStatusCode() === 304) {
        flush();

        return;
    }
    if ($body->isSeekable()) {
        header("Content-Length: {$body->getSize()}");
        $body->rewind();
    }
    do {
        echo $body->read(7);
        flush();
    } while (!$body->eof());
};

$given = json_decode($_GET['policy'] ?? '[{}]', true, 8, JSON_THROW_ON_ERROR);
$policies = array_map(static fn (array $one): MutexRequest => new MutexRequest(...$one), array_is_list($given) ? $given : [$given]);
$guards = new Guards(['default' => (string) getenv('GUARD_URL')]);
$describe = static function (ServerRequestInterface $request): Request {
    $simple = GuardMiddleware::describe($request);

    return new Request('demo', $simple->path, ['id' => basename($simple->path)], $simple->user, $_SERVER['HTTP_X_SESSION'] ?? null, $simple->ip);
};
$middleware = new GuardMiddleware($guards, $policies, new Psr17Factory(), $describe, translate: static fn (string $message, string $domain): string => "{$message} ({$domain})");

$request = new ServerRequest($_SERVER['REQUEST_METHOD'], $_SERVER['REQUEST_URI'], [], null, '1.1', $_SERVER);
$name = $_SERVER['HTTP_X_USER'] ?? null;
$request = $request->withAttribute(User::class, $name === null ? User::anonymous() : new User($name, 'main'));
try {
    $response = $middleware->process($request, $handler);
} catch (Throwable $error) {
    $response = (new Psr17Factory())->createResponse(500);
    $response->getBody()->write($error::class . ': ' . $error->getMessage());
}
try {
    $emit($response);
} catch (DomainException) { // of a body
}
$headersAlone = ($_SERVER['REQUEST_METHOD'] === 'HEAD' || in_array($response->getStatusCode(), [204, 304], true)) && PHP_SAPI === 'fpm-fcgi'; // which flush() does not send there
if (($_GET['do'] ?? '') === 'finished' || $headersAlone) {
    fastcgi_finish_request(); // frameworks do that by themselves
}
if (isset($_GET['linger'])) {
    $wait();
}
