//! `memcached:` beside Symfony's store.

use crate::pair::{Pair, php};
use std::sync::Arc;
use synlock_tests::load::patient;
use synlock_tests::memcached::MemcachedServer;
use synlock_tests::names::unique;

pub(crate) fn pairs() -> Vec<Pair> {
    let server = MemcachedServer::start();
    let name = unique("import-1");
    let port = server.port().to_string();
    vec![Pair {
        name: "memcached-symfony+MemcachedStore",
        url: patient(&format!(
            "{}?dialect=symfony&ttl=6000&renew=1",
            server.url()
        )),
        lock: name.clone(),
        peer: php("symfony.php", &["memcached", &name, &port]),
        frees_on_death: true,
        _keep: Arc::new(server),
    }]
}
