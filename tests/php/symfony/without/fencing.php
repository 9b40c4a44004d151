<?php

// The checking half of fencing on the servers of databases: SQLite's is in tests/php.

declare(strict_types=1);

namespace Synlock\Tests;

use Synlock\Exception\LockLost;
use Synlock\Fencing;
use Synlock\Store;

return static function (Runner $t, Setup $setup): void {
    $clients = new Clients($setup);
    foreach (['mysql', 'pgsql'] as $engine) {
        $t->test("fencing::{$engine} refuses a holder whose lease is over", static function () use ($clients, $engine): void {
            $url = strtok($clients->url($engine), '?');
            $pdo = $clients->pdo($engine);
            array_map($pdo->exec(...), [
                ...Fencing::ddl($engine, 'guards'),
                'CREATE TABLE fenced (v VARCHAR(20), fence BIGINT)',
                "INSERT INTO fenced VALUES ('', NULL)",
                ...Fencing::trigger($engine, 'fenced', 'fence'),
            ]);
            $write = static function (int $token, string $value) use ($pdo): void {
                $pdo->beginTransaction();
                try {
                    Fencing::check($pdo, "inv'oice", $token, 'guards');
                    $pdo->prepare('UPDATE fenced SET v = ?')->execute([$value]);
                    $pdo->commit();
                } catch (LockLost $error) {
                    $pdo->rollBack();
                    throw $error;
                }
            };
            // It does not ask whether it still holds: it cannot know.
            $first = Store::open($url)->createLock("inv'oice", ttl: 0.2);
            same(true, $first->acquire(true, 60));
            $old = $first->fencingToken();
            $heir = Store::open($url)->createLock("inv'oice", ttl: 60.0);
            same(true, $heir->acquire(true, 60));
            $write($heir->fencingToken(), 'new');
            throws(LockLost::class, static fn () => $write($old, 'late'));
            $write($heir->fencingToken(), 'newer');
            same('newer', $pdo->query('SELECT v FROM fenced')->fetchColumn());
            // A table of one's own, whose rows carry the token.
            $pdo->exec("UPDATE fenced SET fence = {$heir->fencingToken()}");
            $error = throws(\PDOException::class, static fn () => $pdo->exec("UPDATE fenced SET fence = {$old}"));
            ok(str_contains($error->getMessage(), Fencing::STALE), $error->getMessage());
            $heir->release();
        });
    }
};
