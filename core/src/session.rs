//! Sessions: one owner of many names, known by its id; Drupal's model of locks.
//!
//! ```
//! use std::time::Duration;
//! use synlock_core::{Session, Store, Wait};
//!
//! # fn main() -> synlock_core::Result<()> {
//! let store = Store::open("memory:")?;
//! let (mine, other) = (Session::new(&store), Session::new(&store));
//! let ttl = Duration::from_secs(30);
//! assert!(mine.acquire("cron", ttl)?.is_held());
//! assert!(mine.acquire("cron", ttl)?.is_held(), "renewed");
//! assert!(!other.acquire("cron", ttl)?.is_held());
//! assert!(other.wait("cron", Wait::For(Duration::from_millis(5)))?, "still held");
//! mine.release_all(None)?;
//! assert!(other.may_be_available("cron")?);
//! # Ok(())
//! # }
//! ```

mod id;
mod kept;
#[cfg(test)]
mod late_tests;
mod own;
#[cfg(test)]
mod tests;

use crate::fork::PerProcess;
use crate::lease::Wait;
use crate::registry::Store;
use crate::store::Backend;
use crate::sync::Mutex;
use crate::{Error, Result};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// For how long a lock is acquired unless one says otherwise, and for how long it is waited for.
pub const DEFAULT_TTL: Duration = Duration::from_secs(30);

/// What an acquire came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// The session holds the lock now.
    New,
    /// It held it already, and holds it for longer now.
    Renewed,
    /// Somebody else holds it.
    Busy,
    /// It held it, but no more: somebody else has it, or may have had it in between.
    Lost,
}

impl Taken {
    /// Whether the session holds the lock now.
    pub fn is_held(self) -> bool {
        matches!(self, Taken::New | Taken::Renewed)
    }
}

/// One owner of any number of locks, which all end with it: released together, when it is dropped, and at
/// the end of the process. Holds are exclusive; nothing renews them but another `acquire`.
///
/// Usable from any thread: threads that share a session share its holds. On a table of Drupal's
/// (`dialect=drupal`) its id stands in the rows; elsewhere it is the label of its holds.
///
/// On a store without leases a hold lasts until it is released or the process ends, whatever TTL is asked
/// for; `strict=1` refuses.
///
/// In a forked child a session that held nothing works as a new one, under an id of its own; one that held
/// something answers `ForkedHandle`. A persistent one works there as in any other process.
#[derive(Debug)]
pub struct Session(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Own(own::Own),
    Kept(kept::Kept),
}

/// The sessions of this process that its end must release.
static LIVE: PerProcess<Mutex<Vec<Weak<Inner>>>> = PerProcess::new();

impl Session {
    /// A new session; it draws its id when that is first needed.
    pub fn new(store: &Store) -> Self {
        let inner = Arc::new(Inner {
            store: store.clone(),
            kind: Kind::Own(own::Own::new(store)),
        });
        let mut live = LIVE.get_or_init(Mutex::default).lock();
        if live.len() >= 64 && live.len().is_power_of_two() {
            live.retain(|known| known.strong_count() > 0);
        }
        live.push(Arc::downgrade(&inner));
        Session(inner)
    }

    /// The persistent session of this id: its locks outlive it and the process, until their leases end or
    /// anybody who knows the id releases them. An `acquire` is refused while the lock is held, by the same
    /// id too, unless this very object took it; [`Session::renew`] is for the others.
    ///
    /// # Errors
    /// `InvalidArgument` for an id that is not 1 to 255 printable characters of ASCII, `Unsupported` on
    /// stores whose locks end with the process that took them.
    pub fn persistent(store: &Store, id: &str) -> Result<Self> {
        let kept =
            kept::Kept::new(store, id).map_err(|error| about(error, store, "make session"))?;
        Ok(Session(Arc::new(Inner {
            store: store.clone(),
            kind: Kind::Kept(kept),
        })))
    }

    /// Where its locks are kept.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Whether its locks outlive it.
    pub fn is_persistent(&self) -> bool {
        matches!(self.0.kind, Kind::Kept(_))
    }

    /// The id, the same for the session's whole life. One that is drawn looks as Drupal's do.
    ///
    /// # Errors
    /// `ForkedHandle`, `Exhausted` if the kernel gives no random numbers.
    pub fn id(&self) -> Result<Arc<str>> {
        match &self.0.kind {
            Kind::Own(own) => own.id(),
            Kind::Kept(kept) => Ok(kept.id().clone()),
        }
        .map_err(|error| about(error, &self.0.store, "session id"))
    }

    /// Takes the lock for `ttl`, or renews it for `ttl` from now if the session holds it; a renewal never
    /// shortens. Does not wait. Less than a millisecond counts as one.
    ///
    /// # Errors
    /// `InvalidArgument`, `Unsupported`, `ForkedHandle`, trouble of the store.
    pub fn acquire(&self, name: impl AsRef<[u8]>, ttl: Duration) -> Result<Taken> {
        let (name, ttl) = (name.as_ref(), ttl.max(Duration::from_millis(1)));
        match &self.0.kind {
            Kind::Own(own) => own.acquire(name, ttl),
            Kind::Kept(kept) => kept.acquire(name, ttl),
        }
        .map_err(|error| self.of(error, "acquire", name))
    }

    /// Lengthens a hold to `ttl` from now; false if the session does not hold the lock, or anybody else could
    /// have had it. A persistent session renews what any process acquired under its id, unless this object
    /// acquired it and has lost it.
    ///
    /// # Errors
    /// As [`Session::acquire`]; of a persistent session `Uncertain` if the reply was lost.
    pub fn renew(&self, name: impl AsRef<[u8]>, ttl: Duration) -> Result<bool> {
        let (name, ttl) = (name.as_ref(), ttl.max(Duration::from_millis(1)));
        match &self.0.kind {
            Kind::Own(own) => own.renew(name, ttl),
            Kind::Kept(kept) => kept.renew(name, ttl),
        }
        .map_err(|error| self.of(error, "renew", name))
    }

    /// Whether an `acquire` by somebody else would find the lock free now: a statement about the past. Breaks
    /// a hold whose lease has ended.
    ///
    /// # Errors
    /// Trouble of the store.
    pub fn may_be_available(&self, name: impl AsRef<[u8]>) -> Result<bool> {
        self.0.store.wait_free(name, Wait::No)
    }

    /// Waits until the lock may be available: false as soon as it may be, true if it is still held when `delay`
    /// is over. Takes nothing. Woken on memory, shm, flock, sysv, Redis, ZooKeeper, etcd, our tables of PostgreSQL and
    /// quorums of such; other stores have no place for who waits without wanting the lock: there it looks, at most
    /// 250 ms apart.
    ///
    /// # Errors
    /// Trouble of the store.
    pub fn wait(&self, name: impl AsRef<[u8]>, delay: Wait) -> Result<bool> {
        self.0.store.wait_free(name, delay).map(|free| !free)
    }

    /// Releases one lock; false if the session did not hold it any more. A persistent session releases what any
    /// process acquired under its id, unless this object acquired it and has lost it: then it
    /// says so once.
    ///
    /// # Errors
    /// `Uncertain` if the reply was lost: the hold ends with its lease at the latest. `ForkedHandle`, trouble
    /// of the store.
    pub fn release(&self, name: impl AsRef<[u8]>) -> Result<bool> {
        let name = name.as_ref();
        match &self.0.kind {
            Kind::Own(own) => own.release(name),
            Kind::Kept(kept) => kept.release(name),
        }
        .map_err(|error| self.of(error, "release", name))
    }

    /// Releases all locks of this session, and says how many there were: of a persistent one what this object
    /// took, not what others took under its id. With an id all locks of that one, whoever took them. Others' can
    /// be released on a table of Drupal's, and on stores that list theirs if they are persistent.
    ///
    /// # Errors
    /// The first that a release met, after all were tried; `Unsupported` for another id that the store
    /// cannot find, or whose locks its own process alone can release.
    pub fn release_all(&self, id: Option<&str>) -> Result<u64> {
        match (&self.0.kind, id) {
            (_, Some(id)) if *self.id()? != *id => kept::release_all_of(&self.0.store, id),
            (Kind::Own(own), _) => own.release_all(),
            (Kind::Kept(kept), None) => kept.release_own(),
            (Kind::Kept(kept), Some(_)) => kept.release_all(),
        }
        .map_err(|error| about(error, &self.0.store, "release all"))
    }

    fn of(&self, error: Error, operation: &'static str, name: &[u8]) -> Error {
        about(error, &self.0.store, operation).with_resource(name)
    }
}

/// What a host calls once at its end, for sessions that it will not drop: releases what they hold.
pub fn end_with_process() {
    let Some(live) = LIVE.get() else { return };
    let live = std::mem::take(&mut *live.lock());
    for session in live.iter().filter_map(Weak::upgrade) {
        session.end();
    }
}

impl Inner {
    /// What cannot be released now ends with its lease, or with the process.
    fn end(&self) {
        if let Kind::Own(own) = &self.kind
            && !own.is_forked()
        {
            let _ = own.release_all();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end();
    }
}

fn about(error: Error, store: &Store, operation: &'static str) -> Error {
    error.with_operation(operation).with_store(store.url())
}

/// The store as the session of this id has it: with the id in its rows, or as it is.
fn view(store: &Store, id: &str) -> (Arc<dyn Backend>, bool) {
    match store.backend().as_session(id) {
        Some(view) => (view, true),
        None => (store.backend().clone(), false),
    }
}
