//! What a set took of its locks: what the program takes of them by hand is none of the set's.

use super::LockSet;
use crate::codes::Code;
use crate::fork;
use crate::phase::Phase;
use crate::shared::Shared;
use crate::state::State;
use crate::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The hold of each lock, or its place in a queue, by the time at which that began; 0 for none.
#[derive(Debug)]
pub(super) struct Taken(Box<[AtomicU64]>);

impl Taken {
    /// Of so many locks, none.
    pub(super) fn none(count: usize) -> Self {
        Taken((0..count).map(|_| AtomicU64::new(0)).collect())
    }

    /// Notes what the locks have now, which nobody else uses.
    pub(super) fn note(&self, locks: &[Arc<Shared>]) {
        for (taken, lock) in self.0.iter().zip(locks) {
            taken.store(lock.tenure().unwrap_or(0), Ordering::Release);
        }
    }

    /// Whether the lock at this place has something now that was not taken by the set.
    fn is_by_hand(&self, at: usize, lock: &Shared) -> bool {
        let now = lock.tenure();
        now.is_some_and(|now| now != self.0[at].load(Ordering::Acquire))
    }

    /// Whether the lock at this place, which is in this phase, is held as the set took it.
    fn is_held(&self, at: usize, lock: &Shared, phase: &Phase) -> bool {
        matches!(phase, Phase::Held(hold) if !hold.has_ended())
            && lock.tenure_in(phase) == Some(self.0[at].load(Ordering::Acquire))
    }
}

impl LockSet {
    /// Whether the last acquire took something, or may have: what was held before it, or by hand, is none of its own.
    pub(crate) fn has_taken(&self) -> bool {
        self.is_underway() || (self.is_mine(&self.held) && !self.again.load(Ordering::Acquire))
    }

    /// Whether an acquire was interrupted.
    pub(crate) fn is_underway(&self) -> bool {
        self.is_mine(&self.underway)
    }

    /// The places of the locks that are to be released, one at least; fails unless it holds some, as far as it was told.
    pub(crate) fn to_release(&self) -> Result<Vec<usize>> {
        if !self.is_mine(&self.held) {
            return Err(self.not_held());
        }
        let places = self.own();
        if places.is_empty() {
            // All of them were released and taken again by hand.
            self.leave();
            return Err(self.not_held());
        }
        Ok(places)
    }

    /// What the release of a set is told that holds nothing.
    pub(crate) fn not_held(&self) -> Error {
        self.first.about("release", Error::outcome(Code::NotHeld))
    }

    /// Has no part in its locks any more; says where it had some that is to be given back.
    pub(crate) fn forget(&self) -> Vec<usize> {
        let places = self.own();
        self.underway.store(0, Ordering::Release);
        self.leave();
        self.locks.iter().for_each(|lock| lock.keep(false));
        places
    }

    /// Gives back what it took of the lock at this place, if that is held: another may use the lock.
    pub(super) fn end_one(&self, at: usize) {
        let lock = &self.locks[at];
        let mut phase = lock.lock_phase();
        if !self.taken.is_held(at, lock, &phase) {
            return;
        }
        let released = lock.release_in(&mut phase);
        drop(phase);
        lock.warn_if_lost(released);
    }

    /// The places of the locks that have nothing but what it took, from the last to the first.
    pub(super) fn own(&self) -> Vec<usize> {
        let places = (0..self.locks.len()).rev();
        places
            .filter(|at| !self.taken.is_by_hand(*at, &self.locks[*at]))
            .collect()
    }

    pub(super) fn is_mine(&self, since: &AtomicU64) -> bool {
        since.load(Ordering::Acquire) == fork::generation()
    }
}

impl Shared {
    /// When what the handle has, had until it was lost, or waits for began, which tells it from all that it had before.
    fn tenure(&self) -> Option<u64> {
        if self.state.load(Ordering::Acquire) == State::Idle as u8 {
            return None;
        }
        self.tenure_in(&self.lock_phase())
    }

    fn tenure_in(&self, phase: &Phase) -> Option<u64> {
        match phase {
            Phase::Idle(_) => None,
            Phase::Pending(pending, _) => Some(pending.started.as_nanos()),
            Phase::Held(hold) | Phase::Releasing(hold) => Some(hold.since.as_nanos()),
            Phase::Lost(_) => Some(self.lost_since.load(Ordering::Acquire)),
        }
    }

    /// Whether the handle has a hold, sure or not; of whoever uses it.
    pub(super) fn is_held_now(&self) -> bool {
        self.state.load(Ordering::Acquire) == State::Held as u8
            && matches!(&*self.lock_phase(), Phase::Held(hold) if !hold.has_ended())
    }

    pub(super) fn is_pending(&self) -> bool {
        matches!(&*self.lock_phase(), Phase::Pending(..))
    }
}
