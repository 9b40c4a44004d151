<?php

declare(strict_types=1);

namespace Synlock\Tests;

/** The objects that stores of the component take, connected to the test's servers. */
final class Clients
{
    private string $clusterAt = '';
    private int $clusterBus = 0;

    public function __construct(private readonly Setup $setup)
    {
    }

    public function redis(int $database = 0): \Redis
    {
        $redis = new \Redis();
        $redis->connect('127.0.0.1', $this->setup->ports['redis']);
        $redis->select($database);

        return $redis;
    }

    public function redisArray(): \RedisArray
    {
        return new \RedisArray(["127.0.0.1:{$this->setup->ports['redis']}"]);
    }

    public function predis(string $prefix = ''): \Predis\Client
    {
        require_once 'Predis/Autoloader.php';
        \Predis\Autoloader::register();

        return new \Predis\Client("tcp://127.0.0.1:{$this->setup->ports['redis']}", $prefix === '' ? null : ['prefix' => $prefix]);
    }

    /** A Cluster of one server, which ends with its object. */
    public function cluster(): Process
    {
        [$server, $redis, $port, $this->clusterBus] = $this->clusterServer();
        $this->clusterAt = "127.0.0.1:{$port}";
        $redis->rawCommand('CLUSTER', 'ADDSLOTSRANGE', '0', '16383');
        until(static fn (): bool => str_contains($redis->rawCommand('CLUSTER', 'INFO'), 'cluster_state:ok'), 30, 'the Cluster is ready');

        return $server;
    }

    /**
     * Gives the Cluster a replica.
     *
     * @return array{Process, \Closure(): void} it, and what makes the other one the master
     */
    public function replica(): array
    {
        [$server, $replica] = $this->clusterServer();
        [$host, $port] = explode(':', $this->clusterAt);
        $master = new \Redis();
        $master->connect($host, (int) $port);
        $replica->rawCommand('CLUSTER', 'MEET', $host, $port, (string) $this->clusterBus);
        $id = $master->rawCommand('CLUSTER', 'MYID');
        until(static fn (): bool => @$replica->rawCommand('CLUSTER', 'REPLICATE', $id) === true, 30, 'it knows the master');
        $follows = static fn (\Redis $redis): bool => ($redis->info('replication')['master_link_status'] ?? '') === 'up';
        until(static fn (): bool => $follows($replica), 60, 'it follows');

        return [$server, static function () use (&$master, &$replica, $follows): void {
            // It takes over with what it has by then.
            $written = (int) $master->info('replication')['master_repl_offset'];
            until(static fn (): bool => (int) $replica->info('replication')['slave_repl_offset'] >= $written, 60, 'it has all');
            until(static fn (): bool => @$replica->rawCommand('CLUSTER', 'FAILOVER', 'TAKEOVER') === true, 30, 'it may');
            until(static fn (): bool => $replica->info('replication')['role'] === 'master' && $follows($master), 60, 'it has taken over');
            [$master, $replica] = [$replica, $master];
        }];
    }

    /** @return array{Process, \Redis, int, int} */
    private function clusterServer(): array
    {
        [$port, $bus] = [Ports::free(), Ports::free()];
        $server = new Process([
            'redis-server', '--port', (string) $port, '--cluster-enabled', 'yes', '--cluster-port', (string) $bus,
            '--cluster-announce-ip', '127.0.0.1', '--bind', '127.0.0.1', '--save', '', '--dir', $this->setup->folder("cluster{$port}"),
        ]);
        until(static fn (): bool => @stream_socket_client("tcp://127.0.0.1:{$port}") !== false, 30, 'the server answers');
        $redis = new \Redis();
        $redis->connect('127.0.0.1', $port);

        return [$server, $redis, $port, $bus];
    }

    public function clusterAt(): string
    {
        return $this->clusterAt;
    }

    public function redisCluster(string $prefix = 'app:'): \RedisCluster
    {
        $cluster = new \RedisCluster(null, [$this->clusterAt]);
        $cluster->setOption(\RedisCluster::OPT_PREFIX, $prefix);

        return $cluster;
    }

    public function predisCluster(): \Predis\Client
    {
        $this->predis();

        return new \Predis\Client(["tcp://{$this->clusterAt}"], ['cluster' => 'redis', 'prefix' => 'app:']);
    }

    public function memcached(): \Memcached
    {
        $memcached = new \Memcached();
        $memcached->addServer('127.0.0.1', $this->setup->ports['memcached']);

        return $memcached;
    }

    public function dsn(string $engine): string
    {
        return match ($engine) {
            'sqlite' => "sqlite:{$this->setup->folder('tables')}/locks.db",
            'mysql' => "mysql:host=127.0.0.1;port={$this->setup->ports['mariadb']};dbname=test",
            'pgsql' => "pgsql:host=127.0.0.1;port={$this->setup->ports['postgres']};dbname=postgres",
        };
    }

    public function user(string $engine): ?string
    {
        return ['mysql' => 'locker', 'pgsql' => 'postgres'][$engine] ?? null;
    }

    public function pdo(string $engine): \PDO
    {
        $pdo = new \PDO($this->dsn($engine), $this->user($engine), '');
        $pdo->setAttribute(\PDO::ATTR_ERRMODE, \PDO::ERRMODE_EXCEPTION);

        return $pdo;
    }

    public function url(string $engine): string
    {
        return match ($engine) {
            'sqlite' => "sqlite:///{$this->setup->folder('tables')}/locks.db",
            'mysql' => "mysql://locker@127.0.0.1:{$this->setup->ports['mariadb']}/test?charset=utf8mb4",
            'pgsql' => "postgresql://postgres@127.0.0.1:{$this->setup->ports['postgres']}/postgres",
        };
    }

    public function dbal(string $engine, ?string $file = null): \Doctrine\DBAL\Connection
    {
        require_once 'Doctrine/DBAL/autoload.php';
        $parts = $engine === 'sqlite' ? ['path' => $file ?? "{$this->setup->folder('tables')}/locks.db"] : [
            'host' => '127.0.0.1',
            'port' => $this->setup->ports[$engine === 'mysql' ? 'mariadb' : 'postgres'],
            'user' => $this->user($engine),
            'dbname' => $engine === 'mysql' ? 'test' : 'postgres',
        ];

        return \Doctrine\DBAL\DriverManager::getConnection($parts + ['driver' => "pdo_{$engine}"]);
    }

    public function zookeeper(): \Zookeeper
    {
        require_once __DIR__ . '/Zookeeper.php';

        return new \Zookeeper("127.0.0.1:{$this->setup->ports['zookeeper']}");
    }
}
