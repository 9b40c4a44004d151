//! One suite over the commands of five languages: the same script with the same statuses, every ordered
//! pair on one lock, and the names, codes and capabilities that all must agree on.

mod command;
mod endings;
mod handover;
mod options;
mod pairs;
mod script;
mod sessions;

use libtest_mimic::{Arguments, Trial};
use std::sync::Arc;
use synlock_tests::load::patient;
use synlock_tests::memcached::MemcachedServer;
use synlock_tests::names::{TempDir, unique};
use synlock_tests::redis::RedisServer;
use synlock_tests::services::etcd::EtcdServer;
use synlock_tests::services::mariadb::MariadbServer;
use synlock_tests::services::postgres::PostgresServer;
use synlock_tests::services::zookeeper::ZookeeperServer;

/// A store, kept alive by what it needs.
#[derive(Clone)]
pub(crate) struct Setup {
    name: &'static str,
    url: String,
    /// Whether other processes reach it, so that there can be pairs.
    shared: bool,
    _keep: Arc<dyn std::any::Any + Send + Sync>,
}

fn main() {
    synlock_tests::ipc::set_apart();
    let arguments = Arguments::from_args();
    let server = Arc::new(RedisServer::start());
    let memcached = MemcachedServer::start();
    let servers: Vec<RedisServer> = (0..3).map(|_| RedisServer::start()).collect();
    let members: Vec<String> = servers
        .iter()
        .map(|server| patient(&server.url()))
        .collect();
    let zookeeper = Arc::new(ZookeeperServer::start());
    let etcd = EtcdServer::start();
    let folder = TempDir::new("synlock-e2e");
    let segment = TempDir::within("/dev/shm", "synlock-e2e");
    let tiers = TempDir::within("/dev/shm", "synlock-e2e");
    let database = TempDir::in_memory("synlock-e2e");
    let postgres = Arc::new(PostgresServer::start());
    let mariadb = Arc::new(MariadbServer::start());
    let setups = [
        Setup {
            name: "memory",
            url: "memory:".into(),
            shared: false,
            _keep: Arc::new(()),
        },
        Setup {
            name: "shm",
            url: format!("shm:{}/segment", segment.path().display()),
            shared: true,
            _keep: Arc::new(segment),
        },
        Setup {
            name: "flock",
            url: format!("flock:{}", folder.path().display()),
            shared: true,
            _keep: Arc::new(folder),
        },
        Setup {
            name: "sqlite",
            url: format!(
                "sqlite:{}/locks.db?io_timeout=20000",
                database.path().display()
            ),
            shared: true,
            _keep: Arc::new(database),
        },
        Setup {
            name: "sysv",
            url: format!("sysv:{}", unique("e2e")),
            shared: true,
            _keep: Arc::new(()),
        },
        Setup {
            name: "postgres",
            url: patient(&format!("postgres://{}", postgres.place())),
            shared: true,
            _keep: postgres.clone(),
        },
        Setup {
            name: "postgres+advisory",
            url: patient(&format!("postgres+advisory://{}", postgres.place())),
            shared: true,
            _keep: postgres,
        },
        Setup {
            name: "mysql",
            url: patient(&format!("mysql://{}", mariadb.place())),
            shared: true,
            _keep: mariadb.clone(),
        },
        Setup {
            name: "mysql+advisory",
            url: patient(&format!("mysql+advisory://{}", mariadb.place())),
            shared: true,
            _keep: mariadb,
        },
        Setup {
            name: "redis",
            url: patient(&server.url()),
            shared: true,
            _keep: server.clone(),
        },
        Setup {
            name: "tiered",
            url: format!(
                "tiered:(shm:{0}/segment,{1})?state={0}/state",
                tiers.path().display(),
                patient(&server.url())
            ),
            shared: true,
            _keep: Arc::new((tiers, server)),
        },
        Setup {
            name: "quorum",
            url: format!("quorum:({})?cold_start=1&max_ttl=120000", members.join(",")),
            shared: true,
            _keep: Arc::new(servers),
        },
        Setup {
            name: "memcached",
            url: patient(&memcached.url()),
            shared: true,
            _keep: Arc::new(memcached),
        },
        Setup {
            name: "zookeeper",
            url: patient(&zookeeper.url()),
            shared: true,
            _keep: zookeeper,
        },
        Setup {
            name: "etcd",
            url: patient(&etcd.url()),
            shared: true,
            _keep: Arc::new(etcd),
        },
    ];
    let mut trials: Vec<Trial> = Vec::new();
    for setup in &setups {
        for language in command::LANGUAGES {
            let own = setup.clone();
            let title = format!("{}::{language}::sessions", setup.name);
            trials.push(Trial::test(title, move || sessions::run(&own, language)));
            let own = setup.clone();
            let title = format!("{}::{language}::script", setup.name);
            trials.push(Trial::test(title, move || script::run(&own, language)));
            if !setup.shared {
                continue;
            }
            if setup.name == "redis" {
                let title = format!("redis::{language}::owed");
                trials.push(Trial::test(title, move || endings::owed(language)));
            }
            let own = setup.clone();
            let title = format!("{}::{language}::names", setup.name);
            trials.push(Trial::test(title, move || script::names(&own, language)));
            let cases: [(_, fn(&Setup, _) -> _); 6] = [
                ("defaults", options::defaults),
                ("options", options::given),
                ("options_of_the_url", options::of_the_url),
                ("list", options::list),
                ("lock_delay", options::delayed),
                ("null_and_demo", options::demos),
            ];
            // Of the core alone, so that a store with leases and one without will do; the rest is in `behavior/`.
            let one_of_a_kind = matches!(setup.name, "flock" | "redis");
            let many = if one_of_a_kind { cases.len() } else { 4 };
            for (case, run) in cases.into_iter().take(many) {
                let own = setup.clone();
                let title = format!("{}::{language}::{case}", setup.name);
                trials.push(Trial::test(title, move || run(&own, language)));
            }
            for other in command::LANGUAGES {
                let own = setup.clone();
                let title = format!("{}::{language}_to_{other}", setup.name);
                trials.push(Trial::test(title, move || {
                    pairs::run(&own, language, other)
                }));
            }
        }
        if !setup.shared {
            continue;
        }
        let own = setup.clone();
        let title = format!("{}::handed_over", setup.name);
        trials.push(Trial::test(title, move || handover::run(&own)));
        let own = setup.clone();
        let title = format!("{}::all_say_the_same", setup.name);
        trials.push(Trial::test(title, move || script::agreement(&own)));
    }
    // Or the servers would outlive us: an exit drops nothing.
    drop(setups);
    libtest_mimic::run(&arguments, trials).exit();
}
