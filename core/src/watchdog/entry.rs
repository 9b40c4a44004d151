//! The one entry that a handle has in the watchdog's book, whatever number of holds come and go.

use super::sync::{AtomicU64, Ordering};

/// When the entry comes due (boot time, ns); 0 without one. Changed only by those who have the handle's
/// phase.
#[derive(Debug)]
pub(crate) struct Entry(AtomicU64);

impl Entry {
    pub(crate) fn new() -> Self {
        Entry(AtomicU64::new(0))
    }

    /// Whether a hold that must be looked at by `due` needs a new entry, which is the one from now on.
    pub(crate) fn needs_new(&self, due: u64) -> bool {
        let known = self.0.load(Ordering::Acquire);
        // One that comes due earlier, left by an earlier hold, looks at this hold then.
        let later = known > due && !cfg!(canary = "keep_later");
        if known == 0 || later {
            self.0.store(due, Ordering::Release);
            return true;
        }
        false
    }

    /// Whether the entry that comes due at `due` is the one, and no other has taken its place.
    pub(crate) fn is(&self, due: u64) -> bool {
        self.0.load(Ordering::Acquire) == due || cfg!(canary = "look_anyway")
    }

    /// The one has looked, and does so again then, or never: the next hold gets another.
    pub(crate) fn set(&self, again: Option<u64>) -> Option<u64> {
        if again.is_some() || !cfg!(canary = "never_forget") {
            self.0.store(again.unwrap_or(0), Ordering::Release);
        }
        again
    }
}
