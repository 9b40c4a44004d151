//! `etcd:` beside the mutex of etcd's own library, as its lock service runs it.

use crate::pair::{Pair, python};
use std::sync::Arc;
use synlock_tests::load::patient;
use synlock_tests::services::etcd::EtcdServer;

pub(crate) fn pairs() -> Vec<Pair> {
    let server = EtcdServer::start();
    vec![Pair {
        name: "etcd+mutex",
        url: patient(&format!("{}?ttl=6000&renew=1", server.url())),
        lock: "turns".to_owned(),
        peer: python("etcd_peer.py", &[&server.host(0), "synlock:turns"]),
        frees_on_death: true,
        _keep: Arc::new(server),
    }]
}
