<?php

// The controller of guarded-symfony.php and guarded-laravel.php; its policies are attributes, or annotations.

declare(strict_types=1);

use Symfony\Component\HttpFoundation\BinaryFileResponse;
use Symfony\Component\HttpFoundation\Request;
use Symfony\Component\HttpFoundation\Response;
use Symfony\Component\HttpFoundation\StreamedResponse;
use Synlock\Exception\LockLost;
use Synlock\Guard\Held;

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
    $methods = '';
    foreach (['run', '__invoke'] as $name) {
        $methods .= "{$lines}\npublic function {$name}(\\Symfony\\Component\\HttpFoundation\\Request \$request) { return \$this->answer(\$request); }\n";
    }
    // A reader of annotations wants the file, for its imports.
    file_put_contents($own = "{$file}." . getmypid(), "<?php\nuse Synlock\\Guard\\MutexRequest;\nclass Guarded\n{\n    use Answers;\n\n{$methods}}\n");
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
                throw new DomainException('broken');
            case 'stream': // its size is not known
                return new StreamedResponse(static fn () => print 'streamed');
            case 'unchanged':
                return new StreamedResponse(static fn () => print 'never sent', 304);
            case 'crumble':
                return new StreamedResponse(static function (): void {
                    echo 'crumb';
                    throw new DomainException('crumbled');
                });
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

/** As the query says. */
function declareAsked(): void
{
    $given = json_decode($_GET['policy'] ?? '[{}]', true, 8, JSON_THROW_ON_ERROR);
    declareController(array_is_list($given) ? $given : [$given], ($_GET['as'] ?? '') === 'annotation' || isset($_SERVER['HTTP_X_ANNOTATIONS']));
}
