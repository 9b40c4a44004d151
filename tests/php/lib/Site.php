<?php

declare(strict_types=1);

namespace Synlock\Tests;

use Synlock\Store;

/**
 * A guarded application. Its script reads GUARD_PLACE, a folder, GUARD_URL, the store, and the query: `policy`, `do`, `id`,
 * `linger` as in scripts/guarded.php.
 */
abstract class Site
{
    public readonly Store $store;
    /** @var array<string, string> what the application reads */
    protected array $environment;
    protected int $port;
    protected Process $server;

    public function __construct(public readonly string $place, string $url)
    {
        mkdir($place, 0o700);
        $this->port = Ports::free();
        $this->store = Store::open($url);
        $this->environment = ['GUARD_PLACE' => $place, 'GUARD_URL' => $url];
    }

    /** Runs the application's script on the command line, which makes what is made once. */
    public function boot(string $script): Process
    {
        $process = new Process([PHP_BINARY, $script], [...getenv(), ...$this->environment]);
        $process->wait(120);

        return $process;
    }

    /** Waits until it serves. */
    public function start(): void
    {
        $started = false;
        for ($patience = microtime(true) + 60; !$started && microtime(true) < $patience && $this->server->isRunning(); usleep(5000)) {
            $started = @fsockopen('127.0.0.1', $this->port) !== false;
        }
        ok($started, $this->log());
    }

    abstract public function stop(): void;

    abstract public function log(): string;

    /** @param array<string, string> $headers */
    public function get(string $target, array $headers = [], string $method = 'GET', string $from = '127.0.0.1'): Http
    {
        return new Http($this->port, $target, $headers, $method, $from);
    }

    /**
     * @param array<mixed>          $policy
     * @param array<string, string> $headers
     */
    public function ask(array $policy, string $path = '/demo', string $do = 'answer', string $id = '', bool $linger = false, array $headers = [], string $method = 'GET', string $from = '127.0.0.1'): Http
    {
        $query = ['policy' => json_encode($policy), 'do' => $do, 'id' => $id] + ($linger ? ['linger' => '1'] : []);

        return $this->get("{$path}?" . http_build_query($query), $headers, $method, $from);
    }

    /** A request whose handler waits for go. */
    public function hold(string $id, array $policy, string $path = '/demo', array $headers = [], string $from = '127.0.0.1'): Http
    {
        $holder = $this->ask($policy, $path, 'wait', $id, headers: $headers, from: $from);
        $this->inside($id);

        return $holder;
    }

    public function inside(string $id): void
    {
        until(fn (): bool => $this->entered($id), 60, "{$id} is inside");
    }

    public function entered(string $id): bool
    {
        // Its process number is written after the file is made, and 0 would be this process and its group.
        return (int) @file_get_contents("{$this->place}/inside-{$id}") > 0;
    }

    public function go(string $id): void
    {
        touch("{$this->place}/go-{$id}");
    }
}

/** In PHP's own server with several workers. */
final class CliSite extends Site
{
    public function __construct(string $package, string $place, string $script)
    {
        parent::__construct($place, "shm:{$place}/segment");
        // FFI as under a web server: only for what is preloaded.
        $settings = ['opcache.enable=1', "opcache.preload={$package}/preload.php", 'ffi.enable=preload', 'output_buffering=0', ...(posix_getuid() === 0 ? ['opcache.preload_user=nobody'] : [])];
        $options = array_merge(...array_map(static fn (string $setting): array => ['-d', $setting], $settings));
        $this->server = new Process(
            ['setsid', PHP_BINARY, ...$options, '-S', "127.0.0.1:{$this->port}", $script],
            [...getenv(), 'PHP_CLI_SERVER_WORKERS' => '6', ...$this->environment],
            "{$place}/log",
        );
        register_shutdown_function($this->stop(...));
    }

    /** Its workers do not end with it. */
    public function stop(): void
    {
        posix_kill(-$this->server->pid, SIGKILL);
    }

    public function log(): string
    {
        return (string) file_get_contents("{$this->place}/log");
    }
}
