<?php

declare(strict_types=1);

namespace Synlock\Semaphore\Bundle\DependencyInjection;

use Symfony\Component\Config\Definition\Builder\TreeBuilder;
use Symfony\Component\Config\Definition\ConfigurationInterface;
use Synlock\Semaphore\SemaphoreKeyStorageBase;
use Synlock\Semaphore\SemaphoreManager;

/** The tree `avtonom_semaphore`, as it stands in the original. */
final class Configuration implements ConfigurationInterface
{
    public function getConfigTreeBuilder(): TreeBuilder
    {
        $builder = new TreeBuilder('avtonom_semaphore');
        $builder->getRootNode()
            ->addDefaultsIfNotSet()
            ->children()
                ->scalarNode('adapter')
                    ->info('A synlock URL, the service of a Synlock\Store, or an adapter of the original')
                    ->defaultValue('avtonom_semaphore.adapter.redis')
                ->end()
                ->scalarNode('adapter_redis_client')->info('Service of a Redis client')->defaultNull()->end()
                ->scalarNode('adapter_memcached_client')->info('Service of a Memcached client')->defaultNull()->end()
                ->scalarNode('mode')->info('demo: nothing is written, all is logged')->defaultNull()->end()
                ->scalarNode('key_storage_class')->defaultValue(SemaphoreKeyStorageBase::class)->end()
                ->scalarNode('manager_class')->defaultValue(SemaphoreManager::class)->end()
                ->booleanNode('is_exception_repeat_block_key')->defaultTrue()->end()
                ->booleanNode('use_extended_methods')->defaultTrue()->end()
            ->end();

        return $builder;
    }
}
