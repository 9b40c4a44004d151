<?php

// Sites of Drupal's with the services file, on their own databases; what the documentation of Drupal's locks says to call;
// and the guide.

declare(strict_types=1);

namespace Synlock\Tests;

use Synlock\Drupal\LockBackend;
use Synlock\Drupal\PersistentLockBackend;

const SITE = __DIR__ . '/../lib/drupal-site.php';
const SAMPLE = __DIR__ . '/../samples/drupal/long-operation.php';
// A request: it does what it is told, and its long operation lasts until it is told to go on.
const REQUEST = <<<'PHP'
    require $arguments[0];
    bootSite($setup, $arguments[1]);
    $operate = static function (\Synlock\Drupal\LockBackend $lock) use (&$done): void {
        echo 'inside ', $lock->getLockId(), "\n";
        fgets(STDIN);
        $done = $lock->acquire('my_module_long_operation');
    };
    eval($arguments[2]);
    while (($order = fgets(STDIN)) !== false) {
        $done = null;
        $held = match (trim($order)) {
            'run' => my_module_long_operation(),
            'look' => \Drupal::lock()->wait('my_module_long_operation', 0),
            'wait' => \Drupal::lock()->wait('my_module_long_operation', 120),
        };
        echo json_encode([trim($order), $done, $held]), "\n";
    }
    PHP;

require_once __DIR__ . '/../lib/DrupalPeer.php';
require_once SITE;

return static function (Runner $t, Setup $setup): void {
    $ports = $setup->ports;
    $folder = $setup->folder('site');
    // Databases of their own: other cases drop the table of theirs.
    $name = 'drupal_site';
    DrupalPeer::connect("pgsql:host=127.0.0.1;port={$ports['postgres']};dbname=postgres", 'postgres')->exec("CREATE DATABASE {$name}");
    DrupalPeer::connect("mysql:host=127.0.0.1;port={$ports['mariadb']}", 'locker')->exec("CREATE DATABASE {$name}");
    $at = static fn (string $server): array => ['host' => '127.0.0.1', 'port' => (string) $ports[$server], 'password' => '', 'database' => $name];
    // As settings.php has them, from Drupal 8 to 11.
    $sites = [
        'sqlite' => ["sqlite:{$folder}/.ht.sqlite", '', ['driver' => 'sqlite', 'database' => "{$folder}/.ht.sqlite", 'prefix' => ['default' => '']]],
        'postgres' => ["pgsql:host=127.0.0.1;port={$ports['postgres']};dbname={$name}", 'postgres', ['driver' => 'pgsql', 'username' => 'postgres', 'prefix' => '', 'namespace' => 'Drupal\pgsql\Driver\Database\pgsql'] + $at('postgres')],
        'mysql' => ["mysql:host=127.0.0.1;port={$ports['mariadb']};dbname={$name}", 'locker', ['driver' => 'mysql', 'username' => 'locker', 'prefix' => '', 'collation' => 'utf8mb4_general_ci'] + $at('mariadb')],
    ];
    foreach ($sites as $engine => [$dsn, $user, $info]) {
        $t->test("drupal site::{$engine}: the services file alone locks in the site's own table", static function () use ($setup, $dsn, $user, $info): void {
            $request = $setup->process(
                'require $arguments[0]; bootSite($setup, $arguments[1]);'
                . '$lock = \Drupal::lock(); $kept = \Drupal::$container->get("lock.persistent");'
                . 'echo json_encode([$lock->acquire("cron"), $kept->acquire("kept"), $lock->getLockId()]), "\n"; fgets(STDIN);'
                . '$lock->release("cron"); $kept->release("kept"); echo "released\n"; fgets(STDIN);',
                [SITE, $info],
            );
            [$taken, $isKept, $id] = json_decode($request->line(), true, 4, JSON_THROW_ON_ERROR);
            $peer = new DrupalPeer(DrupalPeer::connect($dsn, $user));
            same([true, true], [$taken, $isKept]);
            same([$id, 'persistent'], [$peer->row('cron')['value'] ?? null, $peer->row('kept')['value'] ?? null], 'the rows');
            same([false, false], [$peer->acquire('cron'), $peer->acquire('kept')], "Drupal's own backend");
            $request->send('release');
            $request->expect('released');
            same([null, null, true], [$peer->row('cron'), $peer->row('kept'), $peer->acquire('cron')], 'free');
            $peer->releaseAll();
            same(0, $request->end(), $request->output);
        });

        $t->test("drupal site::{$engine}: the example of Drupal's documentation", static function () use ($setup, $dsn, $user, $info): void {
            $code = str_replace(['<?php', '// ...'], ['', '$GLOBALS["operate"]($lock);'], (string) file_get_contents(SAMPLE), $changes);
            same(2, $changes);
            [$one, $two] = [$setup->process(REQUEST, [SITE, $info, $code]), $setup->process(REQUEST, [SITE, $info, $code])];
            $peer = new DrupalPeer(DrupalPeer::connect($dsn, $user));
            $owner = static fn (): ?string => $peer->row('my_module_long_operation')['value'] ?? null;
            $ask = static function (Process $request, string $order): string {
                $request->send($order);

                return $request->line(150);
            };
            // Both have connected before the lease begins.
            foreach ([$one, $two] as $request) {
                same('["look",null,false]', $ask($request, 'look'));
            }
            $inside = $ask($one, 'run');
            same("inside {$owner()}", $inside);
            same('["run",null,null]', $ask($two, 'run'), 'not acquired: it returns at once, and nothing was done');
            same('["look",null,true]', $ask($two, 'look'), 'the lock holds');
            same($inside, "inside {$owner()}", 'the other one has its lock still');
            $two->send('wait');
            same('["run",true,null]', $ask($one, 'go on'), 'renewed, and done');
            same('["wait",null,false]', $two->line(150), 'it may be available');
            same(null, $owner(), 'released');
            $again = $ask($two, 'run');
            same("inside {$owner()}", $again);
            ok($again !== $inside, 'each request has an id of its own');
            same('["run",true,null]', $ask($two, 'go on'));
            same(null, $owner(), 'released');
            same([0, 0], [$one->end(), $two->end()], $one->output . $two->output);
        });
    }

    $t->test('drupal site::the services file overrides lock and lock.persistent, and a file after it the store', static function () use ($setup): void {
        $guide = (string) file_get_contents("{$setup->package}/DRUPAL.md");
        same(1, preg_match_all('/^```yaml\n(.+?)^```$/ms', $guide, $found));
        $own = "{$setup->folder('services')}/own.services.yml";
        file_put_contents($own, strtr($found[1][0], ['redis://redis.example/0' => "redis://127.0.0.1:{$setup->ports['redis']}?prefix=services:"]));
        same(1, preg_match("~'/\.\./vendor/synlock/synlock/(.+)';$~m", $guide, $listed));
        same('synlock.services.yml', $listed[1]);
        $container = compileServices(["{$setup->package}/{$listed[1]}", $own]);
        [$lock, $kept] = [$container->get('lock'), $container->get('lock.persistent')];
        same([LockBackend::class, PersistentLockBackend::class], [$lock::class, $kept::class]);
        same([true, false, 'persistent'], [$lock->acquire('x'), $kept->acquire('x'), $kept->getLockId()]);
        $lock->releaseAll();
    });

    $t->test('drupal site::the examples of the guide run', static function () use ($setup, $ports, $name, $sites): void {
        preg_match_all('/^```php\n(.*?)^```$/ms', (string) file_get_contents("{$setup->package}/DRUPAL.md"), $found);
        ok(\count($found[1]) >= 3, 'examples');
        $peer = new DrupalPeer(DrupalPeer::connect($sites['mysql'][0], $sites['mysql'][1]));
        $owner = static fn (string $table): mixed => $peer->run("SELECT value FROM {$table} WHERE name = 'cron'", [])->fetchColumn();
        $changes = [
            'redis://redis.example' => "redis://127.0.0.1:{$ports['redis']}",
            'mysql://user:password@db.example/site' => "mysql://locker@127.0.0.1:{$ports['mariadb']}/{$name}",
            '// Cron runs on neither site.' => 'echo "inside {$first->getLockId()} {$second->getLockId()}\n"; fgets(STDIN);',
        ];
        $looked = 0;
        foreach ($found[1] as $code) {
            $run = $setup->process('eval($arguments[0]); echo "the end\n";', [strtr($code, $changes)]);
            if (str_contains($code, '// Cron runs on neither site.')) {
                same($run->line(), "inside {$owner('semaphore')} {$owner('site2_semaphore')}");
                $run->send('go on');
                ++$looked;
            }
            same('the end', $run->line(), $code);
        }
        same([1, false, false], [$looked, $owner('semaphore'), $owner('site2_semaphore')]);
    });
};
