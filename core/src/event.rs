//! What happens to locks, told to whoever observes.

use crate::codes::Code;
use crate::name::Name;
use crate::sync::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
#[non_exhaustive]
pub enum EventKind {
    /// A lock was acquired.
    Acquired = 1,
    /// An acquire found the lock taken and begins to wait.
    Waiting = 2,
    /// An acquire ended without the lock (busy, timed out, cancelled, failed).
    Refused = 3,
    /// A lock was released by its holder.
    Released = 4,
    /// A lease was lengthened, by the caller or the watchdog.
    Refreshed = 5,
    /// A held lock was lost: expired, broken, or forgotten by its store.
    Lost = 6,
    /// A handle was dropped, or the process ended, while it held the lock.
    Forgotten = 7,
    /// A caution about the store or the way it is used.
    Warning = 8,
}

impl EventKind {
    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Acquired => "acquired",
            EventKind::Waiting => "waiting",
            EventKind::Refused => "refused",
            EventKind::Released => "released",
            EventKind::Refreshed => "refreshed",
            EventKind::Lost => "lost",
            EventKind::Forgotten => "forgotten",
            EventKind::Warning => "warning",
        }
    }

    /// Severity as PSR-3 and syslog name it: `debug`, `info`, `notice` or `warning`.
    pub fn level(self) -> &'static str {
        match self {
            EventKind::Waiting | EventKind::Refreshed => "debug",
            EventKind::Acquired | EventKind::Released | EventKind::Refused => "info",
            EventKind::Forgotten => "notice",
            EventKind::Lost | EventKind::Warning => "warning",
        }
    }
}

/// One event with its context.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The code that goes with it; `Ok` if none does.
    pub code: Code,
    /// The process.
    pub pid: u32,
    /// The store, credentials left out.
    pub store: String,
    /// The resource; empty for warnings about a store.
    pub resource: Vec<u8>,
    /// First 8 digits of the owner token.
    pub owner: String,
    /// Label of the lock, if it has one.
    pub label: Option<Arc<str>>,
    /// Where the program made the lock (`file:line`), if it says.
    pub caller: Option<Arc<str>>,
    /// How long the acquire waited.
    pub waited: Duration,
    /// How long the lock was held.
    pub held: Duration,
    /// How often the store was asked.
    pub attempts: u32,
    /// Words for people.
    pub message: String,
}

impl Event {
    /// An event with nothing but its kind, store and resource.
    pub fn new(kind: EventKind, store: &str, resource: Option<&Name>) -> Self {
        Event {
            kind,
            code: Code::Ok,
            pid: std::process::id(),
            store: store.to_owned(),
            resource: resource
                .map(|name| name.as_bytes().to_vec())
                .unwrap_or_default(),
            owner: String::new(),
            label: None,
            caller: None,
            waited: Duration::ZERO,
            held: Duration::ZERO,
            attempts: 0,
            message: String::new(),
        }
    }
}

/// Called on the thread on which the event happens, which may be the service thread; it must not
/// use the lock that the event is about.
pub type Observer = Arc<dyn Fn(&Event) + Send + Sync>;

/// The observers of one store.
#[derive(Default)]
pub(crate) struct Observers {
    any: AtomicBool,
    next: AtomicU64,
    list: RwLock<Vec<(u64, Observer)>>,
    /// Told of warnings while `list` is empty.
    fallback: RwLock<Vec<(u64, Observer)>>,
}

impl Observers {
    pub(crate) fn add(&self, observer: Observer) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        self.list.write().push((id, observer));
        self.any.store(true, Ordering::Release);
        id
    }

    pub(crate) fn add_fallback(&self, observer: Observer) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        self.fallback.write().push((id, observer));
        id
    }

    pub(crate) fn remove(&self, id: u64) {
        self.fallback.write().retain(|(known, _)| *known != id);
        let mut list = self.list.write();
        list.retain(|(known, _)| *known != id);
        self.any.store(!list.is_empty(), Ordering::Release);
    }

    /// Whether anybody listens.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    pub(crate) fn tell(&self, event: &Event) {
        let mut observers = self.list.read().clone();
        if observers.is_empty() && event.kind.level() == "warning" {
            observers = self.fallback.read().clone();
        }
        for (_, observer) in observers {
            observer(event);
        }
    }
}

impl std::fmt::Debug for Observers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observers").finish_non_exhaustive()
    }
}
