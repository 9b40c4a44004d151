//! The stores under test.

use std::path::Path;
use std::sync::Arc;
use synlock_core::Store;
use synlock_tests::memcached::{self, MemcachedServer};
use synlock_tests::names::{TempDir, unique};
use synlock_tests::redis::{Options, RedisServer};
use synlock_tests::services::etcd::{self, EtcdServer};
use synlock_tests::services::mariadb::{self, MariadbServer};
use synlock_tests::services::postgres::{self, PostgresServer};
use synlock_tests::services::redis_sets::{Cluster, Sentinels};
use synlock_tests::services::zookeeper::ZookeeperServer;

/// One store, set up one way.
#[derive(Clone)]
pub struct Setup {
    /// First part of the names of its cases.
    pub name: &'static str,
    pub url: String,
    /// Opens it, if its URL does not.
    open: Option<fn() -> Store>,
    /// Keeps the server or the directory.
    _keep: Arc<dyn std::any::Any + Send + Sync>,
}

impl Setup {
    /// Every store of this build; `SYNLOCK_TEST_STORES=memory,flock` leaves only these.
    pub fn all() -> Vec<Setup> {
        let chosen = std::env::var("SYNLOCK_TEST_STORES").unwrap_or_default();
        let wanted =
            |name: &str| chosen.is_empty() || chosen.split(',').any(|one| name.starts_with(one));
        let mut setups = Vec::new();
        if cfg!(feature = "memory") && wanted("memory") {
            setups.push(Setup {
                name: "memory",
                url: format!("memory:{}", unique("behavior")),
                open: None,
                _keep: Arc::new(()),
            });
        }
        if cfg!(feature = "shm") && wanted("shm") {
            let folder = TempDir::within("/dev/shm", "synlock-behavior");
            setups.push(Setup {
                name: "shm",
                url: format!("shm:{}/segment", folder.path().display()),
                open: None,
                _keep: Arc::new(folder),
            });
        }
        if cfg!(feature = "flock") && wanted("flock") {
            let folder = TempDir::new("synlock-behavior");
            setups.push(Setup {
                name: "flock",
                url: format!("flock:{}", folder.path().display()),
                open: None,
                _keep: Arc::new(folder),
            });
        }
        if cfg!(feature = "sqlite") && wanted("sqlite") {
            let folder = TempDir::in_memory("synlock-behavior");
            let url = format!("sqlite:{}/locks.db", folder.path().display());
            let names = [
                "sqlite",
                "sqlite-symfony",
                "sqlite-drupal",
                "sqlite-laravel",
            ];
            setups.extend(tables(names, &url, Arc::new(folder)));
        }
        if cfg!(feature = "flock") {
            setups.extend(flock_dialects().into_iter().filter(|one| wanted(one.name)));
        }
        #[cfg(feature = "sysv")]
        setups.extend(sysv().into_iter().filter(|one| wanted(one.name)));
        if cfg!(feature = "postgres") && wanted("postgres") {
            let server = Arc::new(PostgresServer::start());
            let url = format!("postgres://{}", server.place());
            let names = [
                "postgres",
                "postgres-symfony",
                "postgres-drupal",
                "postgres-laravel",
            ];
            setups.extend(tables(names, &url, server));
        }
        if cfg!(feature = "mysql") && wanted("mysql") {
            let server = Arc::new(MariadbServer::start());
            let url = format!("mysql://{}", server.place());
            let names = ["mysql", "mysql-symfony", "mysql-drupal", "mysql-laravel"];
            setups.extend(tables(names, &url, server));
        }
        if cfg!(feature = "redis") && wanted("redis") {
            let server = Arc::new(RedisServer::start_with(Options {
                tls: cfg!(feature = "redis-tls"),
                ..Options::default()
            }));
            setups.push(Setup {
                name: "redis",
                url: server.url(),
                open: None,
                _keep: server.clone(),
            });
            setups.push(Setup {
                name: "redis-socket",
                url: server.socket_url(),
                open: None,
                _keep: server.clone(),
            });
            setups.push(Setup {
                name: "redis-async",
                url: format!("{}?release=async", server.url()),
                open: None,
                _keep: server.clone(),
            });
            let valkey = RedisServer::start_with(Options {
                valkey: true,
                ..Options::default()
            });
            setups.push(Setup {
                name: "valkey",
                url: format!("valkey://127.0.0.1:{}", valkey.port()),
                open: None,
                _keep: Arc::new(valkey),
            });
            for (name, dialect) in [
                ("redis-plain", "plain"),
                ("redis-symfony", "symfony"),
                ("redis-python-redis-lock", "python-redis-lock"),
                ("redis-redis-semaphore", "redis-semaphore"),
                ("redis-redisson", "redisson"),
            ] {
                setups.push(Setup {
                    name,
                    url: format!("{}?dialect={dialect}", server.url()),
                    open: None,
                    _keep: server.clone(),
                });
            }
            if cfg!(feature = "redis-tls") {
                setups.push(Setup {
                    name: "redis-tls",
                    url: server.tls_url(),
                    open: None,
                    _keep: server,
                });
            }
        }
        if cfg!(feature = "redis") && wanted("redis") {
            let cluster = Arc::new(Cluster::start());
            for (name, query) in [
                ("redis-cluster", ""),
                ("redis-cluster-symfony", "?dialect=symfony"),
            ] {
                setups.push(Setup {
                    name,
                    url: format!("{}{query}", cluster.url()),
                    open: None,
                    _keep: cluster.clone(),
                });
            }
            let sentinels = Sentinels::start();
            setups.push(Setup {
                name: "redis-sentinel",
                url: sentinels.url(),
                open: None,
                _keep: Arc::new(sentinels),
            });
        }
        if cfg!(feature = "postgres") && wanted("postgres+advisory") {
            setups.extend(postgres_advisory());
        }
        if cfg!(feature = "mysql") && wanted("mysql+advisory") {
            setups.extend(mysql_advisory());
        }
        if wanted("custom") {
            setups.push(Setup {
                name: "custom",
                url: "custom:behavior".to_owned(),
                open: Some(super::custom::open),
                _keep: Arc::new(()),
            });
        }
        if cfg!(all(feature = "redis", feature = "shm")) && wanted("tiered") {
            let server = RedisServer::start();
            let folder = TempDir::within("/dev/shm", "synlock-behavior");
            let path = folder.path().display();
            setups.push(Setup {
                name: "tiered",
                url: format!(
                    "tiered:(shm:{path}/segment,{})?state={path}/state",
                    server.url()
                ),
                open: None,
                _keep: Arc::new((folder, server)),
            });
        }
        if cfg!(feature = "redis") && wanted("quorum") {
            let servers: Vec<RedisServer> = (0..3).map(|_| RedisServer::start()).collect();
            let members: Vec<String> = servers.iter().map(RedisServer::url).collect();
            setups.push(Setup {
                name: "quorum",
                url: format!("quorum:({})?cold_start=1", members.join(",")),
                open: None,
                _keep: Arc::new(servers),
            });
        }
        if cfg!(feature = "memory") && wanted("quorum") {
            for (name, options) in [
                ("quorum-memory", ""),
                ("quorum-fenced", "?fencing=1"),
                ("quorum-unanimous", "?strategy=unanimous"),
            ] {
                let members = [1, 2, 3].map(|n| format!("memory:{}-{n}", unique("behavior")));
                setups.push(Setup {
                    name,
                    url: format!("quorum:({}){options}", members.join(",")),
                    open: None,
                    _keep: Arc::new(()),
                });
            }
        }
        if cfg!(feature = "flock") && wanted("quorum") {
            let folder = TempDir::new("synlock-behavior");
            let members = [1, 2, 3].map(|n| format!("flock:{}/{n}", folder.path().display()));
            setups.push(Setup {
                name: "quorum-flock",
                url: format!("quorum:({})", members.join(",")),
                open: None,
                _keep: Arc::new(folder),
            });
        }
        if cfg!(feature = "memcached") && wanted("memcached") {
            let server = Arc::new(MemcachedServer::start());
            let on_socket = MemcachedServer::start_with(memcached::Options {
                socket: true,
                ..memcached::Options::default()
            });
            setups.push(Setup {
                name: "memcached",
                url: server.url(),
                open: None,
                _keep: server.clone(),
            });
            setups.push(Setup {
                name: "memcached-symfony",
                url: format!("{}?dialect=symfony", server.url()),
                open: None,
                _keep: server,
            });
            setups.push(Setup {
                name: "memcached-socket",
                url: on_socket.url(),
                open: None,
                _keep: Arc::new(on_socket),
            });
        }
        if cfg!(feature = "zookeeper") && wanted("zookeeper") {
            let server = Arc::new(ZookeeperServer::start());
            for (name, dialect) in [
                ("zookeeper", ""),
                ("zookeeper-kazoo", "&dialect=kazoo&root=/kazoo"),
                ("zookeeper-curator", "&dialect=curator&root=/curator"),
                (
                    "zookeeper-curator-rw",
                    "&dialect=curator-rw&root=/curator-rw",
                ),
                ("zookeeper-symfony", "&dialect=symfony"),
            ] {
                if wanted(name) {
                    setups.push(Setup {
                        name,
                        url: format!("{}{dialect}", server.url()),
                        open: None,
                        _keep: server.clone(),
                    });
                }
            }
        }
        if cfg!(feature = "etcd") && wanted("etcd") {
            let safe = etcd::Options {
                tls: true,
                password: Some("secret".into()),
                ..etcd::Options::default()
            };
            for (name, server) in [
                ("etcd", EtcdServer::start()),
                ("etcd-tls", EtcdServer::start_with(safe)),
            ] {
                setups.push(Setup {
                    name,
                    url: server.url(),
                    open: None,
                    _keep: Arc::new(server),
                });
            }
        }
        setups
    }

    pub fn open(&self) -> synlock_core::Result<Store> {
        match self.open {
            Some(open) => Ok(open()),
            None => Store::open(&self.url),
        }
    }
}

fn flock_dialects() -> [Setup; 3] {
    let setup = |name, scheme: &str, dialect: &str| {
        let folder = TempDir::new("synlock-behavior");
        Setup {
            name,
            url: format!("{scheme}:{}?dialect={dialect}", folder.path().display()),
            open: None,
            _keep: Arc::new(folder),
        }
    };
    [
        setup("flock-symfony", "flock", "symfony"),
        setup("flock-remove", "flock+remove", "symfony"),
        setup("flock-file", "flock", "file"),
    ]
}

/// Semaphore sets outlive whoever made them: removes those of a space of one's own.
#[cfg(feature = "sysv")]
struct Swept(String);

#[cfg(feature = "sysv")]
impl Drop for Swept {
    fn drop(&mut self) {
        let _ = synlock_core::store::sysv::clean_up(&self.0);
    }
}

#[cfg(feature = "sysv")]
fn sysv() -> [Setup; 3] {
    let native = format!("sysv:{}", unique("behavior"));
    let setup = |name, url: &str, keep| Setup {
        name,
        url: url.to_owned(),
        open: None,
        _keep: keep,
    };
    [
        setup("sysv", &native, Arc::new(Swept(native.clone()))),
        setup("sysv-php", "sysv:?dialect=php", Arc::new(())),
        setup("sysv-symfony", "semaphore:?dialect=symfony", Arc::new(())),
    ]
}

/// The native table of a database, and those of the peers.
fn tables(
    names: [&'static str; 4],
    url: &str,
    keep: Arc<dyn std::any::Any + Send + Sync>,
) -> Vec<Setup> {
    // A server that is slow for once is no failure of the store's.
    let patience = if url.starts_with("sqlite:") {
        ""
    } else {
        "io_timeout=20000"
    };
    names
        .map(|name| Setup {
            name,
            url: match name.split_once('-') {
                None => format!("{url}?{patience}"),
                Some((_, dialect)) => format!("{url}?{patience}&dialect={dialect}"),
            },
            open: None,
            _keep: keep.clone(),
        })
        .into()
}

fn postgres_advisory() -> Vec<Setup> {
    let server = Arc::new(PostgresServer::start_with(postgres::Options {
        password: Some("secret".into()),
        tls: true,
        ..postgres::Options::default()
    }));
    let names = [
        "postgres+advisory",
        "postgres+advisory-socket",
        "postgres+advisory-tls",
        "postgres+advisory-symfony",
        "postgres+advisory-distributedlock",
    ];
    let ca = server.file("ca.crt");
    advisory(
        names,
        &server.place(),
        &server.socket_place(),
        &ca,
        server.clone(),
    )
}

fn mysql_advisory() -> Vec<Setup> {
    let server = Arc::new(MariadbServer::start_with(mariadb::Options {
        password: Some("secret".into()),
        tls: true,
        ..mariadb::Options::default()
    }));
    let names = [
        "mysql+advisory",
        "mysql+advisory-socket",
        "mysql+advisory-tls",
        "mysql+advisory-symfony",
    ];
    let ca = server.file("ca.crt");
    advisory(
        names,
        &server.place(),
        &server.socket_place(),
        &ca,
        server.clone(),
    )
}

/// Advisory locks of a database: over TCP, its socket and TLS, and those of the peers.
fn advisory<const COUNT: usize>(
    names: [&'static str; COUNT],
    place: &str,
    socket: &str,
    ca: &Path,
    keep: Arc<dyn std::any::Any + Send + Sync>,
) -> Vec<Setup> {
    let tls = place.replace("127.0.0.1", "localhost");
    let url = |name: &str| match name.split_once('-') {
        None => format!("{name}://{place}"),
        Some((scheme, "socket")) => format!("{scheme}:{socket}"),
        Some((scheme, "tls")) => format!("{scheme}://{tls}?ca_file={}", ca.display()),
        Some((scheme, dialect)) => format!("{scheme}://{place}?dialect={dialect}"),
    };
    let setup = |name| Setup {
        name,
        url: url(name),
        open: None,
        _keep: keep.clone(),
    };
    names.map(setup).into()
}
