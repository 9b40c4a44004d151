<?php

// The application of guarded.php in Laravel, with its middleware: the query's policies are attributes of the controller.
// Called from the command line it only writes what Laravel caches. The guide's service provider is in it.

declare(strict_types=1);

use Illuminate\Auth\GenericUser;
use Illuminate\Contracts\Debug\ExceptionHandler;
use Illuminate\Contracts\Http\Kernel as KernelContract;
use Illuminate\Foundation\Application;
use Illuminate\Foundation\Exceptions\Handler;
use Illuminate\Foundation\Http\Kernel;
use Illuminate\Http\Request;
use Illuminate\Routing\Middleware\SubstituteBindings;
use Illuminate\Session\Middleware\StartSession;
use Illuminate\Support\Facades\Auth;
use Illuminate\Support\Facades\Route;
use Illuminate\Support\ServiceProvider;
use Symfony\Component\HttpKernel\Exception\HttpExceptionInterface;
use Synlock\Guard\Guards;

require_once 'Illuminate/autoload.php';
require_once getenv('SYNLOCK_PACKAGE') . '/autoload.php';
require_once __DIR__ . '/guarded-controller.php';

/** Of the guide "coming from Laravel". */
function declareGuide(): void
{
    preg_match_all('/^```php\n(.+?)^```$/ms', (string) file_get_contents(getenv('SYNLOCK_PACKAGE') . '/coming-from-laravel.md'), $blocks);
    $code = implode(array_filter($blocks[1], static fn (string $block): bool => str_contains($block, 'GuardRequests')));
    eval(strtr($code, ['redis://localhost' => (string) getenv('GUARD_URL')]));
}

/** What an application has: its answers to exceptions. */
final class Errors extends Handler
{
    public function render($request, Throwable $error)
    {
        if (!$error instanceof HttpExceptionInterface) {
            return plain($error::class . ': ' . $error->getMessage(), 500);
        }
        $response = plain($error->getMessage(), $error->getStatusCode());
        $response->headers->add($error->getHeaders());

        return $response;
    }
}

/** Tells whether the guard around it still holds when the one inside it is done. */
final class Between
{
    public function handle(Request $request, Closure $next): mixed
    {
        $response = $next($request);
        $response->headers->set('X-Outer', app(Guards::class)->store()->isLocked('outer') ? 'held' : 'free');

        return $response;
    }
}

final class WebKernel extends Kernel
{
    protected $middlewareGroups = ['web' => [StartSession::class, SubstituteBindings::class]];
}

final class WebProvider extends ServiceProvider
{
    public function register(): void
    {
        $this->app->extend(Guards::class, static fn (Guards $guards): Guards => $guards->add('other', 'flock:' . getenv('GUARD_PLACE')));
    }

    public function boot(): void
    {
        Auth::viaRequest('header', static fn (Request $request): ?GenericUser => $request->hasHeader('X-User') ? new GenericUser(['id' => $request->header('X-User')]) : null);
        Route::middleware('web')->group(static function (): void {
            Route::get('/worded/{id}', 'Guarded@run')->middleware('guard:name=worded_{id},mode=queue,maxWait=0.05,ttl=600');
            Route::get('/nested/{id}', 'Guarded@run')->middleware(['guard:name=outer', 'guard']);
            Route::get('/between/{id}', 'Guarded@run')->middleware(['guard:name=outer', Between::class, 'guard']);
            Route::get('/misspelt', 'Guarded@run')->middleware('guard:nmae=x');
            Route::get('/closure/{id}', #[\Synlock\Guard\MutexRequest(name: 'closure_{id}')] static fn () => plain('closure'))->middleware('guard');
            // As it comes out of `route:cache`.
            $cached = Route::get('/cached', #[\Synlock\Guard\MutexRequest] static fn () => plain('cached'))->middleware('guard');
            $cached->prepareForSerialization();
            $cached->setRouter(app('router'))->setContainer(app());
            Route::get('/orders/{id}', 'Guarded@run')->middleware('guard');
            Route::get('/{any}', 'Guarded@run')->middleware('guard');
        });
    }
}

declareGuide();
$home = getenv('GUARD_PLACE') . '/laravel';
if (PHP_SAPI === 'cli') {
    foreach (['bootstrap/cache', 'storage/framework/sessions', 'resources/lang/en', 'app'] as $folder) {
        mkdir("{$home}/{$folder}", 0o700, true);
    }
    file_put_contents("{$home}/composer.json", '{"autoload": {"psr-4": {"App\\\\": "app/"}}}');
    file_put_contents("{$home}/resources/lang/en/mutex.php", "<?php return ['Not now.' => 'Later, please.'];");
    $illuminate = ['Auth\AuthServiceProvider', 'Cookie\CookieServiceProvider', 'Filesystem\FilesystemServiceProvider', 'Session\SessionServiceProvider', 'Translation\TranslationServiceProvider'];
    file_put_contents("{$home}/bootstrap/cache/config.php", '<?php return ' . var_export([
        'app' => ['env' => 'production', 'debug' => false, 'locale' => 'en', 'fallback_locale' => 'en', 'timezone' => 'UTC', 'aliases' => [], 'providers' => [...array_map(static fn (string $one): string => "Illuminate\\{$one}", $illuminate), LockServiceProvider::class, WebProvider::class]],
        'auth' => ['defaults' => ['guard' => 'main'], 'guards' => ['main' => ['driver' => 'header']], 'providers' => []],
        'logging' => ['default' => 'errorlog', 'channels' => ['errorlog' => ['driver' => 'errorlog']]],
        'session' => ['driver' => 'file', 'files' => "{$home}/storage/framework/sessions", 'lifetime' => 120, 'expire_on_close' => false, 'lottery' => [0, 1], 'cookie' => 'session', 'path' => '/', 'domain' => null, 'secure' => false, 'http_only' => true, 'same_site' => 'lax'],
    ], true) . ';');
}
$app = new Application($home);
if (isset($_SERVER['HTTP_X_NO_USERS'])) {
    $app->booted(static fn () => $app->offsetUnset('auth'));
}
$app->singleton(KernelContract::class, WebKernel::class);
$app->singleton(ExceptionHandler::class, Errors::class);
$kernel = $app->make(KernelContract::class);
if (PHP_SAPI === 'cli') {
    $kernel->bootstrap();

    return;
}
if (isset($_SERVER['HTTP_X_SESSION'])) {
    $_COOKIE['session'] = sha1($_SERVER['HTTP_X_SESSION']);
}
declareAsked();
$request = Request::capture();
$response = $kernel->handle($request);
try {
    $response->send();
} catch (DomainException) { // of a body
}
if (isset($_GET['linger'])) {
    waitForGo();
}
$kernel->terminate($request, $response);
