<?php

declare(strict_types=1);

namespace Synlock\Tests;

/** One request over a connection of its own, whose answer is done with its last byte and not with the connection. */
final class Http
{
    /** @var resource|null */
    private $socket;
    public int $status = 0;
    /** @var array<string, string> by lower-case name */
    public array $headers = [];
    public string $body = '';

    /**
     * @param array<string, string> $headers
     * @param string                $from    the client's address
     */
    public function __construct(int $port, string $target, array $headers = [], private readonly string $method = 'GET', string $from = '127.0.0.1')
    {
        $context = stream_context_create(['socket' => ['bindto' => "{$from}:0"]]);
        $this->socket = stream_socket_client("tcp://127.0.0.1:{$port}", $code, $why, 30, context: $context) ?: throw new \RuntimeException((string) $why);
        $lines = "{$method} {$target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
        foreach ($headers as $name => $value) {
            $lines .= "{$name}: {$value}\r\n";
        }
        fwrite($this->socket, "{$lines}\r\n");
        stream_set_timeout($this->socket, 60);
    }

    /** Waits for the whole answer. */
    public function answer(): self
    {
        while (!str_contains($this->body, "\r\n\r\n")) {
            $this->more(1024);
        }
        [$head, $this->body] = explode("\r\n\r\n", $this->body, 2);
        foreach (explode("\r\n", $head) as $number => $line) {
            if ($number === 0) {
                $this->status = (int) explode(' ', $line)[1];
            } else {
                [$name, $value] = explode(':', $line, 2);
                $this->headers[strtolower($name)] = trim($value);
            }
        }
        if ($this->method === 'HEAD') {
            return $this;
        }
        while (($left = (int) ($this->headers['content-length'] ?? 0) - \strlen($this->body)) > 0) {
            $this->more($left);
        }

        return $this;
    }

    /** Waits until the connection is closed: for an answer that does not say how long it is. */
    public function whole(): self
    {
        $this->answer();
        $this->body .= stream_get_contents($this->socket);

        return $this;
    }

    /** Whether an answer has begun to arrive. */
    public function isAnswered(): bool
    {
        [$read, $none] = [[$this->socket], null];

        return $this->body !== '' || stream_select($read, $none, $none, 0) === 1;
    }

    /** Waits for the status line, and hangs up. */
    public function hangUp(): void
    {
        $this->more(12);
        $this->close();
    }

    /** Hangs up. */
    public function close(): void
    {
        $this->socket = null;
    }

    private function more(int $bytes): void
    {
        $read = (string) fread($this->socket, $bytes);
        if ($read === '') {
            throw new \RuntimeException("no more of the answer: {$this->body}");
        }
        $this->body .= $read;
    }
}
