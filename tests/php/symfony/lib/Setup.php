<?php

declare(strict_types=1);

namespace Synlock\Tests;

/** Where the servers are, and which classes are there. */
final class Setup
{
    /**
     * @param string             $mode  `with` Symfony's component, or `without`
     * @param array<string, int> $ports
     */
    public function __construct(
        public readonly string $mode,
        public readonly string $package,
        public readonly string $temp,
        public readonly array $ports,
    ) {
    }

    public function load(): void
    {
        if ($this->mode === 'with') {
            require_once 'Symfony/Component/Lock/autoload.php';
        }
        require_once "{$this->package}/autoload.php";
    }

    /** The name of a class of the component, real or of the package. */
    public function name(string $class): string
    {
        return ($this->mode === 'with' ? 'Symfony\Component\Lock\\' : 'Synlock\Symfony\\') . $class;
    }

    public function key(string $resource): object
    {
        return new ($this->name('Key'))($resource);
    }

    public function factory(object $store): object
    {
        return new ($this->name('LockFactory'))($store);
    }

    /** An empty folder. */
    public function folder(string $name): string
    {
        $folder = "{$this->temp}/{$name}";
        if (!is_dir($folder)) {
            mkdir($folder, 0o700);
        }

        return $folder;
    }

    /**
     * A URL for each store that the behaviours are tested on.
     *
     * @return array<string, string>
     */
    public function urls(): array
    {
        $at = fn (string $server): string => "127.0.0.1:{$this->ports[$server]}";
        $files = $this->folder('sqlite');
        $members = implode(',', array_map(static fn (string $n): string => "sqlite:{$files}/{$n}.db", ['a', 'b', 'c']));

        return [
            'memory' => "memory:{$this->mode}",
            'flock' => "flock:{$this->folder('flock')}",
            'shm' => "shm:{$this->folder('shm')}/segment",
            'sysv' => 'sysv:' . basename($this->temp) . getmypid(),
            'redis' => "redis://{$at('redis')}?prefix={$this->mode}:",
            'memcached' => "memcached://{$at('memcached')}?prefix={$this->mode}:",
            'sqlite' => "sqlite:{$files}/locks.db",
            'postgres' => "postgres://postgres@{$at('postgres')}/postgres",
            'mysql' => "mysql://locker@{$at('mariadb')}/test",
            'postgres+advisory' => "postgres+advisory://postgres@{$at('postgres')}/postgres?prefix={$this->mode}:",
            'mysql+advisory' => "mysql+advisory://locker@{$at('mariadb')}/test?prefix={$this->mode}:",
            // It stands still now and then, on a busy machine.
            'zookeeper' => "zookeeper://{$at('zookeeper')}/{$this->mode}?connect_timeout=60000&io_timeout=60000",
            'etcd' => "etcd://{$at('etcd')}?prefix={$this->mode}/",
            'tiered' => "tiered:?local=" . rawurlencode("shm:{$this->folder('tiered')}/segment") . '&remote=' . rawurlencode("redis://{$at('redis')}?prefix={$this->mode}-tiered:"),
            'quorum' => "quorum:({$members})",
        ];
    }

    /** The file of the class Clients. */
    public function clients(): string
    {
        return __DIR__ . '/Clients.php';
    }

    /** Runs PHP text in a process with the same classes; `$setup` is there, and `$arguments`. */
    public function process(string $code, array $arguments = []): Process
    {
        $head = 'namespace Synlock\Tests; require $argv[1]; require $argv[2]; $setup = new Setup($argv[3], $argv[4], $argv[5], json_decode($argv[6], true));'
            . ' $setup->load(); $arguments = json_decode($argv[7], true); error_reporting(E_ALL);';

        return new Process([
            PHP_BINARY, '-d', 'display_errors=1', '-r', $head . $code, '--', __FILE__, __DIR__ . '/../../lib/Runner.php',
            $this->mode, $this->package, $this->temp, json_encode($this->ports), json_encode($arguments),
        ]);
    }
}
