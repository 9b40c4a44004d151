//! The one entry that a handle has in the watchdog's book, whatever number of holds come and go.

use super::sync::{AtomicU64, Ordering};

/// Changed only by those who have the handle's phase.
#[derive(Debug)]
pub(crate) struct Entry {
    /// When it comes due (boot time, ns); 0 without one.
    due: AtomicU64,
    /// The process in whose book it stands.
    generation: AtomicU64,
}

impl Entry {
    pub(crate) fn new() -> Self {
        Entry {
            due: AtomicU64::new(0),
            generation: AtomicU64::new(0),
        }
    }

    /// Whether a hold that must be looked at by `due` needs a new entry, which is the one from now on.
    pub(crate) fn needs_new(&self, due: u64, now: u64, generation: u64) -> bool {
        let known = self.due.load(Ordering::Acquire);
        // A child of a fork has the parent's handles, and a book of its own.
        let is_here = self.generation.load(Ordering::Acquire) == generation;
        // One that comes due earlier, left by an earlier hold, looks at this hold then. One that should have
        // looked by now is late, or gone.
        let looks = is_here && known >= now && known <= due;
        if looks || (known != 0 && cfg!(canary = "keep_later")) {
            return false;
        }
        self.due.store(due, Ordering::Release);
        self.generation.store(generation, Ordering::Release);
        true
    }

    /// Whether the entry that comes due at `due` is the one, and no other has taken its place.
    pub(crate) fn is(&self, due: u64) -> bool {
        self.due.load(Ordering::Acquire) == due || cfg!(canary = "look_anyway")
    }

    /// The one has looked, and does so again then, or never: the next hold gets another.
    pub(crate) fn set(&self, again: Option<u64>) -> Option<u64> {
        if again.is_some() || !cfg!(canary = "never_forget") {
            self.due.store(again.unwrap_or(0), Ordering::Release);
        }
        again
    }
}
