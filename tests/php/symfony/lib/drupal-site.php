<?php

// A site of Drupal's, as far as its locks go: what tells of its database, the container of its services, and `\Drupal`,
// which modules ask for them.

declare(strict_types=1);

namespace Drupal\Core\Database {
    final class Database
    {
        /** @var array<string, array<string, array<string, mixed>>> as in settings.php */
        public static array $databases = [];

        /** @return array<string, array<string, mixed>>|null */
        public static function getConnectionInfo($key = 'default'): ?array
        {
            return self::$databases[$key] ?? null;
        }
    }
}

namespace {
    final class Drupal
    {
        public static \Psr\Container\ContainerInterface $container;

        public static function lock(): \Synlock\Drupal\LockBackend
        {
            return self::$container->get('lock');
        }
    }
}

namespace Synlock\Tests {
    use Drupal\Core\Database\Database;
    use Symfony\Component\Config\FileLocator;
    use Symfony\Component\DependencyInjection\ContainerBuilder;
    use Symfony\Component\DependencyInjection\Loader\YamlFileLoader;

    foreach (['Config', 'DependencyInjection', 'Yaml'] as $component) {
        require_once "Symfony/Component/{$component}/autoload.php";
    }

    /**
     * Its container: its core's services, and then the files that `container_yamls` lists.
     *
     * @param list<string> $files
     */
    function compileServices(array $files): ContainerBuilder
    {
        $container = new ContainerBuilder();
        $container->register('lock', \stdClass::class);
        $container->register('lock.persistent', \stdClass::class);
        foreach ($files as $file) {
            (new YamlFileLoader($container, new FileLocator()))->load($file);
        }
        // Drupal's loader makes all of them public.
        $container->getDefinition('lock')->setPublic(true);
        $container->getDefinition('lock.persistent')->setPublic(true);
        $container->compile();

        return $container;
    }

    /**
     * Its start, with the services file as it is shipped and nothing else.
     *
     * @param array<string, mixed> $info of its database
     */
    function bootSite(Setup $setup, array $info): void
    {
        Database::$databases['default']['default'] = $info;
        \Drupal::$container = compileServices(["{$setup->package}/synlock.services.yml"]);
    }
}
