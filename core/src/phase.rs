//! Where a handle stands between acquire and release.

mod gate;
mod gated;
#[cfg(all(loom, test))]
mod model;

pub(crate) use gate::Denied;
pub(crate) use gated::{Gated, PhaseGuard, PhaseLock, PhaseUse, Use};

use crate::cancel::Cancel;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::owner::OwnerToken;
use crate::reentry::Common;
use crate::signal::Signal;
use crate::state::{Acquired, State};
use crate::store::Claim;
use std::sync::Arc;

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
    /// Of holds that several handles may share (`reentry=extend`).
    pub(crate) common: Option<Arc<Common>>,
    pub(crate) undo: Undo,
}

impl Hold {
    /// Whether another handle that shared the hold has released it.
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        let common = self.common.as_ref();
        common.is_some_and(|common| common.has_ended())
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
