//! From a URL to a store, and the handle to it. Which stores there are.

mod defaults;
mod handle;
#[cfg(all(any(loom, shuttle), test))]
mod model;
mod opened;

pub use handle::Store;

use crate::codes::Code;
use crate::fork::PerProcess;
use crate::options::LockOptions;
use crate::store::Backend;
use crate::sync::Mutex;
use crate::url::Url;
use crate::{Error, Result};
use opened::Opened;
use std::sync::Arc;

type Shared = Arc<dyn Backend>;

/// How a store is opened: by its URL alone, or over members that were opened before.
#[derive(Clone, Copy)]
enum Open {
    Plain(fn(&mut Url) -> Result<Shared>),
    Over(fn(&mut Url, Vec<Shared>) -> Result<Shared>),
}

/// How deep stores may be made of stores that are made of stores.
const DEEPEST: usize = 4;

/// One line per store: its schemes, and how this build opens it.
struct Entry {
    store: &'static str,
    schemes: &'static [&'static str],
    open: Option<Open>,
}

macro_rules! entry {
    ($feature:literal, $schemes:expr, $open:expr) => {
        entry!($feature, $feature, $schemes, $open)
    };
    ($feature:literal, $store:literal, $schemes:expr, $open:expr) => {
        Entry {
            store: $store,
            schemes: $schemes,
            #[cfg(feature = $feature)]
            open: Some(Open::Plain($open)),
            #[cfg(not(feature = $feature))]
            open: None,
        }
    };
}

const STORES: &[Entry] = &[
    entry!(
        "memory",
        &["memory", "in-memory"],
        crate::store::memory::open
    ),
    entry!("shm", &["shm"], crate::store::shm::open),
    entry!(
        "flock",
        &["flock", "flock+remove"],
        crate::store::flock::open
    ),
    entry!("sysv", &["sysv", "semaphore"], crate::store::sysv::open),
    entry!(
        "redis",
        &[
            "redis",
            "rediss",
            "redis+unix",
            "unix",
            "valkey",
            "valkeys",
            "valkey+unix",
            "redis+sentinel",
            "rediss+sentinel",
            "redis+cluster",
            "rediss+cluster",
            "valkey+sentinel",
            "valkeys+sentinel",
            "valkey+cluster",
            "valkeys+cluster"
        ],
        crate::store::redis::open
    ),
    entry!("sqlite", &["sqlite"], crate::store::sql::sqlite::open),
    entry!("memcached", &["memcached"], crate::store::memcached::open),
    entry!(
        "postgres",
        &["postgres", "postgresql", "pgsql"],
        crate::store::sql::postgres::open
    ),
    entry!(
        "mysql",
        &["mysql", "mariadb"],
        crate::store::sql::mysql::open
    ),
    entry!(
        "zookeeper",
        &["zookeeper", "zk"],
        crate::store::zookeeper::open
    ),
    entry!("etcd", &["etcd", "etcds"], crate::store::etcd::open),
    Entry {
        store: "quorum",
        schemes: &["quorum"],
        open: Some(Open::Over(crate::store::quorum::open)),
    },
    Entry {
        store: "tiered",
        schemes: &["tiered"],
        #[cfg(all(feature = "shm", not(loom)))]
        open: Some(Open::Over(crate::store::tiered::open)),
        #[cfg(not(all(feature = "shm", not(loom))))]
        open: None,
    },
    Entry {
        store: "null",
        schemes: &["null"],
        open: Some(Open::Plain(crate::store::null::open)),
    },
    entry!(
        "postgres",
        "postgres+advisory",
        &["postgres+advisory", "postgresql+advisory", "pgsql+advisory"],
        crate::store::advisory::open_postgres
    ),
    entry!(
        "mysql",
        "mysql+advisory",
        &["mysql+advisory", "mariadb+advisory"],
        crate::store::advisory::open_mysql
    ),
];

/// Schemes that this build can open.
pub fn schemes() -> Vec<&'static str> {
    STORES
        .iter()
        .filter(|entry| entry.open.is_some())
        .flat_map(|entry| entry.schemes)
        .copied()
        .collect()
}

/// The stores that synlock knows, and whether this build contains each.
pub fn stores() -> Vec<(&'static str, bool)> {
    STORES
        .iter()
        .map(|entry| (entry.store, entry.open.is_some()))
        .collect()
}

/// So that connections outlive a handle.
static OPENED: Opened<Shared> = Opened {
    kept: PerProcess::new(),
};
/// Whoever opens more gets what nobody else gets.
const MOST_KEPT: usize = 256;

/// Reads the answers to all releases of this process that nobody waited for (`release=async`), for the time of
/// one exchange with each server. A host calls it at its end.
pub fn collect_releases() {
    for backend in OPENED.all() {
        backend.collect(true);
    }
}

fn backend(url: &str, extra: &[(&str, &str)]) -> Result<(Shared, LockOptions)> {
    let mut parsed = Url::parse(url, extra)?;
    let shown = parsed.redacted();
    let open = opener(&parsed, url)?;
    let about = |error: Error| error.with_store(&shown).with_operation("open");
    let defaults = defaults::take(&mut parsed).map_err(about)?;
    let key = format!("{url}\0{extra:?}");
    let opened = OPENED.get_or_open(key, || {
        let demo = parsed.take_bool("demo")?;
        let made = make(open, &mut parsed, 0)?;
        parsed.finish()?;
        if let Some(ttl) = defaults.ttl {
            made.check_ttl(ttl)?;
        }
        Ok(if demo == Some(true) {
            crate::store::null::demo(made)
        } else {
            made
        })
    });
    Ok((opened.map_err(about)?, defaults))
}

fn opener(parsed: &Url, url: &str) -> Result<Open> {
    let entry = find(&parsed.scheme, url.contains(':'))?;
    entry.open.ok_or_else(|| {
        Error::new(
            Code::NotInBuild,
            format!(
                "this build does not contain the store `{}`; it has {}",
                entry.store,
                schemes().join(", ")
            ),
        )
    })
}

fn make(open: Open, url: &mut Url, depth: usize) -> Result<Shared> {
    match open {
        Open::Plain(open) => open(url),
        Open::Over(_) if depth == DEEPEST => Err(Error::new(
            Code::InvalidUrl,
            "stores are made of stores more than four deep",
        )),
        Open::Over(open) => {
            let members = url.take_members();
            let members = members.iter().map(|member| open_member(member, depth + 1));
            let members = members.collect::<Result<_>>()?;
            open(url, members)
        }
    }
}

/// A store that is part of another. What belongs to locks (`ttl=`, …) is said to the whole, and unknown here.
fn open_member(url: &str, depth: usize) -> Result<Shared> {
    let mut parsed = Url::parse(url, &[])?;
    parsed.fold_host();
    let shown = parsed.redacted();
    opener(&parsed, url)
        .and_then(|open| make(open, &mut parsed, depth))
        .and_then(|made| parsed.finish().map(|()| made))
        .map_err(|error| error.with_store(&shown))
}

/// A scheme is quoted only if it looks like one: a password may stand in its place.
fn safe_scheme(scheme: &str) -> &str {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || matches!(byte, b'+' | b'-' | b'.');
    if scheme.len() <= 20 && scheme.bytes().all(is_word) {
        scheme
    } else {
        "…"
    }
}

fn find(scheme: &str, has_colon: bool) -> Result<&'static Entry> {
    STORES
        .iter()
        .find(|entry| entry.schemes.contains(&scheme))
        .ok_or_else(|| {
            Error::new(
                Code::UnknownScheme,
                format!(
                    "no store has the scheme `{}:`; this build knows {}",
                    if has_colon {
                        safe_scheme(scheme)
                    } else {
                        "…"
                    },
                    schemes().join(", ")
                ),
            )
        })
}
