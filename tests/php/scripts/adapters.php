<?php

// Each adapter of Avtonom's bundle, a manager of the application's own, and the timeline: adapters.php FOLDER REDIS-SOCKET
// MEMCACHED-SOCKET, prints as JSON what two managers of one adapter came to.

declare(strict_types=1);

use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\Stopwatch\Stopwatch;
use Synlock\Semaphore\Bundle\AvtonomSemaphoreBundle;
use Synlock\Semaphore\Bundle\DependencyInjection\AvtonomSemaphoreExtension;
use Synlock\Semaphore\SemaphoreManager;

foreach (['DependencyInjection', 'Config', 'HttpKernel', 'Stopwatch'] as $part) {
    require_once "Symfony/Component/{$part}/autoload.php";
}
require_once 'Predis/Autoloader.php';
Predis\Autoloader::register();
require_once getenv('SYNLOCK_PACKAGE') . '/autoload.php';
[, $folder, $redis, $memcached] = $argv;
is_dir($folder) || mkdir($folder, 0o700);

/** As one was written for the original, with the arguments that it had. */
final class OwnManager extends SemaphoreManager
{
    public function __construct($adapter, $keyStorage, $tryCount, $sleepTime, $maxLockTime, $repeat, $extended, $prefix, $logger, $mode)
    {
        parent::__construct($adapter, $keyStorage, $tryCount, $sleepTime, $maxLockTime, $repeat, $extended, "own_{$prefix}", $logger, $mode);
    }
}

$manager = static function (array $config, ?Stopwatch &$stopwatch = null) use ($folder, $redis, $memcached): SemaphoreManager {
    $container = new ContainerBuilder();
    foreach (['cache_dir', 'logs_dir'] as $place) {
        $container->setParameter("kernel.{$place}", $folder);
    }
    $container->setParameter('kernel.environment', 'test');
    $container->setParameter('avtonom_semaphore.try_count', 1);
    $container->setParameter('avtonom_semaphore.sleep_time', 1000);
    $container->register('items', Memcached::class)->addMethodCall('addServer', [$memcached, 0])->addMethodCall('setOption', [Memcached::OPT_PREFIX_KEY, 'site:']);
    $container->register('redis', Redis::class)->addMethodCall('connect', [$redis]);
    // As SncRedisBundle makes one of `type: predis`.
    $container->register('predis', Predis\Client::class)->setArguments([['scheme' => 'unix', 'path' => $redis, 'database' => 3], ['prefix' => 'site:']]);
    if ($stopwatch !== null) {
        $container->register('debug.stopwatch', Stopwatch::class)->setPublic(true);
    }
    (new AvtonomSemaphoreBundle())->build($container);
    $container->registerExtension($extension = new AvtonomSemaphoreExtension());
    $container->loadFromExtension($extension->getAlias(), $config);
    $container->compile();
    if ($stopwatch !== null) {
        $stopwatch = $container->get('debug.stopwatch');
    }

    return $container->get('avtonom_semaphore.manager');
};
$acquires = static function (SemaphoreManager $manager, mixed $key): bool {
    try {
        $manager->acquire($key, 'script', 10);

        return true;
    } catch (Synlock\Semaphore\Exception\SemaphoreAcquireException) {
        return false;
    }
};

$found = [];
foreach (['avtonom_semaphore.adapter.redis', 'millwright_semaphore.adapter.redis', 'millwright_semaphore.adapter.memcached', 'millwright_semaphore.adapter.sem', 'millwright_semaphore.adapter.apc', 'millwright_semaphore.adapter.flock'] as $adapter) {
    $config = ['adapter' => $adapter, 'adapter_redis_client' => 'redis', 'adapter_memcached_client' => 'items'];
    [$one, $other] = [$manager($config), $manager($config)];
    $key = ['K_', getmypid()];
    $found[$adapter] = [$acquires($one, $key), $acquires($other, $key)];
    if ($adapter === 'millwright_semaphore.adapter.memcached') {
        $client = new Memcached();
        $client->addServer($memcached, 0);
        $found['prefix'] = is_string($client->get('site:' . $one->getKey($key)));
    }
    $one->release($key, 'script');
    $found[$adapter][] = $acquires($other, $key);
    $other->release($key, 'script');
}

[$one, $other] = [$manager(['adapter_redis_client' => 'predis']), $manager(['adapter_redis_client' => 'predis'])];
$found['predis'] = [$acquires($one, 'p'), $acquires($other, 'p')];
$client = new Redis();
$client->connect($redis);
$client->select(3);
$found['predis'][] = $client->keys('site:*');
$one->release('p', 'script');
$found['predis'][] = $acquires($other, 'p');
$other->release('p', 'script');
$found['predis'][] = $client->keys('site:*');

$own = $manager(['adapter' => 'memory:own', 'manager_class' => OwnManager::class], $stopwatch);
$found['own'] = [$own::class, $own->acquire('x', 'script'), $own->release('x', 'script')];

$stopwatch = new Stopwatch();
$shown = $manager(['adapter' => 'memory:shown', 'is_exception_repeat_block_key' => false], $stopwatch);
$stopwatch->openSection();
$shown->acquire('x', 'script');
$shown->acquire('x', 'script');
$other = $manager(['adapter' => 'memory:shown']);
$acquires($other, 'x');
$shown->release('x', 'script');
$shown->acquire('kept', 'script');
$stopwatch->stopSection('of this request');
foreach ($stopwatch->getSectionEvents('of this request') as $name => $event) {
    $found['timeline'][$name] = [$event->getCategory(), count($event->getPeriods())];
}
// The section is over, and its events with it.
$shown->release('kept', 'script');
echo json_encode($found, JSON_THROW_ON_ERROR);
