//! Stores with a server or a file of one's own, by their kind.

use crate::names::TempDir;
use crate::services::etcd::EtcdServer;
use crate::services::mariadb::MariadbServer;
use crate::services::memcached::MemcachedServer;
use crate::services::postgres::PostgresServer;
use crate::services::redis::RedisServer;
use crate::services::zookeeper::ZookeeperServer;
use std::any::Any;

/// The URL of a store of this kind, and what keeps its server or file. A kind that is no store is a
/// dialect of Redis.
pub fn place(kind: &str) -> (String, Box<dyn Any>) {
    match kind {
        "postgres" | "postgres+advisory" => {
            let server = PostgresServer::start();
            (format!("{kind}://{}", server.place()), Box::new(server))
        }
        "mysql" | "mysql+advisory" => {
            let server = MariadbServer::start();
            (format!("{kind}://{}", server.place()), Box::new(server))
        }
        "sqlite" => {
            let folder = TempDir::in_memory("synlock-place");
            let url = format!("sqlite:{}/locks.db", folder.path().display());
            (url, Box::new(folder))
        }
        "memcached" => {
            let server = MemcachedServer::start();
            (server.url(), Box::new(server))
        }
        "zookeeper" => {
            let server = ZookeeperServer::start();
            (server.url(), Box::new(server))
        }
        "etcd" => {
            let server = EtcdServer::start();
            (server.url(), Box::new(server))
        }
        "redis" => {
            let server = RedisServer::start();
            (server.url(), Box::new(server))
        }
        "quorum" => {
            let servers = [(); 3].map(|()| RedisServer::start());
            let members = servers.each_ref().map(RedisServer::url).join(",");
            let url = format!("quorum:({members})?cold_start=1&fencing=1");
            (url, Box::new(servers))
        }
        "tiered" => {
            let (server, folder) = (RedisServer::start(), TempDir::new("synlock-place"));
            let near = format!("shm:{}/near", folder.path().display());
            let url = format!("tiered:({near},{})", server.url());
            (url, Box::new((server, folder)))
        }
        dialect => {
            let server = RedisServer::start();
            let url = format!("{}?dialect={dialect}", server.url());
            (url, Box::new(server))
        }
    }
}

/// The URLs by which processes of several hosts have such a place in common: of two tiers each host has one of its
/// own.
#[must_use]
pub fn hosts(url: &str) -> Vec<String> {
    if url.starts_with("tiered:") {
        ["/near", "/other"]
            .map(|near| url.replace("/near", near))
            .into()
    } else {
        vec![url.to_owned()]
    }
}
