<?php

// The guides "coming from Symfony's Lock component" and "coming from Laravel": their code, and the framework.

declare(strict_types=1);

namespace Synlock\Tests;

use Symfony\Bundle\FrameworkBundle\FrameworkBundle;
use Symfony\Component\Config\Loader\LoaderInterface;
use Symfony\Component\DependencyInjection\ContainerBuilder;
use Symfony\Component\HttpKernel\Kernel;
use Symfony\Component\Lock\LockFactory;

/** @return list<string> */
function blocks(Setup $setup, string $guide, string $language): array
{
    preg_match_all("/^```{$language}\n(.+?)^```$/ms", (string) file_get_contents("{$setup->package}/{$guide}.md"), $found);

    return $found[1];
}

return static function (Runner $t, Setup $setup): void {
    foreach (['coming-from-symfony-lock' => 2, 'coming-from-laravel' => 4] as $guide => $count) {
        $blocks = blocks($setup, $guide, 'php');
        $t->test("guides::{$guide} has code", static fn () => same($count, count($blocks)));
        foreach ($blocks as $number => $block) {
            $t->test("guides::{$guide}, example " . ($number + 1), static function () use ($setup, $block): void {
                $address = "127.0.0.1:{$setup->ports['redis']}";
                $code = strtr($block, ['redis://localhost' => "redis://{$address}/15", "connect('localhost')" => "connect('127.0.0.1', {$setup->ports['redis']})"]);
                file_put_contents("{$setup->temp}/example.php", "<?php\n{$code}");
                $process = $setup->process('require_once "Illuminate/Cache/autoload.php"; require $arguments[0];', ["{$setup->temp}/example.php"]);
                same(0, $process->wait(), $process->output);
                same('', $process->output);
            });
        }
    }

    $t->test('guides::the framework\'s lock configuration', static function () use ($setup): void {
        require_once 'Symfony/Bundle/FrameworkBundle/autoload.php';
        require_once 'Symfony/Component/Yaml/autoload.php';
        [$services] = blocks($setup, 'coming-from-symfony-lock', 'yaml');
        file_put_contents("{$setup->temp}/services.yaml", $services);
        $_ENV['LOCK_URL'] = $_SERVER['LOCK_URL'] = "shm:{$setup->folder('shm')}/framework";
        $kernel = new class ($setup->temp) extends Kernel {
            public function __construct(private readonly string $folder)
            {
                parent::__construct('test', false);
            }

            public function registerBundles(): iterable
            {
                return [new FrameworkBundle()];
            }

            public function getProjectDir(): string
            {
                return $this->folder;
            }

            public function registerContainerConfiguration(LoaderInterface $loader): void
            {
                $loader->load(function (ContainerBuilder $container): void {
                    $container->loadFromExtension('framework', ['secret' => 'x', 'http_method_override' => false, 'lock' => 'flock']);
                    $container->setAlias('test.factory', LockFactory::class)->setPublic(true);
                });
                $loader->load("{$this->folder}/services.yaml");
            }
        };
        $kernel->boot();
        $factory = $kernel->getContainer()->get('test.factory');
        same(LockFactory::class, $factory::class);
        $lock = $factory->createLock('configured', 30);
        same(true, $lock->acquire());
        same(true, \Synlock\Store::open($_ENV['LOCK_URL'])->isLocked('configured'));
        $lock->release();
        $kernel->shutdown();
    });

    $t->test('guides::an invokable command, whose name is in its attribute', static function () use ($setup): void {
        require_once 'Symfony/Component/Console/autoload.php';
        $factory = new LockFactory(new \Synlock\Symfony\SynlockStore($setup->urls()['shm']));
        $named = new #[\Symfony\Component\Console\Attribute\AsCommand('guides:invokable')] class ($factory) {
            use \Synlock\Symfony\LockableTrait;

            public function __construct(LockFactory $factory)
            {
                $this->lockFactory = $factory;
            }

            public function __invoke(): int
            {
                return $this->lock() ? 0 : 9;
            }
        };
        same(0, $named());
        same(false, $factory->createLock('guides:invokable')->acquire());
        throws(\Symfony\Component\Console\Exception\LogicException::class, $named(...)); // in place already
        $nameless = new class {
            use \Synlock\Symfony\LockableTrait;

            public function __invoke(): int
            {
                return $this->lock() ? 0 : 9;
            }
        };
        throws(\Symfony\Component\Console\Exception\LogicException::class, $nameless(...));
    });

    $t->test('guides::a command with LockableTrait, and the same lock', static function () use ($setup): void {
        require_once 'Symfony/Component/Console/autoload.php';
        $command = new class ('guides:' . $setup->folder('command')) extends \Symfony\Component\Console\Command\Command {
            use \Symfony\Component\Console\Command\LockableTrait;

            protected function execute(
                \Symfony\Component\Console\Input\InputInterface $input,
                \Symfony\Component\Console\Output\OutputInterface $output,
            ): int {
                return $this->lock() ? (int) $this->release() : 9;
            }
        };
        $run = static fn (): int => $command->run(new \Symfony\Component\Console\Input\ArrayInput([]), new \Symfony\Component\Console\Output\NullOutput());
        same(0, $run());
        $lock = (new LockFactory(new \Synlock\Symfony\Store\SemaphoreStore('md5')))->createLock($command->getName());
        same(true, $lock->acquire());
        same(9, $run());
        $lock->release();
        same(0, $run());
    });
};
