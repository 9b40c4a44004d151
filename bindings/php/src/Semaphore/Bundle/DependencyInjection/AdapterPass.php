<?php

declare(strict_types=1);

namespace Synlock\Semaphore\Bundle\DependencyInjection;

use Symfony\Component\DependencyInjection\Compiler\CompilerPassInterface;
use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\DependencyInjection\Reference;

/** Puts the services that the configuration names into the place of their names. */
final class AdapterPass implements CompilerPassInterface
{
    public function process(ContainerBuilder $container): void
    {
        if (!$container->hasDefinition('avtonom_semaphore.store')) {
            return;
        }
        $store = $container->getDefinition('avtonom_semaphore.store');
        $adapter = $container->getParameter('avtonom_semaphore.adapter');
        if (\is_string($adapter) && $container->has($adapter)) {
            $store->replaceArgument(0, new Reference($adapter));

            return;
        }
        $kind = \is_string($adapter) && \str_ends_with($adapter, '.memcached') ? 'memcached' : 'redis';
        $client = $container->getParameter("avtonom_semaphore.adapter_{$kind}_client");
        if ($client !== null) {
            $store->replaceArgument(1, new Reference($client));
        }
    }
}
