//! Who uses a handle, and who has its phase: in one word, since two would take most of the time that a free
//! lock takes.
//!
//! A call mostly wants both. It takes them by one compare-and-swap, and gives them back by a plain store: as
//! long as one call has both, nobody else changes the word. Whoever wants the phase of a handle that another
//! uses (the watchdog, those who look) waits for it by looking again; on this host it is had for a moment
//! only, and who asks a server looks seldom.
//!
//! In a forked child the word is still the parent's. A use goes on there for ever; the phase is taken over
//! from a thread that the child does not have.

use super::sync::{AtomicU64, Ordering, pause};

/// A call uses the handle.
const USED: u64 = 1;
/// Somebody has the phase.
const LOCKED: u64 = 2;
/// Above them stands the generation of the process.
const GENERATION_SHIFT: u32 = 2;

/// Why a handle cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Denied {
    /// Another call uses it.
    InUse,
    /// A call of the parent used it at the fork.
    Forked,
}

/// 0 while nobody uses the handle or has its phase.
#[derive(Debug)]
pub(crate) struct Gate(AtomicU64);

fn is_of(word: u64, me: u64) -> bool {
    word >> GENERATION_SHIFT == me
}

impl Gate {
    pub(crate) fn new() -> Self {
        Gate(AtomicU64::new(0))
    }

    fn swap(&self, from: u64, to: u64) -> bool {
        self.0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Begins a use by this process, and takes the phase.
    #[inline]
    pub(crate) fn enter_and_lock(&self, me: u64) -> Result<(), Denied> {
        let both = me << GENERATION_SHIFT | USED | LOCKED;
        match self
            .0
            .compare_exchange(0, both, Ordering::Acquire, Ordering::Relaxed)
        {
            Ok(_) => Ok(()),
            Err(_) => self.enter_and_wait(me),
        }
    }

    #[cold]
    fn enter_and_wait(&self, me: u64) -> Result<(), Denied> {
        self.enter(me)?;
        self.lock(me);
        Ok(())
    }

    /// Ends both.
    #[inline]
    pub(crate) fn leave_and_unlock(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// Begins a use by this process, whoever has the phase.
    pub(crate) fn enter(&self, me: u64) -> Result<(), Denied> {
        loop {
            let word = self.0.load(Ordering::Acquire);
            if word & USED != 0 {
                return Err(if is_of(word, me) {
                    Denied::InUse
                } else {
                    Denied::Forked
                });
            }
            let locked = if is_of(word, me) { word & LOCKED } else { 0 };
            if self.swap(word, me << GENERATION_SHIFT | locked | USED) {
                return Ok(());
            }
        }
    }

    /// Ends a use that does not have the phase; another may.
    pub(crate) fn leave(&self) {
        // Canary of row 41: the phase of whoever has it goes along.
        if cfg!(canary = "leave_all") {
            return self.leave_and_unlock();
        }
        self.give_back(USED);
    }

    /// Takes the phase, unless somebody has it.
    pub(crate) fn try_lock(&self, me: u64) -> bool {
        loop {
            let word = self.0.load(Ordering::Acquire);
            let ours = is_of(word, me);
            if ours && word & LOCKED != 0 {
                return false;
            }
            let used = if ours { word & USED } else { 0 };
            if self.swap(word, me << GENERATION_SHIFT | used | LOCKED) {
                return true;
            }
        }
    }

    /// Waits for the phase.
    pub(crate) fn lock(&self, me: u64) {
        let mut looks = 0;
        while !self.try_lock(me) {
            pause(looks);
            looks += 1;
        }
    }

    /// Gives the phase back; a use goes on.
    pub(crate) fn unlock(&self) {
        self.give_back(LOCKED);
    }

    fn give_back(&self, what: u64) {
        loop {
            let word = self.0.load(Ordering::Acquire);
            let rest = word & !what;
            let left = if rest & (USED | LOCKED) == 0 { 0 } else { rest };
            if self.swap(word, left) {
                return;
            }
        }
    }

    /// The generation of the process whose call uses the handle, 0 for none.
    #[inline]
    pub(crate) fn user(&self) -> u64 {
        let word = self.0.load(Ordering::Acquire);
        if word & USED == 0 {
            0
        } else {
            word >> GENERATION_SHIFT
        }
    }
}
