//! Where a handle stands between acquire and release.

use crate::cancel::Cancel;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::owner::OwnerToken;
use crate::shared::Shared;
use crate::signal::Signal;
use crate::state::{Acquired, State};
use crate::store::Claim;
use crate::sync::MutexGuard;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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

/// The phase, locked; unlocking it tells what has happened meanwhile.
pub(crate) struct PhaseGuard<'a> {
    // In this order: unlocked first, then told.
    phase: MutexGuard<'a, Phase>,
    _told: Told<'a>,
}

impl<'a> PhaseGuard<'a> {
    #[inline]
    pub(crate) fn new(lock: &'a Shared) -> Self {
        PhaseGuard {
            phase: lock.phase.lock(),
            _told: Told(lock),
        }
    }

    /// Unless somebody else has it.
    pub(crate) fn try_new(lock: &'a Shared) -> Option<Self> {
        Some(PhaseGuard {
            phase: lock.phase.try_lock()?,
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
