<?php

declare(strict_types=1);

namespace Synlock\Tests;

/** A Redis of our own on a unix socket in a temporary directory. */
final class Redis
{
    public readonly string $url;
    private Process $server;

    /**
     * @param list<string> $settings
     */
    public function __construct(string $directory, array $settings = [])
    {
        $socket = "{$directory}/redis.sock";
        $this->server = new Process([
            'redis-server', '--port', '0', '--unixsocket', $socket, '--unixsocketperm', '777',
            '--save', '', '--appendonly', 'no', '--dir', $directory,
            ...$settings,
        ]);
        $end = microtime(true) + 60;
        while (@stream_socket_client("unix://{$socket}") === false) {
            if (microtime(true) > $end || !$this->server->isRunning()) {
                throw new \RuntimeException("redis-server does not start: {$this->server->output}");
            }
            usleep(20_000);
        }
        $this->url = "redis+unix://{$socket}";
    }

    /** Silent, and awake again. */
    public function pause(bool $silent): void
    {
        $this->server->signal($silent ? SIGSTOP : SIGCONT);
    }

    /** Runs what asks this server and is answered while a signal is pending whose handler throws: the handler runs with the answer. */
    public function interrupt(\Closure $body): void
    {
        $before = pcntl_signal_get_handler(SIGALRM);
        pcntl_async_signals(true);
        pcntl_signal(SIGALRM, static fn () => throw new \DomainException('from the handler'));
        $this->pause(true);
        $helper = new Process(['sh', '-c', 'sleep 0.5; kill -ALRM $1; sleep 0.5; kill -CONT $2', 'sh', (string) getmypid(), (string) $this->server->pid]);
        try {
            throws(\DomainException::class, static function () use ($body): void {
                $body();
                until(static fn (): bool => false, 60, 'the signal');
            });
            $helper->wait();
        } finally {
            $this->pause(false);
            pcntl_signal(SIGALRM, $before);
        }
    }

    public function stop(): void
    {
        $this->server->signal(SIGTERM);
        $this->server->wait();
    }
}

/** A memcached on the socket memcached.sock in the folder. */
function memcached(string $directory): Process
{
    $user = posix_getuid() === 0 ? ['-u', 'nobody'] : [];
    $server = new Process(['memcached', '-s', "{$directory}/memcached.sock", '-a', '777', '-m', '16', '-t', '1', ...$user]);
    until(static fn (): bool => @stream_socket_client("unix://{$directory}/memcached.sock") !== false, 60, 'memcached starts');

    return $server;
}
