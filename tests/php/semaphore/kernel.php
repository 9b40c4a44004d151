<?php

// Boots Symfony's kernel with the bundle: kernel.php FOLDER CONFIG REDIS-SOCKET. Prints JSON.

declare(strict_types=1);

use Application\Avtonom\SemaphoreBundle\Sample;
use Symfony\Bundle\FrameworkBundle\FrameworkBundle;
use Symfony\Component\Config\Loader\LoaderInterface;
use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\DependencyInjection\Reference;
use Symfony\Component\HttpKernel\Kernel;
use Synlock\Semaphore\Bundle\AvtonomSemaphoreBundle;
use Synlock\Semaphore\Exception\SemaphoreAcquireException;
use Synlock\Semaphore\SemaphoreManagerInterface;

foreach (['Bundle/FrameworkBundle', 'Component/Yaml'] as $part) {
    require_once "/usr/share/php/Symfony/{$part}/autoload.php";
}
@include_once '/usr/share/php/Monolog/autoload.php';
require getenv('SYNLOCK_PACKAGE') . '/autoload.php';
require __DIR__ . '/SemaphoreKeyStorage.php';
require __DIR__ . '/Sample.php';

[, $folder, $config, $socket] = $argv;

final class TestKernel extends Kernel
{
    public function __construct(private string $folder, private string $config, private string $socket)
    {
        parent::__construct('dev', false);
    }

    public function registerBundles(): iterable
    {
        return [new FrameworkBundle(), new AvtonomSemaphoreBundle()];
    }

    public function registerContainerConfiguration(LoaderInterface $loader): void
    {
        $loader->load($this->config);
        $loader->load(function (ContainerBuilder $container): void {
            $container->loadFromExtension('framework', ['secret' => 'x', 'test' => true]);
            $container->register('snc_redis.semaphore', \Redis::class)->addMethodCall('connect', [$this->socket])->addMethodCall('select', [2]);
            $container->register(Sample::class)->setPublic(true)
                ->addMethodCall('setSemaphore', [new Reference('avtonom_semaphore.manager')]);
            $container->register('spare', \Synlock\Store::class)->setFactory([\Synlock\Store::class, 'open'])->setArguments(['memory:spare']);
        });
    }

    public function getProjectDir(): string
    {
        return $this->folder;
    }
}

$kernel = new TestKernel($folder, $config, $socket);
$kernel->boot();
$container = $kernel->getContainer();
/** @var $semaphore SemaphoreManagerInterface */
$semaphore = $container->get('avtonom_semaphore.manager');
$redis = new Redis();
$redis->connect($socket);
$redis->select(2);

$found = ['class' => $semaphore::class, 'storage' => $semaphore->getKeyStorage()::class, 'parameters' => []];
foreach (['adapter', 'mode', 'try_count', 'sleep_time', 'max_lock_time', 'prefix', 'use_extended_methods', 'is_exception_repeat_block_key'] as $name) {
    $found['parameters'][$name] = $container->getParameter("avtonom_semaphore.{$name}");
}
$container->get(Sample::class)->run(1, 'two', null, function (array $key) use (&$found, $redis, $semaphore): void {
    $name = 'lock_M_K_' . md5((string) json_encode($key));
    $found['name'] = $name === $semaphore->getKey($key);
    $found['ttl'] = $redis->pttl($name);
    $found['old code is refused'] = $redis->setnx($name, (string) getmypid()) === false;
    try {
        $semaphore->acquire($key, 'again');
        $found['again'] = 'acquired';
    } catch (SemaphoreAcquireException $error) {
        $found['again'] = $error->getMessage();
    }
});
$found['left'] = $redis->keys('lock_*');
$semaphore->acquire('forgotten', 'Sample::forgets');
file_put_contents("{$folder}/found.json", (string) json_encode($found));
