<?php

declare(strict_types=1);

namespace Synlock\Semaphore\Bundle\DependencyInjection;

use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\DependencyInjection\Definition;
use Symfony\Component\DependencyInjection\Extension\Extension;
use Symfony\Component\DependencyInjection\Reference;
use Synlock\Semaphore\Bundle\Adapter;
use Synlock\Semaphore\Bundle\FileLogger;
use Synlock\Semaphore\SemaphoreKeyStorageInterface;
use Synlock\Semaphore\SemaphoreManagerInterface;
use Synlock\Store;

final class AvtonomSemaphoreExtension extends Extension
{
    private const PARAMETERS = ['try_count' => 240, 'sleep_time' => 500000, 'max_lock_time' => 60, 'prefix' => 'lock_'];

    public function load(array $configs, ContainerBuilder $container): void
    {
        $config = $this->processConfiguration(new Configuration(), $configs);
        foreach ($config as $name => $value) {
            $container->setParameter("avtonom_semaphore.{$name}", $value);
        }
        foreach (self::PARAMETERS as $name => $value) {
            if (!$container->hasParameter("avtonom_semaphore.{$name}")) {
                $container->setParameter("avtonom_semaphore.{$name}", $value);
            }
        }
        $this->log($container);
        $container->register('avtonom_semaphore.key_storage', '%avtonom_semaphore.key_storage_class%');
        // `AdapterPass` names the services among these arguments.
        $container->register('avtonom_semaphore.store', Store::class)
            ->setFactory([Adapter::class, 'open'])
            ->setArguments(['%avtonom_semaphore.adapter%', null, '%kernel.cache_dir%']);
        $container->register('avtonom_semaphore.manager', '%avtonom_semaphore.manager_class%')
            ->setPublic(true)
            ->setArguments([
                new Reference('avtonom_semaphore.store'),
                new Reference('avtonom_semaphore.key_storage'),
                '%avtonom_semaphore.try_count%',
                '%avtonom_semaphore.sleep_time%',
                '%avtonom_semaphore.max_lock_time%',
                '%avtonom_semaphore.is_exception_repeat_block_key%',
                '%avtonom_semaphore.use_extended_methods%',
                '%avtonom_semaphore.prefix%',
                new Reference('avtonom_semaphore.logger'),
                '%avtonom_semaphore.mode%',
            ]);
        $container->setAlias(SemaphoreManagerInterface::class, 'avtonom_semaphore.manager');
        $container->setAlias(SemaphoreKeyStorageInterface::class, 'avtonom_semaphore.key_storage');
    }

    /** The channel `semaphore`, in a file of its own. */
    private function log(ContainerBuilder $container): void
    {
        $file = '%kernel.logs_dir%/%kernel.environment%.semaphore.log';
        if (!\class_exists(\Monolog\Handler\RotatingFileHandler::class)) {
            $container->register('avtonom_semaphore.logger', FileLogger::class)->setArguments([$file, 'semaphore']);

            return;
        }
        $container->register('avtonom_semaphore.logger_handler', \Monolog\Handler\RotatingFileHandler::class)->setArguments([$file]);
        $container->setDefinition('avtonom_semaphore.logger', (new Definition(\Monolog\Logger::class, ['semaphore']))
            ->addMethodCall('pushHandler', [new Reference('avtonom_semaphore.logger_handler')]));
    }
}
