//! The handle to a store.

use super::{backend, defaults};
use crate::event::{Event, Observer, Observers};
use crate::lease::{BootTime, Wait};
use crate::lock::Lock;
use crate::name::Name;
use crate::options::LockOptions;
use crate::store::custom::{self, Callbacks, Traits};
use crate::store::{Backend, Check, Inspection, Page};
use crate::url::Url;
use crate::{Capabilities, Code, Error, OwnerToken, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// So many late answers in a row are the way to the server.
const MOST_LATE: u32 = 3;

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
        let defaults = defaults::take(&mut url)
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

    /// Whether [`Store::inspect`] works; it may where `list` does not.
    pub fn inspects(&self) -> bool {
        self.0.backend.inspects()
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

    /// True as soon as nobody holds the lock, false when `wait` is over; takes nothing. On databases, memcached
    /// and quorums it looks again and again, at most 250 ms apart.
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
