<?php

declare(strict_types=1);

namespace Synlock\Semaphore\Bundle;

use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\HttpKernel\Bundle\Bundle;
use Synlock\Semaphore\Bundle\DependencyInjection\AdapterPass;

/** Avtonom's semaphore bundle: the same configuration, parameters and services, over synlock. */
final class AvtonomSemaphoreBundle extends Bundle
{
    public function build(ContainerBuilder $container): void
    {
        parent::build($container);
        $container->addCompilerPass(new AdapterPass());
    }
}
