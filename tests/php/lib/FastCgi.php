<?php

declare(strict_types=1);

namespace Synlock\Tests;

/** One request to PHP-FPM over its unix socket, read when the test wants. */
final class FastCgi
{
    /** What came after the headers. */
    public string $body = '';
    public string $errors = '';
    private string $buffer = '';
    private string $output = '';
    private bool $ended = false;
    /** @var resource|null */
    private $socket;

    /**
     * @param array<string, string> $query
     */
    public function __construct(string $path, string $script, array $query = [])
    {
        $socket = stream_socket_client("unix://{$path}", $code, $text, 60);
        if ($socket === false) {
            throw new \RuntimeException("FPM does not listen on {$path}: {$text}");
        }
        $this->socket = $socket;
        $params = [
            'GATEWAY_INTERFACE' => 'CGI/1.1',
            'REQUEST_METHOD' => 'GET',
            'SCRIPT_FILENAME' => $script,
            'SCRIPT_NAME' => '/' . basename($script),
            'QUERY_STRING' => http_build_query($query),
            'SERVER_PROTOCOL' => 'HTTP/1.1',
        ];
        $pairs = '';
        foreach ($params as $name => $value) {
            $pairs .= self::length($name) . self::length($value) . $name . $value;
        }
        fwrite($socket, self::record(1, pack('nCx5', 1, 0)) . self::record(4, $pairs) . self::record(4, '')
            . self::record(5, ''));
    }

    /** Reads until the worker says that the request is over, or hangs up. */
    public function finish(float $seconds = 60): string
    {
        $this->readUntil(fn (): bool => $this->ended, $seconds);

        return $this->body;
    }

    /** Reads until the body contains a line. */
    public function expect(string $line, float $seconds = 60): void
    {
        $this->readUntil(fn (): bool => str_contains($this->body, $line . "\n"), $seconds);
        if (!str_contains($this->body, $line . "\n")) {
            throw new \RuntimeException("waited for \"{$line}\", got: {$this->body} {$this->errors}");
        }
    }

    /** What came before the body. */
    public function headers(): string
    {
        return explode("\r\n\r\n", $this->output, 2)[0];
    }

    /** Hangs up, as a browser does. */
    public function abort(): void
    {
        if ($this->socket !== null) {
            fclose($this->socket);
            $this->socket = null;
        }
    }

    public function isOver(): bool
    {
        return $this->ended;
    }

    private function readUntil(\Closure $done, float $seconds): void
    {
        $end = microtime(true) + $seconds;
        while (!$done() && $this->socket !== null && !$this->ended) {
            $left = $end - microtime(true);
            if ($left <= 0) {
                throw new \RuntimeException("no answer from FPM in {$seconds} s; so far: {$this->body} {$this->errors}");
            }
            $read = [$this->socket];
            $none = null;
            if (!@stream_select($read, $none, $none, (int) $left, (int) (fmod($left, 1) * 1e6))) {
                continue;
            }
            $chunk = fread($this->socket, 65536);
            if ($chunk === '' || $chunk === false) {
                $this->ended = true; // the worker died
            } else {
                $this->buffer .= $chunk;
                $this->parse();
            }
            if ($this->ended) {
                $this->abort(); // the worker waits for this
            }
        }
    }

    private function parse(): void
    {
        while (strlen($this->buffer) >= 8) {
            $head = unpack('Cversion/Ctype/nid/nlength/Cpadding', $this->buffer);
            $size = 8 + $head['length'] + $head['padding'];
            if (strlen($this->buffer) < $size) {
                return;
            }
            $content = substr($this->buffer, 8, $head['length']);
            $this->buffer = substr($this->buffer, $size);
            match ($head['type']) {
                6 => $this->output .= $content,
                7 => $this->errors .= $content,
                3 => $this->ended = true,
                default => null,
            };
        }
        $this->body = explode("\r\n\r\n", $this->output, 2)[1] ?? '';
    }

    private static function record(int $type, string $content): string
    {
        return pack('CCnnCx', 1, $type, 1, strlen($content), 0) . $content;
    }

    private static function length(string $text): string
    {
        return strlen($text) < 128 ? chr(strlen($text)) : pack('N', strlen($text) | 0x80000000);
    }
}

/** The worker that `hold.php` says it took the lock in. */
function holder(FastCgi $hold): int
{
    until(static function () use ($hold): bool {
        try {
            $hold->expect('', 0.05);
        } catch (\RuntimeException) {
        }

        return preg_match('/^held \d+\n/m', $hold->body) === 1 || $hold->isOver();
    }, 60, 'the lock is taken');
    ok(preg_match('/^held (\d+)\n/m', $hold->body, $parts) === 1, "held: {$hold->body} {$hold->errors}");

    return (int) $parts[1];
}
