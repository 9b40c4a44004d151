//! Where a handle stands between acquire and release.

mod gate;
#[cfg(all(loom, test))]
mod model;

pub(crate) use gate::{Denied, Gate};

use crate::cancel::Cancel;
use crate::fork;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::owner::OwnerToken;
use crate::shared::Shared;
use crate::signal::Signal;
use crate::state::{Acquired, State};
use crate::store::Claim;
use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the gate is made of; in `model.rs` it is made of the checker's.
mod sync {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    /// Between two looks at what another has for a moment, or for a server's answer.
    pub(super) fn pause(looks: u32) {
        match looks {
            0..6 => (0..1 << looks).for_each(|_| std::hint::spin_loop()),
            6..16 => std::thread::yield_now(),
            _ => std::thread::sleep(Duration::from_micros(50 << (looks - 16).min(4))),
        }
    }
}

/// How the acquire that made or met a hold is taken back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Undo {
    /// Its caller was told of nothing new.
    Nothing,
    /// By a release.
    Release,
    /// Another handle had the hold before, and keeps it.
    LetGo,
}

/// A hold, and what it was granted with.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) claim: Box<Claim>,
    pub(crate) lease: Option<BootTime>,
    pub(crate) fence: Option<u64>,
    pub(crate) since: BootTime,
    /// A change of mode was not answered: the store may have it as exclusive, though the claim says shared.
    pub(crate) unsure: bool,
    /// Of holds that several handles may share (`reentry=extend`): true once one has released it.
    pub(crate) ended: Option<Arc<AtomicBool>>,
    pub(crate) undo: Undo,
}

impl Hold {
    /// Whether another handle that shared the hold has released it.
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        let ended = self.ended.as_ref();
        ended.is_some_and(|ended| ended.load(Ordering::Acquire))
    }
}

/// What readers are told of a hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) token: OwnerToken,
    pub(crate) mode: Mode,
    /// Until when it may be acted on.
    pub(crate) until: Option<BootTime>,
    pub(crate) fence: Option<u64>,
}

/// A claim that is being asked for.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) claim: Box<Claim>,
    pub(crate) started: BootTime,
    pub(crate) deadline: Option<BootTime>,
    pub(crate) cancel: Option<Cancel>,
    pub(crate) attempts: u32,
    pub(crate) queued: bool,
    /// When to ask the store again even if the bell stays silent.
    pub(crate) next_look: BootTime,
}

/// The claim of the last hold, for the next one.
pub(crate) type Spare = Option<Box<Claim>>;

#[derive(Debug)]
pub(crate) enum Phase {
    Idle(Spare),
    Pending(Box<Pending>, Arc<Signal>),
    Held(Hold),
    Lost(Spare),
    Releasing(Hold),
}

impl Phase {
    pub(crate) fn state(&self) -> State {
        match self {
            Phase::Idle(_) => State::Idle,
            Phase::Pending(..) => State::Acquiring,
            Phase::Held(_) => State::Held,
            Phase::Lost(_) => State::Lost,
            Phase::Releasing(_) => State::Releasing,
        }
    }

    /// Takes the claim out, whatever became of it.
    #[inline]
    pub(crate) fn into_claim(self) -> Spare {
        match self {
            Phase::Idle(spare) | Phase::Lost(spare) => spare,
            Phase::Pending(pending, _) => Some(pending.claim),
            Phase::Held(hold) | Phase::Releasing(hold) => Some(hold.claim),
        }
    }
}

/// What an acquire needs next.
pub(crate) enum Step {
    /// It is over.
    Granted(Acquired),
    /// Sleep on the bell until then at most, and step again.
    Sleep(BootTime),
}

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
pub(crate) struct Use<S: Deref<Target = Shared>>(pub(crate) S);

impl<S: Deref<Target = Shared>> Drop for Use<S> {
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
    pub(crate) fn unlock(self) -> Use<&'a Shared> {
        let lock = self.0;
        std::mem::forget(self);
        Self::part(lock)
    }

    #[cold]
    fn part(lock: &'a Shared) -> Use<&'a Shared> {
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
