//! The phase behind its gate: the one place that reaches it, and the only `unsafe` of the handles (decision 0315).

use super::Phase;
use super::gate::{Denied, Gate};
use crate::fork;
use crate::shared::Shared;
use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};

/// Where a handle stands, and the gate before it.
#[derive(Debug)]
pub(crate) struct Gated {
    pub(crate) gate: Gate,
    phase: UnsafeCell<Phase>,
}

// SAFETY: the phase is reached through a `PhaseLock` or a `PhaseUse` alone, and the gate lets one be at a time.
unsafe impl Sync for Gated {}

impl Gated {
    pub(crate) fn new() -> Self {
        Gated {
            gate: Gate::new(),
            phase: UnsafeCell::new(Phase::Idle(None)),
        }
    }

    /// Waits for the phase.
    pub(crate) fn lock(&self) -> PhaseLock<'_> {
        self.gate.lock(fork::generation());
        PhaseLock(self)
    }

    /// The phase, unless somebody else has it.
    pub(crate) fn try_lock(&self) -> Option<PhaseLock<'_>> {
        self.gate
            .try_lock(fork::generation())
            .then(|| PhaseLock(self))
    }
}

/// The phase, locked.
#[derive(Debug)]
pub(crate) struct PhaseLock<'a>(&'a Gated);

impl Drop for PhaseLock<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.gate.unlock();
    }
}

impl Deref for PhaseLock<'_> {
    type Target = Phase;

    #[inline]
    fn deref(&self) -> &Phase {
        // SAFETY: nobody else has the phase before this is dropped.
        unsafe { &*self.0.phase.get() }
    }
}

impl DerefMut for PhaseLock<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Phase {
        // SAFETY: as above.
        unsafe { &mut *self.0.phase.get() }
    }
}

/// Marks a handle as in use; unmarks it when dropped.
pub(crate) struct Use<'a>(pub(crate) &'a Shared);

impl Drop for Use<'_> {
    fn drop(&mut self) {
        self.0.gated.gate.leave();
    }
}

/// A use of the handle together with its phase, which most calls need; given back in one step.
pub(crate) struct PhaseUse<'a>(&'a Shared);

impl<'a> PhaseUse<'a> {
    /// Takes both.
    #[inline]
    pub(crate) fn enter(lock: &'a Shared, generation: u64) -> Result<Self, Denied> {
        lock.gated.gate.enter_and_lock(generation)?;
        Ok(PhaseUse(lock))
    }

    /// Goes on without the phase.
    pub(crate) fn unlock(self) -> Use<'a> {
        let lock = self.0;
        std::mem::forget(self);
        Self::part(lock)
    }

    #[cold]
    fn part(lock: &'a Shared) -> Use<'a> {
        let used = Use(lock);
        lock.gated.gate.unlock();
        lock.flush_notices();
        used
    }
}

impl Drop for PhaseUse<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.0.has_notices() {
            // Told without the phase, and before the handle can be used again.
            drop(Self::part(self.0));
        } else {
            self.0.gated.gate.leave_and_unlock();
        }
    }
}

impl Deref for PhaseUse<'_> {
    type Target = Phase;

    #[inline]
    fn deref(&self) -> &Phase {
        // SAFETY: nobody else has the phase before this is dropped.
        unsafe { &*self.0.gated.phase.get() }
    }
}

impl DerefMut for PhaseUse<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Phase {
        // SAFETY: as above.
        unsafe { &mut *self.0.gated.phase.get() }
    }
}

/// The phase, locked; unlocking it tells what has happened meanwhile.
pub(crate) struct PhaseGuard<'a> {
    // In this order: unlocked first, then told.
    phase: PhaseLock<'a>,
    _told: Told<'a>,
}

impl<'a> PhaseGuard<'a> {
    #[inline]
    pub(crate) fn new(lock: &'a Shared) -> Self {
        PhaseGuard {
            phase: lock.gated.lock(),
            _told: Told(lock),
        }
    }

    /// Unless somebody else has it.
    pub(crate) fn try_new(lock: &'a Shared) -> Option<Self> {
        Some(PhaseGuard {
            phase: lock.gated.try_lock()?,
            _told: Told(lock),
        })
    }
}

struct Told<'a>(&'a Shared);

impl Drop for Told<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.flush_notices();
    }
}

impl Deref for PhaseGuard<'_> {
    type Target = Phase;

    #[inline]
    fn deref(&self) -> &Phase {
        &self.phase
    }
}

impl DerefMut for PhaseGuard<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Phase {
        &mut self.phase
    }
}
