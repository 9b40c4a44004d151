<?php

declare(strict_types=1);

namespace Synlock\Guard\Bundle\DependencyInjection;

use Symfony\Component\DependencyInjection\Argument\ServiceClosureArgument;
use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\DependencyInjection\ContainerInterface;
use Symfony\Component\DependencyInjection\Exception\InvalidArgumentException;
use Symfony\Component\DependencyInjection\Extension\Extension;
use Symfony\Component\DependencyInjection\Reference;
use Symfony\Component\HttpKernel\KernelEvents;
use Synlock\Guard\Bundle\EventListener;
use Synlock\Guard\Bundle\MutexDataCollector;
use Synlock\Guard\Bundle\StoreOpener;
use Synlock\Guard\Guards;
use Synlock\Store;
use Synlock\Symfony\Internal\Timeline;
use Synlock\Symfony\LockFactory;
use Synlock\Symfony\SynlockStore;

final class IXarlieMutexExtension extends Extension
{
    public function getAlias(): string
    {
        return 'i_xarlie_mutex';
    }

    public function load(array $configs, ContainerBuilder $container): void
    {
        $config = $this->processConfiguration(new Configuration(), $configs);
        $guards = $container->register('ixarlie_mutex.guards', Guards::class)->setPublic(true)->setArguments([[], $config['dialect']]);
        $names = [];
        foreach (Configuration::TYPES as $type) {
            foreach ($config[$type] as $name => $store) {
                $names[] = "{$type}.{$name}";
                $this->service($container, $config['dialect'], $type, (string) $name, $store, $config);
                $blocking = $store['blocking'] ?? null;
                $guards->addMethodCall('add', [
                    "{$type}.{$name}",
                    new ServiceClosureArgument(new Reference("synlock.{$type}.{$name}")),
                    true,
                    isset($blocking) && $blocking['retry_count'] < \PHP_INT_MAX ? $blocking['retry_sleep'] * $blocking['retry_count'] / 1000 : null,
                    $store['default_ttl'] ?? null,
                ]);
            }
        }
        foreach ($config['factories'] as $factory) {
            $guards->addMethodCall('add', [$factory, new ServiceClosureArgument($this->behind($container, $factory))]);
        }
        if ($config['default'] === null || \in_array($config['default'], $config['factories'], true)) {
            $default = $config['default'] ?? $config['factories'][0];
            $container->setAlias('ixarlie_mutex.default_factory', $default)->setPublic(true);
        } else {
            $default = $this->short($config['default'], $names);
            [$type, $name] = \explode('.', $default, 2);
            $container->setAlias('ixarlie_mutex.default_factory', "ixarlie_mutex.{$type}_factory.{$name}")->setPublic(true);
        }
        $guards->addMethodCall('setDefault', [$default]);
        $container->setAlias(Guards::class, 'ixarlie_mutex.guards');
        if ($config['request_listener']['enabled']) {
            $this->listen($container, $config['request_listener'], $config['dialect']);
        }
    }

    /** The three services of a store: ours, the component's, and a factory. */
    private function service(ContainerBuilder $container, string $dialect, string $type, string $name, array $config, array $all): void
    {
        $id = "synlock.{$type}.{$name}";
        $store = $container->register($id, Store::class)
            ->setFactory([StoreOpener::class, 'open'])
            ->setArguments([$type, $dialect, $this->arguments($type, $config, $all)]);
        if ($config['logger'] !== null) {
            $store->addMethodCall('setLogger', [new Reference($config['logger'])]);
        }
        $container->register("ixarlie_mutex.{$type}_store.{$name}", SynlockStore::class)
            ->setArguments([new Reference($id), [], $config['default_ttl'] ?? 300.0]);
        $container->register("ixarlie_mutex.{$type}_factory.{$name}", LockFactory::class)
            ->setPublic(true)
            ->setArguments([new Reference("ixarlie_mutex.{$type}_store.{$name}")]);
    }

    private function behind(ContainerBuilder $container, string $factory): Reference
    {
        $container->register("synlock.behind.{$factory}", Store::class)
            ->setFactory([StoreOpener::class, 'behind'])
            ->setArguments([new Reference($factory)]);

        return new Reference("synlock.behind.{$factory}");
    }

    /** What `StoreOpener` needs for a store of this type; of the members for a combined one. */
    private function arguments(string $type, array $config, array $all): array
    {
        return match ($type) {
            'flock' => [$config['lock_dir']],
            'semaphore' => [],
            'redis', 'memcached' => [new Reference($config['client'])],
            'custom' => [new Reference($config['service'])],
            'synlock' => [$config['url']],
            'combined' => [
                \array_map(function (string $member) use ($all): array {
                    [$type, $name] = \explode('.', \preg_replace('/^ixarlie_mutex\.(\w+?)_store\./', '$1.', $member), 2) + ['', ''];
                    if (!isset($all[$type][$name]) || $type === 'custom') {
                        throw new InvalidArgumentException("i_xarlie_mutex: a combined store has members that are configured beside it, \"{$member}\" is none, nor may it be a custom one.");
                    }
                    $inner = $all[$type][$name];
                    if ($type === 'combined') {
                        unset($all[$type][$name]); // which is no member of itself
                    }

                    return [$type, $this->arguments($type, $inner, $all)];
                }, $config['stores']),
                \in_array($config['strategy'], ['unanimous', 'consensus'], true) ? $config['strategy'] : new Reference($config['strategy']),
            ],
        };
    }

    /** @param list<string> $names */
    private function short(string $name, array $names): string
    {
        $short = \preg_replace('/^(?:synlock\.|ixarlie_mutex\.(?=\w+_factory\.))(\w+?)(?:_factory)?\./', '$1.', $name);
        if (!\in_array($short, $names, true)) {
            throw new InvalidArgumentException(\sprintf('i_xarlie_mutex.default: there is no store "%s", there are: %s.', $name, \implode(', ', $names) ?: 'none'));
        }

        return $short;
    }

    /** @param array{priority: int, autorelease: bool, release: string} $config */
    private function listen(ContainerBuilder $container, array $config, string $dialect): void
    {
        $guards = new Reference('ixarlie_mutex.guards');
        $there = static fn (string $id): Reference => new Reference($id, ContainerInterface::NULL_ON_INVALID_REFERENCE);
        $container->register('ixarlie_mutex.timeline', Timeline::class)->setArguments([$there('debug.stopwatch')]);
        $container->register('ixarlie_mutex.decorator_listener', EventListener\MutexDecoratorListener::class)
            ->setArguments([$guards, $dialect, $there('security.token_storage'), $there('annotation_reader')])
            ->addTag('kernel.event_listener', ['event' => KernelEvents::CONTROLLER, 'method' => 'onController', 'priority' => $config['priority'] + 1]);
        $container->register('ixarlie_mutex.request_listener', EventListener\MutexRequestListener::class)
            ->setArguments([$guards, new Reference('ixarlie_mutex.timeline'), $config['release'], $there('logger')])
            ->addTag('kernel.event_listener', ['event' => KernelEvents::CONTROLLER, 'method' => 'onController', 'priority' => $config['priority']]);
        $container->register('ixarlie_mutex.exception_listener', EventListener\MutexExceptionListener::class)
            ->setArguments([$there('translator')])
            ->addTag('kernel.event_listener', ['event' => KernelEvents::EXCEPTION, 'method' => 'onException', 'priority' => 255]);
        if ($config['autorelease']) {
            // Before the listener that sends a streamed response, and after everything else.
            $container->register('ixarlie_mutex.release_listener', EventListener\MutexReleaseListener::class)
                ->addTag('kernel.event_listener', ['event' => KernelEvents::RESPONSE, 'method' => 'onResponse', 'priority' => -1023])
                ->addTag('kernel.event_listener', ['event' => KernelEvents::FINISH_REQUEST, 'method' => 'onFinish', 'priority' => -255])
                ->addTag('kernel.event_listener', ['event' => KernelEvents::TERMINATE, 'method' => 'onTerminate', 'priority' => -255]);
        }
        $container->register('ixarlie_mutex.data_collector', MutexDataCollector::class)
            ->addTag('data_collector', ['id' => MutexDataCollector::NAME, 'template' => '@IXarlieMutex/Collector/mutex.html.twig']);
    }
}
