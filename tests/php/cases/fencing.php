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

    require_once "{$temp}/scripts/fenced.php";
    foreach (['sqlite', 'redis'] as $kind) {
        $t->test("fencing::{$kind} refuses a holder that was stopped for longer than its lease", static function () use ($kind, $temp, $redis): void {
            $url = $kind === 'redis' ? $redis : "shm:{$temp}/fenced/locks";
            @mkdir("{$temp}/fenced", 0o700);
            $place = $kind === 'redis' ? "{$temp}/redis.sock" : "{$temp}/fenced.db";
            if ($kind === 'sqlite') {
                $database = new \PDO("sqlite:{$place}");
                array_map($database->exec(...), [...Fencing::ddl('sqlite'), 'CREATE TABLE data (v TEXT)', "INSERT INTO data VALUES ('')"]);
            }
            $holder = new Process([PHP_BINARY, "{$temp}/scripts/fenced.php", $url, $kind, $place]);
            $said = $holder->line();
            ok(sscanf($said, 'written %d', $old) === 1, $said);
            $holder->signal(SIGSTOP);
            $heir = Store::open($url)->createLock('invoice', ttl: 60.0);
            same(true, $heir->acquire(true, 60));
            ok($heir->fencingToken() > $old, "a token above {$old}");
            same('written', \fenced_write($kind, $place, $heir->fencingToken(), 'second'));
            // It goes on where it was stopped, and believes in the token that it has.
            $holder->signal(SIGCONT);
            $holder->send('go');
            $said = $holder->line();
            ok(str_contains($said, 'stale') && str_contains($said, (string) $old), $said);
            same(0, $holder->end(), $holder->output);
            same('written', \fenced_write($kind, $place, $heir->fencingToken(), 'third'));
            if ($kind === 'sqlite') {
                same('third', $database->query('SELECT v FROM data')->fetchColumn());
            } else {
                $client = new \Redis();
                $client->connect($place);
                same('third', $client->get('fenced-data'));
            }
            $heir->release();
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
