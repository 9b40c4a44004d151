<?php

// Takes a lock for a moment, writes through a guard, says its token; spoken to, it writes again and says what became
// of that. Words: the lock's URL, `sqlite` or `redis`, and where the data are.

declare(strict_types=1);

use Synlock\Exception\LockLost;
use Synlock\Fencing;
use Synlock\Store;

require getenv('SYNLOCK_PACKAGE') . '/autoload.php';

/** @return string `written`, or the words of the refusal */
function fenced_write(string $kind, string $place, int $token, string $value): string
{
    if ($kind === 'sqlite') {
        $database = new PDO("sqlite:{$place}", null, null, [PDO::ATTR_TIMEOUT => 60]);
        $database->exec('BEGIN IMMEDIATE');
        try {
            Fencing::check($database, 'invoice', $token);
            $database->prepare('UPDATE data SET v = ?')->execute([$value]);
            $database->exec('COMMIT');
        } catch (LockLost $error) {
            $database->exec('ROLLBACK');

            return $error->getMessage();
        }

        return 'written';
    }
    $redis = new Redis();
    $redis->connect($place);
    try {
        $redis->eval(Fencing::redisScript(), ['fenced-token', 'fenced-data', $token, 'SET', 'fenced-data', $value], 2);
    } catch (RedisException $error) {
        return $error->getMessage();
    }

    return 'written';
}

// Not where it is read for its function.
if (get_included_files()[0] === __FILE__) {
    [, $url, $kind, $place] = $argv;
    $lock = Store::open($url)->createLock('invoice', ttl: 0.3);
    $lock->acquire(true, 60);
    $token = $lock->fencingToken();
    echo fenced_write($kind, $place, $token, 'first'), " {$token}\n";
    fgets(STDIN);
    echo fenced_write($kind, $place, $token, 'late'), "\n";
}
