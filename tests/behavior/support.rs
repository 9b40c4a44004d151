//! The stores under test, and how a case is added.

use libtest_mimic::{Failed, Trial};
use std::sync::Arc;
use std::time::{Duration, Instant};
use synlock_core::{Capabilities, Code, Lock, LockOptions, Mode, Store, Wait};
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

    fn open(&self) -> synlock_core::Result<Store> {
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

/// A name that nobody else uses. PHP's semaphores have numbers.
fn fresh_name(store: &str) -> String {
    let name = unique("case");
    if store == "sysv-php" {
        // FNV-1a, folded to what is a key.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        return ((hash >> 33) as u32 | 1).to_string();
    }
    name
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
    let scheme = "postgres+advisory";
    let ca = server.file("ca.crt");
    let tls = server.place().replace("127.0.0.1", "localhost");
    let urls = [
        (
            "postgres+advisory",
            format!("{scheme}://{}", server.place()),
        ),
        (
            "postgres+advisory-socket",
            format!("{scheme}:{}", server.socket_place()),
        ),
        (
            "postgres+advisory-tls",
            format!("{scheme}://{tls}?ca_file={}", ca.display()),
        ),
        (
            "postgres+advisory-symfony",
            format!("{scheme}://{}?dialect=symfony", server.place()),
        ),
        (
            "postgres+advisory-distributedlock",
            format!("{scheme}://{}?dialect=distributedlock", server.place()),
        ),
    ];
    let setup = |(name, url)| Setup {
        name,
        url,
        open: None,
        _keep: server.clone(),
    };
    urls.into_iter().map(setup).collect()
}

fn mysql_advisory() -> Vec<Setup> {
    let server = Arc::new(MariadbServer::start_with(mariadb::Options {
        password: Some("secret".into()),
        tls: true,
        ..mariadb::Options::default()
    }));
    let scheme = "mysql+advisory";
    let ca = server.file("ca.crt");
    let tls = server.place().replace("127.0.0.1", "localhost");
    let urls = [
        ("mysql+advisory", format!("{scheme}://{}", server.place())),
        (
            "mysql+advisory-socket",
            format!("{scheme}:{}", server.socket_place()),
        ),
        (
            "mysql+advisory-tls",
            format!("{scheme}://{tls}?ca_file={}", ca.display()),
        ),
        (
            "mysql+advisory-symfony",
            format!("{scheme}://{}?dialect=symfony", server.place()),
        ),
    ];
    let setup = |(name, url)| Setup {
        name,
        url,
        open: None,
        _keep: server.clone(),
    };
    urls.into_iter().map(setup).collect()
}

/// What a case works with: a store, and a name that no other case uses.
#[derive(Clone)]
pub struct Case {
    pub store: Store,
    pub url: String,
    pub name: String,
    pub can: Capabilities,
    open: Setup,
}

impl Case {
    /// The same store, opened once more.
    pub fn open_again(&self) -> Store {
        self.open.open().unwrap()
    }

    /// Another name of this case alone.
    pub fn another(&self) -> String {
        fresh_name(self.can.store)
    }

    /// Whether the store takes the name: on some dialects it must be a key that the peer could have.
    pub fn accepts(&self, name: &[u8]) -> bool {
        match self.can.store {
            "flock-file" => name.len() <= 255 && !name.contains(&b'/') && !name.contains(&0),
            // A path in UTF-8; Symfony's has its slashes replaced.
            "zookeeper-kazoo"
            | "zookeeper-curator"
            | "zookeeper-curator-rw"
            | "zookeeper-symfony" => std::str::from_utf8(name).is_ok_and(|text| {
                let mut parts = text.strip_prefix('/').unwrap_or(text).split('/');
                !text.chars().any(char::is_control)
                    && (self.can.store == "zookeeper-symfony"
                        || !parts.any(|part| matches!(part, "" | "." | "..")))
            }),
            "memcached-symfony" => {
                let plain = |byte: &u8| *byte > b' ' && *byte != 0x7f;
                // Keys outside ASCII travel in a longer form.
                name.iter().all(plain) && name.len() <= if name.is_ascii() { 250 } else { 187 }
            }
            "sysv-php" => std::str::from_utf8(name).is_ok_and(|text| text.parse::<i64>().is_ok()),
            _ => true,
        }
    }

    /// Whether a row is a key, an owner and an end, and nothing else.
    pub fn is_peers_table(&self) -> bool {
        let engines = ["sqlite-", "postgres-", "mysql-"];
        engines
            .iter()
            .any(|engine| self.can.store.starts_with(engine))
    }

    /// Whether the store's columns tell the name from others: some peers' tables take `a` for `A`, and a
    /// name for itself with a blank at its end, and what Drupal hands to PostgreSQL ends before a NUL.
    pub fn tells_apart(&self, name: &[u8]) -> bool {
        match self.can.store {
            "postgres-drupal" if name.contains(&0) => false,
            "sqlite-drupal" | "postgres-drupal" | "mysql-drupal" | "mysql-laravel" => {
                !name.ends_with(b"A") && !name.ends_with(b" ")
            }
            _ => true,
        }
    }

    pub fn lock(&self) -> Lock {
        self.lock_with(|_| {})
    }

    pub fn lock_with(&self, change: impl FnOnce(&mut LockOptions)) -> Lock {
        let mut options = self.store.defaults().clone();
        change(&mut options);
        self.store.lock_with(&self.name, options).unwrap()
    }

    pub fn shared(&self) -> Lock {
        self.lock_with(|options| options.mode = Mode::Shared)
    }

    /// `ttl`, or a second on stores that count whole ones.
    pub fn ttl(&self, ttl: Duration) -> Duration {
        match self.store.backend().check_ttl(ttl) {
            Ok(()) => ttl,
            Err(_) => Duration::from_secs(1),
        }
    }

    /// Sleeps, or long enough for a lease of a second to be over in the store where it is that long.
    pub fn outlive(&self, ttl: Duration, sleep: Duration) {
        let coarse = self.ttl(ttl) != ttl;
        std::thread::sleep(if coarse { ms(2100) } else { sleep });
    }

    /// A lock that was acquired for `ttl`, or for longer where the machine takes longer than that, and its TTL; `look`
    /// was true while it was held.
    pub fn briefly(&self, ttl: Duration, look: impl Fn() -> bool) -> (Lock, Duration) {
        let mut ttl = self.ttl(ttl);
        loop {
            let start = Instant::now();
            let lock = self.leased(ttl);
            let granted = lock.acquire(Wait::No, None);
            if granted.is_ok() && look() {
                return (lock, ttl);
            }
            let was_slow = start.elapsed() > ttl / 2 && ttl < Duration::from_secs(60);
            assert!(was_slow, "{granted:?} for {ttl:?}");
            ttl *= 3;
        }
    }

    /// What `attempt` says of leases of `ttl`, which must not run out under it; it is made again with longer ones, since
    /// a machine may take that long for anything. What is wrong stays wrong.
    pub fn patiently(&self, ttl: Duration, attempt: impl Fn(Duration) -> Result<(), String>) {
        let ttl = self.ttl(ttl);
        let done = attempt(ttl)
            .or_else(|_| attempt(ttl * 4))
            .or_else(|_| attempt(ttl * 16));
        assert_eq!(done, Ok(()));
    }

    /// With a lease of `ttl`, or the store's shortest.
    pub fn leased(&self, ttl: Duration) -> Lock {
        let ttl = self.ttl(ttl);
        self.lock_with(|options| options.ttl = Some(ttl))
    }

    pub fn permits(&self, take: u32, of: u32) -> Lock {
        self.lock_with(|options| options.mode = Mode::Permits { take, of })
    }

    /// Waits until so many waiters stand in the queue, on stores that know; a moment on others.
    pub fn wait_for_waiters(&self, count: u32) {
        let end = Instant::now() + Duration::from_secs(60);
        if !self.can.wakes || !self.can.fair {
            std::thread::sleep(Duration::from_millis(150));
            return;
        }
        while self.store.inspect(&self.name).unwrap().waiters != Some(count) {
            assert!(Instant::now() < end, "{count} waiters never came");
            std::thread::sleep(Duration::from_millis(1));
        }
        // A newcomer may pass those who have not waited for long.
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

pub fn code<T: std::fmt::Debug>(result: synlock_core::Result<T>) -> Code {
    match result {
        Ok(_) => Code::Ok,
        Err(error) => error.code(),
    }
}

/// Long enough for any machine.
pub const PATIENCE: Wait = Wait::For(Duration::from_secs(60));

/// The cases of one store.
pub struct List {
    setup: Setup,
    pub can: Capabilities,
    /// Nothing may be done in the background.
    pub is_caller_thread_only: bool,
    trials: Vec<Trial>,
}

impl List {
    pub fn new(setup: Setup) -> Self {
        let store = setup.open().unwrap();
        List {
            setup,
            can: *store.capabilities(),
            is_caller_thread_only: store.is_caller_thread_only(),
            trials: Vec::new(),
        }
    }

    pub fn is_queued_by_the_kernel(&self) -> bool {
        ["sysv:", "semaphore:"]
            .iter()
            .any(|scheme| self.setup.url.starts_with(scheme))
    }

    pub fn add(&mut self, name: &'static str, case: fn(&Case)) {
        self.add_as(name.to_owned(), case);
    }

    /// A case under every name `module::case`.
    pub fn add_as(&mut self, name: String, case: impl Fn(&Case) + Send + Sync + 'static) {
        let setup = self.setup.clone();
        self.trials
            .push(Trial::test(format!("{}::{name}", setup.name), move || {
                // All of it, or the closure would take the URL alone and the server would end.
                let setup = &setup;
                let store = setup.open()?;
                let can = *store.capabilities();
                let input = Case {
                    store,
                    url: setup.url.clone(),
                    name: fresh_name(can.store),
                    can,
                    open: setup.clone(),
                };
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(&input))).map_err(
                    |panic| {
                        let words = panic.downcast_ref::<String>().cloned();
                        let words = words.or_else(|| {
                            panic
                                .downcast_ref::<&str>()
                                .map(|words| (*words).to_owned())
                        });
                        Failed::from(words.unwrap_or_default())
                    },
                )
            }));
    }

    pub fn into_trials(self) -> Vec<Trial> {
        self.trials
    }
}
