<?php

declare(strict_types=1);

namespace Synlock\Semaphore\Bundle\DependencyInjection;

use Symfony\Component\DependencyInjection\Compiler\CompilerPassInterface;
use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\DependencyInjection\Reference;
use Synlock\Symfony\Internal\Timeline;

/** Puts the services that the configuration names into the place of their names, and the timeline into a manager that takes one. */
final class AdapterPass implements CompilerPassInterface
{
    public function process(ContainerBuilder $container): void
    {
        if (!$container->hasDefinition('avtonom_semaphore.store')) {
            return;
        }
        $this->addTimeline($container);
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

    /** A manager of the application's own may have the original's constructor. */
    private function addTimeline(ContainerBuilder $container): void
    {
        if (!$container->has('debug.stopwatch')) {
            return;
        }
        $manager = $container->getDefinition('avtonom_semaphore.manager');
        $constructor = $container->getReflectionClass($container->getParameterBag()->resolveValue($manager->getClass()))?->getConstructor();
        foreach ($constructor?->getParameters() ?? [] as $parameter) {
            if ((string) $parameter->getType() === '?' . Timeline::class) {
                $container->register('avtonom_semaphore.timeline', Timeline::class)
                    ->setArguments([new Reference('debug.stopwatch'), 'semaphore']);
                $manager->setArgument("\${$parameter->getName()}", new Reference('avtonom_semaphore.timeline'));
            }
        }
    }
}
