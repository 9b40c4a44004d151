//! A server of each kind, to be reached directly or through a proxy.

use std::time::Duration;
use synlock_core::{Lock, Store};
use synlock_tests::load::patient;
#[cfg(feature = "etcd")]
use synlock_tests::services::etcd::EtcdServer;
#[cfg(feature = "mysql")]
use synlock_tests::services::mariadb::MariadbServer;
#[cfg(feature = "memcached")]
use synlock_tests::services::memcached::MemcachedServer;
#[cfg(feature = "postgres")]
use synlock_tests::services::postgres::PostgresServer;
use synlock_tests::services::redis_fake::Proxy;
#[cfg(feature = "zookeeper")]
use synlock_tests::services::zookeeper::ZookeeperServer;

pub struct Remote {
    server: Box<dyn Server>,
    pub url: String,
}

/// What the suites do with a server, whatever it is.
pub trait Server: Send + Sync {
    fn port(&self) -> u16;
    fn stop(&self);
    fn go_on(&self);
}

macro_rules! server {
    ($feature:literal, $server:ident $(, $first:literal)?) => {
        #[cfg(feature = $feature)]
        impl Server for $server {
            fn port(&self) -> u16 {
                $server::port(self)
            }
            fn stop(&self) {
                self.pause($($first)?);
            }
            fn go_on(&self) {
                self.resume($($first)?);
            }
        }
    };
}

server!("memcached", MemcachedServer);
server!("postgres", PostgresServer);
server!("mysql", MariadbServer);
server!("zookeeper", ZookeeperServer, 0);
server!("etcd", EtcdServer, 0);

impl Remote {
    #[cfg(feature = "memcached")]
    pub fn memcached() -> Self {
        let server = MemcachedServer::start();
        let url = server.url();
        let server = Box::new(server);
        Remote { server, url }
    }

    /// `scheme` may be that of the advisory locks.
    #[cfg(feature = "postgres")]
    pub fn postgres(scheme: &str) -> Self {
        let server = PostgresServer::start();
        let url = format!("{scheme}://{}", server.place());
        let server = Box::new(server);
        Remote { server, url }
    }

    #[cfg(feature = "mysql")]
    pub fn mysql(scheme: &str) -> Self {
        let server = MariadbServer::start();
        let url = format!("{scheme}://{}", server.place());
        let server = Box::new(server);
        Remote { server, url }
    }

    #[cfg(feature = "zookeeper")]
    pub fn zookeeper() -> Self {
        let server = ZookeeperServer::start();
        let url = server.url();
        let server = Box::new(server);
        Remote { server, url }
    }

    #[cfg(feature = "etcd")]
    pub fn etcd() -> Self {
        let server = EtcdServer::start();
        let url = server.url();
        let server = Box::new(server);
        Remote { server, url }
    }

    pub fn proxy(&self) -> Proxy {
        Proxy::start(self.server.port())
    }

    pub fn stop(&self) {
        self.server.stop();
    }

    pub fn go_on(&self) {
        self.server.go_on();
    }

    /// A store on the server, with further words for its URL.
    pub fn store(&self, query: &str) -> Store {
        open(&self.url, query)
    }

    /// One behind a proxy.
    pub fn store_behind(&self, proxy: &Proxy, query: &str) -> Store {
        let (direct, there) = (self.server.port(), proxy.port());
        let url = self
            .url
            .replace(&format!(":{direct}"), &format!(":{there}"));
        assert_ne!(url, self.url, "it goes through the proxy");
        open(&url, query)
    }
}

fn open(url: &str, query: &str) -> Store {
    let sign = match (query.is_empty(), url.contains('?')) {
        (true, _) => "",
        (false, true) => "&",
        (false, false) => "?",
    };
    let url = format!("{url}{sign}{query}");
    let is_hasty = query.contains("io_timeout");
    Store::open(&if is_hasty { url } else { patient(&url) }).unwrap()
}

/// A lock with a lease, if the store has leases.
pub fn lock(store: &Store, name: &str, ttl: Duration) -> Lock {
    let mut options = store.defaults().clone();
    options.ttl = store.capabilities().ttl.then_some(ttl);
    options.label = Some(format!("label of {name}").into());
    store.lock_with(name, options).unwrap()
}
