//! From a URL to a store, and the handle to it.

use crate::codes::Code;
use crate::event::{Event, Observer, Observers};
use crate::fork::PerProcess;
use crate::lease::{BootTime, Wait};
use crate::lock::Lock;
use crate::name::Name;
use crate::options::{LockOptions, Reentry, check_ttl};
use crate::require::Require;
use crate::store::custom::{self, Callbacks, Traits};
use crate::store::{Backend, Check, Inspection, Page};
use crate::sync::Mutex;
use crate::url::Url;
use crate::{Capabilities, Error, OwnerToken, Result};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

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

/// Backends of this process by their whole URL, so that connections outlive a handle.
static OPENED: PerProcess<Mutex<HashMap<String, Arc<dyn Backend>>>> = PerProcess::new();
const MOST_KEPT: usize = 256;
/// Reads the answers to all releases of this process that nobody waited for (`release=async`), for the time of
/// one exchange with each server. A host calls it at its end.
pub fn collect_releases() {
    let Some(opened) = OPENED.get() else { return };
    let all: Vec<Shared> = opened.lock().values().cloned().collect();
    for backend in all {
        backend.collect(true);
    }
}

/// So many late answers in a row are the way to the server.
const MOST_LATE: u32 = 3;

fn backend(url: &str, extra: &[(&str, &str)]) -> Result<(Arc<dyn Backend>, LockOptions)> {
    let mut parsed = Url::parse(url, extra)?;
    let shown = parsed.redacted();
    let open = opener(&parsed, url)?;
    let defaults = lock_defaults(&mut parsed)
        .map_err(|error| error.with_store(&shown).with_operation("open"))?;
    let key = format!("{url}\0{extra:?}");
    let opened = OPENED.get_or_init(Mutex::default);
    if let Some(known) = opened.lock().get(&key) {
        return Ok((known.clone(), defaults));
    }
    let demo = parsed
        .take_bool("demo")
        .map_err(|error| error.with_store(&shown).with_operation("open"))?;
    let made = make(open, &mut parsed, 0)
        .and_then(|made| parsed.finish().map(|()| made))
        .and_then(|made| match defaults.ttl {
            Some(ttl) => made.check_ttl(ttl).map(|()| made),
            None => Ok(made),
        })
        .map_err(|error| error.with_store(&shown).with_operation("open"))?;
    let made = if demo == Some(true) {
        crate::store::null::demo(made)
    } else {
        made
    };
    let mut opened = opened.lock();
    if let Some(known) = opened.get(&key) {
        return Ok((known.clone(), defaults));
    }
    if opened.len() < MOST_KEPT {
        opened.insert(key, made.clone());
    }
    Ok((made, defaults))
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

fn make(open: Open, url: &mut Url, depth: usize) -> Result<Arc<dyn Backend>> {
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
fn open_member(url: &str, depth: usize) -> Result<Arc<dyn Backend>> {
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

/// Options of locks that a URL may carry as defaults.
fn lock_defaults(url: &mut Url) -> Result<LockOptions> {
    let mut options = LockOptions::default();
    if let Some(ttl) = url.take_millis("ttl")? {
        check_ttl(ttl)?;
        options.ttl = Some(ttl);
    }
    options.renew = url.take_bool("renew")?;
    options.timeout = match url.take_int("timeout")? {
        Some(..-1) => {
            return Err(Error::invalid(
                "the option `timeout` is ms, 0 to try once, or -1 to wait for ever",
            ));
        }
        timeout => timeout.map(Wait::from_millis),
    };
    options.auto_release = url.take_bool("auto_release")?.unwrap_or(true);
    options.fair = url.take_bool("fair")?.unwrap_or(true);
    options.strict = url.take_bool("strict")?.unwrap_or(false);
    options.reentry = match url.take("reentry").as_deref() {
        None | Some("independent") => Reentry::Independent,
        Some("error") => Reentry::Error,
        Some("extend") => Reentry::Extend,
        Some(_) => {
            return Err(Error::invalid(
                "the option `reentry` is one of independent, error, extend",
            ));
        }
    };
    options.label = url.take("label").map(Into::into);
    options.lock_delay = match url.take_int("lock_delay")? {
        None => Duration::ZERO,
        Some(ms) => u64::try_from(ms)
            .map(Duration::from_millis)
            .map_err(|_| Error::invalid("the option `lock_delay` is negative"))?,
    };
    options.cautions = url.take_bool("cautions")?.unwrap_or(true);
    if let Some(words) = url.take("require") {
        options.require = Require::read(&words)?;
    }
    options.check()?;
    Ok(options)
}

/// A store: where locks are kept. Clones are the same handle; use it from any thread and, after a
/// fork, in the child too.
#[derive(Clone, Debug)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    backend: Arc<dyn Backend>,
    capabilities: Capabilities,
    defaults: LockOptions,
    observers: Arc<Observers>,
    /// How many answers in a row have come late beside their lease.
    late: AtomicU32,
}

impl Drop for Inner {
    /// What is told of releases that nobody waited for is told before the store goes.
    fn drop(&mut self) {
        self.backend.collect(true);
    }
}

impl Store {
    /// Opens a store; connects to nothing before the first operation. An empty URL stands for the
    /// variable `SYNLOCK_URL`.
    ///
    /// # Errors
    /// `InvalidUrl`, `UnknownScheme`, `NotInBuild`, `UnknownOption`, `InvalidArgument`.
    pub fn open(url: &str) -> Result<Self> {
        Self::open_with(url, &[])
    }

    /// As [`Store::open`], with options that win over those of the URL.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with(url: &str, options: &[(&str, &str)]) -> Result<Self> {
        let from_environment;
        let url = if url.is_empty() {
            from_environment = std::env::var("SYNLOCK_URL").map_err(|_| {
                Error::new(
                    Code::InvalidUrl,
                    "no store URL is given, and the variable SYNLOCK_URL is not set",
                )
            })?;
            from_environment.as_str()
        } else {
            url
        };
        let (backend, defaults) = backend(url, options)?;
        Ok(Self::over(backend, defaults))
    }

    /// A store over a backend of one's own.
    pub fn over(backend: Arc<dyn Backend>, defaults: LockOptions) -> Self {
        let capabilities = backend.capabilities();
        Store(Arc::new(Inner {
            backend,
            capabilities,
            defaults,
            observers: Arc::default(),
            late: AtomicU32::new(0),
        }))
    }

    /// The same store over another view of its backend, with the same observers.
    pub(crate) fn over_view(&self, backend: Arc<dyn Backend>) -> Self {
        Store(Arc::new(Inner {
            backend,
            capabilities: self.0.capabilities,
            defaults: self.0.defaults.clone(),
            observers: self.0.observers.clone(),
            late: AtomicU32::new(0),
        }))
    }

    /// A store made of the host's own callbacks. `name` is what its URL shows, `custom:NAME`;
    /// `options` are those of its locks.
    ///
    /// # Errors
    /// `InvalidArgument`, `Unsupported` for promises that contradict each other, `UnknownOption`.
    pub fn custom(
        name: &str,
        can: Traits,
        callbacks: Box<dyn Callbacks>,
        options: &[(&str, &str)],
    ) -> Result<Self> {
        let backend = custom::open(name, can, callbacks)?;
        let mut url = Url::parse(backend.url(), options)?;
        let defaults = lock_defaults(&mut url)
            .and_then(|defaults| url.finish().map(|()| defaults))
            .map_err(|error| error.with_store(backend.url()).with_operation("open"))?;
        Ok(Self::over(backend, defaults))
    }

    /// Whether its locks may be used on the callers' own threads alone: custom stores.
    pub fn is_caller_thread_only(&self) -> bool {
        self.0.backend.is_caller_thread_only()
    }

    /// What the store can do.
    pub fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    /// The URL without credentials.
    pub fn url(&self) -> &str {
        self.0.backend.url()
    }

    /// A new owner token as its backend wants them.
    #[inline]
    pub(crate) fn draw_token(&self) -> Result<OwnerToken> {
        Ok(self.0.backend.brand(OwnerToken::draw()?))
    }

    /// Equal in every process and language that shares the same locks.
    pub fn fingerprint(&self) -> String {
        self.0.backend.fingerprint()
    }

    /// Options that locks of this store have unless they say otherwise.
    pub fn defaults(&self) -> &LockOptions {
        &self.0.defaults
    }

    /// The backend.
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.0.backend
    }

    pub(crate) fn tell(&self, event: &Event) {
        self.0.observers.tell(event);
    }

    pub(crate) fn observers(&self) -> Arc<Observers> {
        self.0.observers.clone()
    }

    /// Words, once, if answers take so long that little of a lease is left. A single one may have met a
    /// busy moment, or waited for a connection.
    pub(crate) fn judge_answer(&self, ttl: Option<Duration>, took: Duration) -> Option<String> {
        let ttl = ttl?;
        let late = &self.0.late;
        if took <= ttl / 3 {
            // What was said once is said.
            let _ = late.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < MOST_LATE).then_some(0)
            });
            return None;
        }
        if late.fetch_add(1, Ordering::Relaxed) + 1 != MOST_LATE {
            return None;
        }
        Some(format!(
            "the server took {} ms to grant a lease of {} ms: a `ttl` that short is used up by the way to the server; make it ten times as long as an answer takes",
            took.as_millis(),
            ttl.as_millis()
        ))
    }

    #[inline]
    pub(crate) fn is_observed(&self) -> bool {
        self.0.observers.any()
    }

    /// Whether anything that happens is of interest to anybody.
    #[inline]
    pub(crate) fn is_heard(&self) -> bool {
        self.0.observers.any_or_measured()
    }

    pub(crate) fn meters(&self) -> Option<&'static crate::metrics::Meters> {
        self.0.observers.meters()
    }

    /// Counts from now on what happens to the locks of this handle, or stops it; [`crate::metrics::text`]
    /// tells. Handles of one URL count together.
    pub fn measure(&self, on: bool) {
        self.0.observers.measure(on, self.url());
    }

    /// Another handle of the same store, with observers of its own; `demo`: one that grants everything and
    /// writes nothing.
    pub(crate) fn apart(&self, demo: bool) -> Store {
        let backend = self.0.backend.clone();
        let backend = if demo {
            crate::store::null::demo(backend)
        } else {
            backend
        };
        Self::over(backend, self.0.defaults.clone())
    }

    /// Adds an observer; the number removes it again.
    pub fn observe(&self, observer: Observer) -> u64 {
        self.0.observers.add(observer)
    }

    /// Adds an observer for a host to print what nobody else would tell, while nobody observes:
    /// cautions about the store, and losses that no call returned and nothing watched for.
    pub fn observe_warnings(&self, observer: Observer) -> u64 {
        self.0.observers.add_fallback(observer)
    }

    /// Removes an observer.
    pub fn unobserve(&self, id: u64) {
        self.0.observers.remove(id);
    }

    /// A lock handle with the store's default options.
    ///
    /// # Errors
    /// `InvalidArgument` for a name that is empty or too long.
    pub fn lock(&self, name: impl AsRef<[u8]>) -> Result<Lock> {
        self.lock_with(name, self.0.defaults.clone())
    }

    /// A lock handle with these options.
    ///
    /// # Errors
    /// `InvalidArgument`, `Unsupported` for what the store cannot promise.
    pub fn lock_with(&self, name: impl AsRef<[u8]>, options: LockOptions) -> Result<Lock> {
        let bytes = name.as_ref();
        let add = |error: Error| {
            error
                .with_operation("make lock")
                .with_resource(bytes)
                .with_store(self.url())
        };
        let lock = Lock::new(self.clone(), Name::new(bytes).map_err(add)?, options).map_err(add)?;
        while let Some(words) = self.0.backend.first_caution() {
            lock.shared().warn_of_store(words);
        }
        Ok(lock)
    }

    fn named<T>(
        &self,
        operation: &'static str,
        name: &[u8],
        run: impl FnOnce(&Name) -> Result<T>,
    ) -> Result<T> {
        Name::new(name)
            .and_then(|name| run(&name))
            .map_err(|error| {
                error
                    .with_operation(operation)
                    .with_resource(name)
                    .with_store(self.url())
            })
    }

    /// Connects now, and says whether the store can serve.
    ///
    /// # Errors
    /// `Unavailable`, `Permission`, `Protocol`, `Storage`; `Unsupported` for what is required of it.
    pub fn ping(&self, wait: Wait) -> Result<()> {
        self.0
            .defaults
            .require
            .check(&self.0.capabilities)
            .and_then(|()| self.0.backend.ping(wait.deadline()))
            .map_err(|error| error.with_operation("ping").with_store(self.url()))
    }

    /// Who holds the lock and how many wait.
    ///
    /// # Errors
    /// `Unsupported`, or trouble of the store.
    pub fn inspect(&self, name: impl AsRef<[u8]>) -> Result<Inspection> {
        self.named("inspect", name.as_ref(), |name| {
            self.0.backend.inspect(name, None)
        })
    }

    /// Whether anybody holds the lock.
    ///
    /// # Errors
    /// As [`Store::inspect`].
    pub fn is_locked(&self, name: impl AsRef<[u8]>) -> Result<bool> {
        self.inspect(name).map(|found| !found.holders.is_empty())
    }

    /// One page of the locks whose names begin with `prefix`.
    ///
    /// # Errors
    /// `Unsupported`, `InvalidArgument` for a bad cursor, or trouble of the store.
    pub fn list(&self, prefix: &[u8], cursor: Option<&str>, limit: usize) -> Result<Page> {
        self.0
            .backend
            .list(prefix, cursor, limit.clamp(1, 10_000), None)
            .map_err(|error| error.with_operation("list").with_store(self.url()))
    }

    /// Takes the lock from whoever holds it; false if nobody did.
    ///
    /// # Errors
    /// `Unsupported`, or trouble of the store.
    pub fn break_lock(&self, name: impl AsRef<[u8]>) -> Result<bool> {
        self.named("break", name.as_ref(), |name| {
            self.0.backend.break_lock(name, None)
        })
    }

    /// Looks for what dead users left in the store and nobody has cleared away yet, and for damage;
    /// changes nothing, takes no lock, and makes nothing that is not there.
    ///
    /// # Errors
    /// `Unsupported` (`shm:` can), or trouble of the store.
    pub fn check(&self) -> Result<Check> {
        self.0
            .backend
            .check()
            .map_err(|error| error.with_operation("check").with_store(self.url()))
    }

    /// Makes the table that the store keeps its locks in, if it is not there. Who may make tables can do
    /// this beforehand; otherwise it happens when the table is found to be missing.
    ///
    /// # Errors
    /// `Unsupported` on stores without a table, or trouble of the store.
    pub fn create_table(&self, wait: Wait) -> Result<()> {
        self.0
            .backend
            .create_table(wait.deadline())
            .map_err(|error| error.with_operation("create table").with_store(self.url()))
    }

    /// The SQL that makes that table, on the store's own engine or on a named one (`sqlite`, `postgres`,
    /// `mysql`); asks nobody.
    ///
    /// # Errors
    /// `Unsupported` on stores without a table, `InvalidArgument` for an engine that is not known.
    pub fn ddl(&self, engine: Option<&str>) -> Result<String> {
        self.0
            .backend
            .ddl(engine)
            .map_err(|error| error.with_operation("ddl").with_store(self.url()))
    }

    /// True as soon as nobody holds the lock, false when `wait` is over; takes nothing.
    ///
    /// # Errors
    /// `Unsupported`, or trouble of the store.
    pub fn wait_free(&self, name: impl AsRef<[u8]>, wait: Wait) -> Result<bool> {
        let until = wait
            .deadline()
            .unwrap_or_else(|| BootTime::now().after(Duration::from_secs(365 * 24 * 3600)));
        self.named("wait", name.as_ref(), |name| {
            self.0.backend.wait_free(name, until)
        })
    }

    /// Takes over a hold that another process exported; one of several adopters wins.
    ///
    /// # Errors
    /// `InvalidArgument` for text of another kind or store, `Lost` if the hold is gone or somebody
    /// else has adopted it, `Unsupported`.
    pub fn adopt(&self, exported: &str, options: LockOptions) -> Result<Lock> {
        let found = crate::hold::read_export(exported, &self.fingerprint())?;
        let mode = found.mode;
        let lock = self.lock_with(found.name.as_bytes(), LockOptions { mode, ..options })?;
        lock.adopt_from(found.token, self.draw_token()?, found.fence)?;
        Ok(lock)
    }
}
