<?php

// Stores that keep their locks in a table.

declare(strict_types=1);

namespace Synlock\Tests;

use Synlock\Exception\InvalidArgument;
use Synlock\Exception\Unsupported;
use Synlock\Store;

return static function (Runner $t, string $temp, string $package, string $redis): void {
    $t->test('table::made beforehand, or its statements told', static function () use ($temp): void {
        $names = static fn (string $file): array => (new \PDO("sqlite:{$file}"))->query("SELECT name FROM sqlite_master WHERE type = 'table'")->fetchAll(\PDO::FETCH_COLUMN);
        $store = Store::open("sqlite:{$temp}/made.db?table=of_mine");
        $store->createTable();
        $store->createTable(5.0);
        ok(in_array('of_mine', $names("{$temp}/made.db"), true), 'the table');
        $lock = $store->createLock('x');
        ok($lock->acquire(), 'a lock in it');
        $lock->release();

        $told = Store::open("sqlite:{$temp}/told.db?table=of_mine");
        (new \PDO("sqlite:{$temp}/told.db"))->exec($told->ddl());
        ok(in_array('of_mine', $names("{$temp}/told.db"), true), 'the table from its statements');
        foreach (['sqlite', 'postgres', 'mysql'] as $engine) {
            ok(str_contains($told->ddl($engine), 'CREATE TABLE'), $engine);
        }
        throws(InvalidArgument::class, static fn () => $told->ddl('oracle'));
        throws(Unsupported::class, static fn () => Store::open('memory:')->createTable());
        throws(Unsupported::class, static fn () => Store::open('memory:')->ddl());
    });
};
