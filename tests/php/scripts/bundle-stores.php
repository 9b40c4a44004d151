<?php

// Each type of store of the bundle's configuration: bundle-stores.php FOLDER REDIS-SOCKET MEMCACHED-SOCKET, prints as JSON what two locks of
// one name came to on each, by the service of the factory and that of the store.

declare(strict_types=1);

use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\DependencyInjection\Exception\InvalidArgumentException;
use Symfony\Component\DependencyInjection\Reference;
use Symfony\Component\Lock\Store\PdoStore;
use Symfony\Component\Lock\Strategy\UnanimousStrategy;
use Synlock\Exception\LockLost;
use Synlock\Exception\SynlockException;
use Synlock\Guard\Bundle\DependencyInjection\IXarlieMutexExtension;
use Synlock\Guard\Guards;
use Synlock\Guard\MutexException;
use Synlock\Guard\MutexRequest;
use Synlock\Guard\Request as GuardRequest;
use Synlock\Store;
use Synlock\Symfony\LockFactory;

foreach (['DependencyInjection', 'Config', 'HttpKernel', 'Lock'] as $part) {
    require_once "Symfony/Component/{$part}/autoload.php";
}
require_once getenv('SYNLOCK_PACKAGE') . '/autoload.php';
[, $folder, $socket, $memcached] = $argv;

$clients = static function () use ($folder, $socket, $memcached): ContainerBuilder {
    $container = new ContainerBuilder();
    $container->register('client', Redis::class)->addMethodCall('connect', [$socket]);
    $container->register('items', Memcached::class)->addMethodCall('addServer', [$memcached, 0]);
    $container->register('two', Memcached::class)->addMethodCall('addServer', [$memcached, 0])->addMethodCall('addServer', ['localhost', 1]);
    $container->register('own', Store::class)->setFactory([Store::class, 'open'])->setArguments(['memory:own']);
    $container->register('theirs', PdoStore::class)->setArguments(["sqlite:{$folder}/theirs.db"]);
    $container->register('their strategy', UnanimousStrategy::class);

    return $container;
};
$container = $clients();
$container->registerExtension($extension = new IXarlieMutexExtension());
$configuration = [
    'default' => 'combined.all',
    'flock' => ['files' => ['lock_dir' => "{$folder}/made"]],
    'semaphore' => ['main' => []],
    'redis' => ['cache' => ['client' => 'client', 'default_ttl' => 7.0]],
    'memcached' => ['cache' => ['client' => 'items', 'default_ttl' => 9.0], 'two' => ['client' => 'two']],
    'combined' => [
        'all' => ['stores' => ['flock.files', 'ixarlie_mutex.semaphore_store.main']],
        'most' => ['stores' => ['flock.files', 'semaphore.main', 'synlock.shm'], 'strategy' => 'consensus'],
        'nested' => ['stores' => ['combined.most', 'synlock.more'], 'strategy' => 'their strategy'],
        'host' => ['stores' => ['flock.files', 'synlock.shm']],
        'odd' => ['stores' => ['flock.files'], 'strategy' => 'client'],
    ],
    'custom' => ['own' => ['service' => 'own'], 'component' => ['service' => 'theirs']],
    'synlock' => ['shm' => ['url' => "shm:{$folder}/shm"], 'more' => ['url' => "shm:{$folder}/more"]],
    'request_listener' => ['enabled' => false],
];
$container->loadFromExtension($extension->getAlias(), $configuration);
$services = ['flock.files', 'semaphore.main', 'redis.cache', 'memcached.cache', 'combined.all', 'combined.most', 'combined.nested', 'custom.own', 'custom.component', 'synlock.shm'];
foreach ($services as $service) {
    // As whoever has it injected.
    $container->register("store of {$service}", LockFactory::class)->setPublic(true)
        ->setArguments([new Reference('ixarlie_mutex.' . str_replace('.', '_store.', $service))]);
}
$container->compile();

$found = [];
foreach ($services as $service) {
    $one = $container->get('ixarlie_mutex.' . str_replace('.', '_factory.', $service))->createLock("of {$service}", null);
    $other = $container->get("store of {$service}")->createLock("of {$service}", null);
    $first = $one->acquire();
    $left = $one->getRemainingLifetime();
    $beside = $other->acquire();
    $one->release();
    $found[$service] = [$first, $beside, $other->acquire(), $left === null ? null : (int) ceil($left)];
    $other->release();
}
foreach (['two servers' => 'memcached_factory.two', 'odd strategy' => 'combined_factory.odd'] as $what => $service) {
    try {
        $container->get("ixarlie_mutex.{$service}")->createLock('two')->acquire();
    } catch (Throwable $refused) {
        $found[$what] = $refused->getMessage();
    }
}
try {
    $of = static fn (array $combined): array => ['default' => 'combined.a', 'combined' => array_map(static fn (string $member): array => ['stores' => [$member]], $combined)];
    $extension->load([$of(['a' => 'combined.b', 'b' => 'combined.a'])], new ContainerBuilder());
} catch (InvalidArgumentException $refused) {
    $found['in a circle'] = $refused->getMessage();
}
foreach (['redis.nobody', 'nobody', 'ixarlie_mutex.redis_factory.nobody'] as $default) {
    try {
        $extension->load([['default' => $default, 'synlock' => ['main' => ['url' => 'memory:']]]], new ContainerBuilder());
    } catch (InvalidArgumentException $refused) {
        $found['unknown default'][] = $refused->getMessage();
    }
}
// What the component holds by itself, and what ours does, by the same table.
$theirs = (new Symfony\Component\Lock\LockFactory(new PdoStore("sqlite:{$folder}/theirs.db")))->createLock('shared', 60);
$ours = $container->get('ixarlie_mutex.custom_factory.component')->createLock('shared', 60);
$found['beside the component'] = [$theirs->acquire(), $ours->acquire(), $theirs->release(), $ours->acquire(), $theirs->acquire(), $ours->refresh(), $ours->release(), $theirs->acquire()];

// What each mode comes to where the lock is free, and beside somebody who holds it: `in`, the refusal's status, or the error.
$try = static function (Guards $guards, string $service, string $mode, string $name = 'modes') use (&$held): string|int {
    try {
        $held[] = $guards->enter(new MutexRequest($mode, name: $name, service: $service, maxWait: 0.05), new GuardRequest('r', '/'));

        return 'in';
    } catch (MutexException $refused) {
        return $refused->getStatusCode();
    } catch (SynlockException $error) {
        return $error->getStatus();
    }
};
foreach (['native', 'ixarlie'] as $dialect) {
    $own = $clients();
    $own->registerExtension($extension);
    $own->loadFromExtension($extension->getAlias(), ['dialect' => $dialect] + $configuration);
    $own->compile();
    $guards = $own->get('ixarlie_mutex.guards');
    foreach ($services as $service) {
        $held = [];
        $modes = [$try($guards, $service, 'check')];
        foreach (['block', 'block', 'check', 'queue', 'force'] as $mode) {
            $modes[] = $try($guards, $service, $mode);
        }
        foreach ($held as $number => $admission) {
            try {
                $admission->release();
            } catch (LockLost) {
                $modes[] = "lost {$number}";
            }
        }
        $found['modes'][$dialect][$service] = implode(' ', $modes);
    }
    // Each member tells of a holder in a way of its own, and of one in another process in still another.
    foreach (['combined.all', 'combined.most', 'combined.host'] as $service) {
        [$near, $far] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
        if (($child = pcntl_fork()) === 0) {
            fclose($near);
            fwrite($far, $try($guards, $service, 'block', 'far'));
            fgets($far);
            $held[array_key_last($held)]->release();
            exit;
        }
        fclose($far);
        $seen = [fread($near, 2), $try($guards, $service, 'check', 'far')];
        fclose($near);
        pcntl_waitpid($child, $status);
        $found['far'][$dialect][$service] = [...$seen, $try($guards, $service, 'check', 'far')];
    }
}
$default = $container->get('ixarlie_mutex.default_factory')->createLock('default');
$found['default'] = [$default->acquire(), $container->get('ixarlie_mutex.combined_factory.all')->createLock('default')->acquire()];
echo json_encode($found, JSON_THROW_ON_ERROR);
