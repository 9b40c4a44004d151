<?php
// Takes and frees locks of symfony/lock's PostgreSqlStore as it is told, one order a line.
declare(strict_types=1);

require '/usr/share/php/Symfony/Component/Lock/autoload.php';

use Symfony\Component\Lock\Exception\LockConflictedException;
use Symfony\Component\Lock\Key;
use Symfony\Component\Lock\Store\PostgreSqlStore;

$store = new PostgreSqlStore($argv[1]);
$keys = [];
while (($line = fgets(STDIN)) !== false) {
    [$order, $name] = explode(' ', rtrim($line, ";\n"), 2);
    $keys[$name] ??= new Key($name);
    try {
        match ($order) {
            'try' => $store->save($keys[$name]),
            'read' => $store->saveRead($keys[$name]),
            'free' => $store->delete($keys[$name]),
        };
        echo $order === 'free' ? "free\n" : "held\n";
    } catch (LockConflictedException) {
        echo "busy\n";
    }
}
