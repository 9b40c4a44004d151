<?php

declare(strict_types=1);

namespace Synlock\Tests;

/**
 * A PHP-FPM under Debian's stock php.ini plus one ini file, on a unix socket in a temporary
 * directory. As root the workers run as www-data; with `$user` the master does not run as root.
 */
final class Fpm
{
    public readonly string $socket;
    public readonly string $log;
    private Process $master;

    /**
     * @param array<string, string> $pool settings of the pool
     */
    public function __construct(public readonly string $directory, string $ini, array $pool = [], ?string $user = null)
    {
        static $count = 0;
        $name = 'fpm' . ++$count;
        $this->socket = "{$directory}/{$name}.sock";
        $this->log = "{$directory}/{$name}.log";
        $scan = "{$directory}/{$name}.d";
        mkdir($scan);
        file_put_contents("{$scan}/99-synlock.ini", $ini);
        $pool += [
            'listen' => $this->socket,
            'pm' => 'static',
            'pm.max_children' => '2',
            'catch_workers_output' => 'yes',
        ];
        if (posix_getuid() === 0 && $user === null) {
            $pool += ['user' => 'www-data', 'group' => 'www-data'];
        }
        $text = "[global]\nerror_log = {$this->log}\ndaemonize = no\nprocess_control_timeout = 10\n[pool]\n";
        foreach ($pool as $key => $value) {
            $text .= "{$key} = {$value}\n";
        }
        file_put_contents("{$directory}/{$name}.conf", $text);
        touch($this->log);
        chmod($this->log, 0o666);
        $command = [self::binary(), '-F', '-y', "{$directory}/{$name}.conf"];
        if ($user !== null) {
            $command = ['setpriv', "--reuid={$user}", "--regid={$user}", '--clear-groups', ...$command];
        }
        // An empty first entry stands for the directory that PHP was built to scan.
        $environment = ['PATH' => (string) getenv('PATH'), 'PHP_INI_SCAN_DIR' => ":{$scan}"];
        // A sanitizer comes along. USE_ZEND_ALLOC=0 does not: without PHP's allocator there is no memory limit.
        $environment += array_intersect_key(getenv(), ['LD_PRELOAD' => 1, 'ASAN_OPTIONS' => 1]);
        $this->master = new Process($command, $environment);
        $end = microtime(true) + 60;
        while (@stream_socket_client("unix://{$this->socket}") === false) {
            if (microtime(true) > $end || !$this->master->isRunning()) {
                throw new \RuntimeException("php-fpm does not start: {$this->master->output}" . $this->logged());
            }
            usleep(20_000);
        }
    }

    public function __destruct()
    {
        // Killed, it would leave its workers behind.
        if ($this->master->isRunning()) {
            $this->stop();
        }
    }

    public static function binary(): string
    {
        $version = PHP_MAJOR_VERSION . '.' . PHP_MINOR_VERSION;
        foreach (["/usr/sbin/php-fpm{$version}", '/usr/sbin/php-fpm'] as $path) {
            if (is_executable($path)) {
                return $path;
            }
        }
        throw new \RuntimeException("php-fpm is missing: apt-get install php{$version}-fpm");
    }

    /**
     * @param array<string, string> $query
     */
    public function request(string $script, array $query = []): FastCgi
    {
        return new FastCgi($this->socket, $script, $query);
    }

    public function logged(): string
    {
        return (string) file_get_contents($this->log);
    }

    public function reload(): void
    {
        $this->master->signal(SIGUSR2);
    }

    public function isRunning(): bool
    {
        return $this->master->isRunning();
    }

    /**
     * @return list<int>
     */
    public function workers(): array
    {
        $children = @file_get_contents("/proc/{$this->master->pid}/task/{$this->master->pid}/children");

        return array_map('intval', array_filter(explode(' ', trim((string) $children))));
    }

    public function stop(float $seconds = 60): void
    {
        $this->master->signal(SIGTERM);
        $this->master->wait($seconds);
    }
}
