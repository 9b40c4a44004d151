//! `zookeeper:` beside Python's kazoo, and beside kazoo as it locks among Curator's nodes.

use crate::pair::{Pair, python};
use std::sync::Arc;
use synlock_tests::load::patient;
use synlock_tests::services::zookeeper::ZookeeperServer;

pub(crate) fn pairs() -> Vec<Pair> {
    let server = Arc::new(ZookeeperServer::start());
    [
        ("zookeeper-kazoo+Lock", "kazoo", "/locks/a", "lock"),
        ("zookeeper-kazoo+WriteLock", "kazoo", "/locks/b", "write"),
        ("zookeeper-curator+kazoo", "curator", "/locks/c", "curator"),
    ]
    .into_iter()
    .map(|(name, dialect, lock, recipe)| Pair {
        name,
        url: patient(&format!("{}&dialect={dialect}", server.url())),
        lock: lock.to_owned(),
        peer: python("kazoo_peer.py", &[&server.hosts(), lock, recipe]),
        frees_on_death: true,
        _keep: server.clone(),
    })
    .collect()
}
