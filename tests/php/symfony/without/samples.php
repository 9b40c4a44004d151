<?php

// The samples of the component's documentation, with other imports.

declare(strict_types=1);

namespace Synlock\Tests;

/** What a sample is given, where its text says `// ...`, and what must hold at its end. */
const AFTER = [
    '01-usage' => 'same(false, $lock->isAcquired()); same(true, $factory->createLock("pdf-invoice-generation")->acquire());',
    '02-blocking' => 'same(true, $lock->isAcquired()); same(false, $factory->createLock("notification-flush")->acquire());',
    '03-expiring' => 'same(false, $lock->isAcquired());',
    '04-refreshing' => 'same(false, $lock->isAcquired()); same(true, $factory->createLock("charts-generation")->acquire());',
    '05-another-ttl' => 'ok(($left = $lock->getRemainingLifetime()) > 590 && $left <= 600, "600 s"); $lock->refresh(); ok(($left = $lock->getRemainingLifetime()) > 20 && $left <= 30, "30 s again");',
    '13-robust' => 'same(true, $lock->isAcquired()); same(false, $lock->isExpired()); ok($lock->getRemainingLifetime() > 5, "time is left");',
];
// Of a sample that ends with a store.
const STORE = '$factory = new \Synlock\Symfony\LockFactory($store); $lock = $factory->createLock("sample", 30);'
    . 'same([true, false, true], [$lock->acquire(), $factory->createLock("sample")->acquire(), $lock->isAcquired()]);'
    . '$lock->refresh(); $lock->release(); same(true, $factory->createLock("sample")->acquire());';

return static function (Runner $t, Setup $setup): void {
    $ports = $setup->ports;
    $flags = new \PDO("mysql:host=127.0.0.1;port={$ports['mariadb']}", 'locker', '');
    $flags->exec('CREATE DATABASE IF NOT EXISTS `lock`');
    $three = implode(', ', array_map(static fn (int $database): string => "[{$ports['redis']}, {$database}]", [11, 12, 13]));
    $changes = [
        'Symfony\Component\Lock\\' => 'Synlock\Symfony\\',
        'tcp://localhost:6379' => "tcp://127.0.0.1:{$ports['redis']}",
        "'localhost', 11211" => "'127.0.0.1', {$ports['memcached']}",
        'host=127.0.0.1;dbname=lock' => "host=127.0.0.1;port={$ports['mariadb']};dbname=lock",
        "'myuser'" => "'locker'",
        "'mypassword'" => "''",
        "connect('localhost')" => "connect('127.0.0.1', {$ports['redis']})",
        "array('server1', 'server2', 'server3')" => "[{$three}]",
        'connect($server)' => "connect('127.0.0.1', \$server[0]); \$redis->select(\$server[1])",
        "Zookeeper('localhost:2181')" => "Zookeeper('127.0.0.1:{$ports['zookeeper']}')",
    ];
    foreach (glob(__DIR__ . '/../samples/*.php') as $file) {
        $name = basename($file, '.php');
        foreach (['Factory', 'LockFactory'] as $spelling) {
            $text = strtr((string) file_get_contents($file), $changes);
            if ($spelling === 'LockFactory') {
                if (!str_contains($text, 'Factory;')) {
                    continue;
                }
                $text = strtr($text, ['\Factory;' => '\LockFactory;', 'new Factory(' => 'new LockFactory(']);
            }
            $t->test("samples {$name}, {$spelling}", static function () use ($setup, $name, $text): void {
                // The lock of 05 has been taken where its text says so.
                $text = $name === '05-another-ttl' ? preg_replace('~^// \.\.\.$~m', '$lock->acquire();', $text, 1) : $text;
                file_put_contents("{$setup->temp}/sample.php", $text);
                $process = $setup->process(
                    'require_once "Predis/Autoloader.php"; \Predis\Autoloader::register(); require $arguments[2];'
                    . '$connected = new \Redis(); $connected->connect("127.0.0.1", $setup->ports["redis"]);'
                    . '$factory = new \Synlock\Symfony\LockFactory(new \Synlock\Symfony\Store\RedisStore($connected));'
                    . '$finished = false; pcntl_async_signals(true); pcntl_signal(SIGALRM, function () use (&$finished) { $finished = true; }); pcntl_alarm(1);'
                    . 'require $arguments[0]; ' . (AFTER[$name] ?? STORE) . ' echo "done";',
                    ["{$setup->temp}/sample.php", $name, __DIR__ . '/../lib/Zookeeper.php'],
                );
                same(0, $process->wait(), $process->output);
                same('done', $process->output);
            });
        }
    }
};
