<?php

declare(strict_types=1);

namespace Synlock\Guard\Bundle\DependencyInjection;

use Symfony\Component\Config\Definition\Builder\NodeBuilder;
use Symfony\Component\Config\Definition\Builder\TreeBuilder;
use Symfony\Component\Config\Definition\ConfigurationInterface;
use Synlock\Guard\MutexRequest;

/** The tree `i_xarlie_mutex` of the original, `factories` from its 2.1; with `dialect`, the stores `synlock` and `request_listener.release` added. */
final class Configuration implements ConfigurationInterface
{
    public const TYPES = ['flock', 'semaphore', 'redis', 'memcached', 'combined', 'custom', 'synlock'];

    public function getConfigTreeBuilder(): TreeBuilder
    {
        $builder = new TreeBuilder('i_xarlie_mutex');
        $node = $builder->getRootNode();
        $node->validate()
            ->ifTrue(static fn (array $tree): bool => $tree['default'] === null && $tree['factories'] === [])
            ->thenInvalid('The child config "default" under "i_xarlie_mutex" must be configured, or "factories".');
        $root = $node->children();
        $root->scalarNode('default')->info('TYPE.NAME; the first factory if there is none')->cannotBeEmpty()->defaultNull();
        $root->arrayNode('factories')
            ->info('As in 2.1: services of lock factories, of stores of the component or of synlock')
            ->scalarPrototype()->cannotBeEmpty();
        $root->enumNode('dialect')
            ->info('ixarlie, ixarlie2: names and entries of the original before 2.0 or of 2.1, so that both exclude each other')
            ->values(['native', 'ixarlie', 'ixarlie2'])->defaultValue('native');
        foreach (self::TYPES as $type) {
            $store = $root->arrayNode($type)->useAttributeAsKey('name')->arrayPrototype()->children();
            $this->store($type, $store);
            $store->scalarNode('logger')->info('Service of a PSR-3 logger')->defaultNull();
            $blocking = $store->arrayNode('blocking')
                ->info('How long the mode queue waits: the product. Waiting is woken, not repeated')->children();
            $blocking->integerNode('retry_sleep')->info('Milliseconds')->min(1)->defaultValue(100);
            $blocking->integerNode('retry_count')->min(1)->defaultValue(\PHP_INT_MAX);
        }
        $listener = $root->arrayNode('request_listener')->addDefaultsIfNotSet()->children();
        $listener->booleanNode('enabled')->defaultTrue();
        $listener->integerNode('priority')->defaultValue(255);
        $listener->booleanNode('autorelease')->defaultTrue();
        $listener->enumNode('release')
            ->info('When: response is the end of its body, terminate comes after it')
            ->values([MutexRequest::RELEASE_RESPONSE, MutexRequest::RELEASE_TERMINATE])
            ->defaultValue(MutexRequest::RELEASE_RESPONSE);

        return $builder;
    }

    private function store(string $type, NodeBuilder $store): void
    {
        switch ($type) {
            case 'flock':
                $store->scalarNode('lock_dir')->isRequired()->cannotBeEmpty();
                break;
            case 'redis':
            case 'memcached':
                $store->scalarNode('client')->info('Service of a client')->isRequired()->cannotBeEmpty();
                $store->floatNode('default_ttl')->info('Seconds')->defaultValue(300.0);
                break;
            case 'combined':
                $store->arrayNode('stores')->isRequired()->requiresAtLeastOneElement()->scalarPrototype();
                $store->scalarNode('strategy')->info('unanimous, consensus, or the service of a strategy of either kind')
                    ->cannotBeEmpty()->defaultValue('unanimous');
                break;
            case 'custom':
                $store->scalarNode('service')->info('Service of a Synlock\Store, a Synlock\CustomStore, or a store of the component')->isRequired()->cannotBeEmpty();
                break;
            case 'synlock':
                $store->scalarNode('url')->isRequired()->cannotBeEmpty();
                $store->floatNode('default_ttl')->info('Seconds')->defaultNull();
        }
    }
}
