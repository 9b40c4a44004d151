<?php

// The checking half of fencing.

declare(strict_types=1);

namespace Synlock\Tests;

use Synlock\Exception\InvalidArgument;
use Synlock\Exception\LockLost;
use Synlock\Exception\Unsupported;
use Synlock\Fencing;
use Synlock\Store;

return static function (Runner $t, string $temp, string $package, string $redis): void {
    foreach ([\PDO::ERRMODE_EXCEPTION, \PDO::ERRMODE_SILENT] as $mode) {
        $t->test("fencing::SQLite through PDO refuses an older token (error mode {$mode})", static function () use ($mode): void {
            $database = new \PDO('sqlite::memory:', null, null, [\PDO::ATTR_ERRMODE => $mode]);
            for ($i = 0; $i < 2; ++$i) {
                foreach (Fencing::ddl('sqlite') as $sql) {
                    $database->exec($sql);
                }
            }
            Fencing::check($database, 'invoice', 8);
            Fencing::check($database, 'invoice', 8);
            $database->beginTransaction();
            $error = throws(LockLost::class, static fn () => Fencing::check($database, 'invoice', 7));
            same($mode === \PDO::ERRMODE_EXCEPTION, $error->getPrevious() instanceof \PDOException);
            $database->rollBack();
            Fencing::check($database, 'another', 1);
            same([['8']], array_map(static fn ($row) => [(string) $row[0]], $database->query("SELECT token FROM synlock_fence WHERE name = 'invoice'")->fetchAll(\PDO::FETCH_NUM)));
            throws(\PDOException::class, static fn () => Fencing::check($database, 'invoice', 9, 'no_such_table'));
        });
    }

    $t->test('fencing::a store refuses what is required and it lacks', static function (): void {
        Store::open('memory:', ['require' => 'fence,crash_release'])->createLock('x');
        $store = Store::open('memory:?require=quorum');
        throws(Unsupported::class, static fn () => $store->ping());
        throws(Unsupported::class, static fn () => $store->createLock('x'));
        throws(InvalidArgument::class, static fn () => Store::open('memory:?require=wings'));
    });

    $t->test('fencing::texts', static function (): void {
        foreach (['sqlite', 'pgsql', 'mysql'] as $driver) {
            ok(str_starts_with(Fencing::ddl($driver, 'app.fence')[0], 'CREATE TABLE IF NOT EXISTS'), $driver);
            ok(count(Fencing::trigger($driver, 'account', 'fence')) >= 1, $driver);
        }
        ok(str_contains(Fencing::statement('postgres'), '$2'), 'the marks of PostgreSQL');
        ok(str_contains(Fencing::redisScript(), 'STALE'), 'the script');
        throws(InvalidArgument::class, static fn () => Fencing::ddl('oracle'));
        throws(InvalidArgument::class, static fn () => Fencing::statement('sqlite', 'x"; --'));
    });
};
