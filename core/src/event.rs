//! What happens to locks, told to whoever observes.

use crate::codes::Code;
use crate::error::printable;
use crate::metrics::Meters;
use crate::name::Name;
use crate::owner::OwnerToken;
use arc_swap::ArcSwap;
use once_cell::race::OnceRef;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
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

    /// Severity where a manager promised that its locks are released: a failure is an `error`.
    pub(crate) fn level_of_manager(self) -> &'static str {
        match self {
            EventKind::Refused | EventKind::Forgotten => "error",
            EventKind::Lost | EventKind::Warning => "warning",
            _ => "debug",
        }
    }

    fn operation(self) -> &'static str {
        match self {
            EventKind::Acquired | EventKind::Waiting | EventKind::Refused => "acquire",
            EventKind::Released => "release",
            EventKind::Refreshed => "refresh",
            EventKind::Lost | EventKind::Warning => "hold",
            EventKind::Forgotten => "end",
        }
    }
}

/// What an event is told with, before anybody wants to read it.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) code: Code,
    pub(crate) owner: OwnerToken,
    pub(crate) waited: Duration,
    pub(crate) held: Duration,
    pub(crate) attempts: u32,
    pub(crate) message: &'a str,
}

impl Default for Facts<'_> {
    fn default() -> Self {
        Facts {
            code: Code::Ok,
            owner: OwnerToken::NONE,
            waited: Duration::ZERO,
            held: Duration::ZERO,
            attempts: 0,
            message: "",
        }
    }
}

/// One event with its context.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// Severity: that of the kind, and for locks of a manager also `error`.
    pub level: &'static str,
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
    /// Where the program made the lock (`file:line`), if it says; of a manager's, who asked.
    pub caller: Option<Arc<str>>,
    /// The typed key that the resource's name was made from, as JSON.
    pub key: Option<Arc<str>>,
    /// What was being done: `acquire`, `release`, `refresh`, `hold` or `end`.
    pub operation: &'static str,
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
            level: kind.level(),
            code: Code::Ok,
            pid: std::process::id(),
            store: store.to_owned(),
            resource: resource
                .map(|name| name.as_bytes().to_vec())
                .unwrap_or_default(),
            owner: String::new(),
            label: None,
            caller: None,
            key: None,
            operation: kind.operation(),
            waited: Duration::ZERO,
            held: Duration::ZERO,
            attempts: 0,
            message: String::new(),
        }
    }

    /// One line for a log with all that is known, the same in every language: `[pid] caller->operation:
    /// message. Key: resource key`, then the rest.
    pub fn line(&self) -> String {
        let mut line = format!(
            "[{}] {}->{}: {}.",
            self.pid,
            self.caller.as_deref().unwrap_or_default(),
            self.operation,
            self.message,
        );
        if !self.resource.is_empty() {
            let _ = write!(line, " Key: {}", printable(&self.resource));
            if let Some(key) = &self.key {
                let _ = write!(line, " {key}");
            }
        }
        let _ = write!(
            line,
            " (store {}, owner {}, waited {:.3} s, held {:.3} s, attempts {})",
            self.store,
            if self.owner.is_empty() {
                "-"
            } else {
                &self.owner
            },
            self.waited.as_secs_f64(),
            self.held.as_secs_f64(),
            self.attempts,
        );
        line
    }
}

/// Called on the thread on which the event happens, which may be the service thread; it must not
/// use the lock that the event is about.
pub type Observer = Arc<dyn Fn(&Event) + Send + Sync>;

/// Somebody observes.
const HEARD: u8 = 1;
/// The store is measured.
const MEASURED: u8 = 2;

/// Children of a fork inherit it, at whatever point another thread of their parent was: a list is replaced, and
/// nobody waits for anybody.
type Listeners = ArcSwap<Vec<(u64, Observer)>>;

fn add_to(listeners: &Listeners, id: u64, observer: &Observer) {
    listeners.rcu(|list| {
        let mut list = Vec::clone(list);
        list.push((id, observer.clone()));
        list
    });
}

fn remove_from(listeners: &Listeners, id: u64) {
    if listeners.load().iter().any(|(known, _)| *known == id) {
        listeners.rcu(|list| {
            let mut list = Vec::clone(list);
            list.retain(|(known, _)| *known != id);
            list
        });
    }
}

/// The observers of one store.
#[derive(Default)]
pub(crate) struct Observers {
    /// One byte to look at for those whom nobody hears.
    flags: AtomicU8,
    meters: OnceRef<'static, Meters>,
    next: AtomicU64,
    list: Listeners,
    /// Told of warnings while `list` is empty.
    fallback: Listeners,
}

impl Observers {
    pub(crate) fn add(&self, observer: Observer) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        add_to(&self.list, id, &observer);
        self.flags.fetch_or(HEARD, Ordering::Release);
        id
    }

    pub(crate) fn add_fallback(&self, observer: Observer) -> u64 {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        add_to(&self.fallback, id, &observer);
        id
    }

    pub(crate) fn remove(&self, id: u64) {
        remove_from(&self.fallback, id);
        remove_from(&self.list, id);
        if self.list.load().is_empty() {
            self.flags.fetch_and(!HEARD, Ordering::AcqRel);
            // One that was added meanwhile may have set it before.
            if !self.list.load().is_empty() {
                self.flags.fetch_or(HEARD, Ordering::Release);
            }
        }
    }

    /// Whether anybody listens.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        self.flags.load(Ordering::Acquire) & HEARD != 0
    }

    /// Whether anybody listens or counts.
    #[inline]
    pub(crate) fn any_or_measured(&self) -> bool {
        self.flags.load(Ordering::Acquire) != 0
    }

    /// Switches counting.
    pub(crate) fn measure(&self, on: bool, url: &str) {
        if on {
            if self.meters.get().is_none() {
                // If another thread was faster it has set the same: there is one for each store.
                let _ = self.meters.set(crate::metrics::of(url));
            }
            self.flags.fetch_or(MEASURED, Ordering::Release);
        } else {
            self.flags.fetch_and(!MEASURED, Ordering::Release);
        }
    }

    /// Where to count, if somebody wants it.
    pub(crate) fn meters(&self) -> Option<&'static Meters> {
        let is_measured = self.flags.load(Ordering::Acquire) & MEASURED != 0;
        self.meters.get().filter(|_| is_measured)
    }

    pub(crate) fn tell(&self, event: &Event) {
        let mut observers = self.list.load_full();
        if observers.is_empty() && event.kind.level() == "warning" {
            observers = self.fallback.load_full();
        }
        for (_, observer) in observers.iter() {
            observer(event);
        }
    }
}

impl std::fmt::Debug for Observers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observers").finish_non_exhaustive()
    }
}
