<?php

// Synlock\Symfony\SynlockStore over every kind of URL.

declare(strict_types=1);

namespace Synlock\Tests;

use Synlock\Store;
use Synlock\Symfony\SynlockStore;

return static function (Runner $t, Setup $setup): void {
    foreach ($setup->urls() as $name => $url) {
        $can = Store::open($url)->capabilities();
        $kinds = array_keys(array_filter([
            'shared' => $can->shared, 'promote' => $can->promote, 'ttl' => $can->ttl, 'serializable' => $can->export,
            'alone' => $can->scope === 'process',
            'ends' => $can->ttl, 'whole' => in_array($name, ['memcached', 'etcd'], true),
        ]));
        // A lease of a store that counts in whole seconds.
        behaviours($t, $setup, $name, static fn (): object => new SynlockStore($url, initialTtl: 300.0), $kinds, in_array('whole', $kinds, true) ? 0.2 : 0.05);
    }
};
