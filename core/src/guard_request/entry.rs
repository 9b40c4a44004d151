//! Whether a request is let in.

use super::policy::GuardMode;
use super::services::Plan;
use crate::Result;
use crate::broken;
use crate::lease::{BootTime, Wait};
use crate::lock::{Acquired, Lock, Released, State};
use crate::store::Holder;
use std::time::Duration;

/// What became of a request.
#[derive(Debug)]
pub struct Entry {
    lock: Option<Lock>,
    acquired: Option<Acquired>,
    admitted: bool,
    waited: Duration,
    refusals: u32,
    holders: Vec<Holder>,
}

impl Entry {
    pub(super) fn with(self, lock: Lock, acquired: Acquired) -> Self {
        Entry {
            lock: Some(lock),
            acquired: Some(acquired),
            ..self
        }
    }

    /// Whether the handler may run.
    pub fn is_admitted(&self) -> bool {
        self.admitted
    }

    /// The lock to release at the release point; none if the mode acquires nothing, or the host did.
    pub fn lock(&self) -> Option<&Lock> {
        self.lock.as_ref()
    }

    /// Takes the lock out, for a host that keeps it with its other ones.
    pub fn into_lock(self) -> Option<Lock> {
        self.lock
    }

    /// How the acquire went.
    pub fn acquired(&self) -> Option<&Acquired> {
        self.acquired.as_ref()
    }

    /// How long the request waited.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// How often the lock was asked for; refused: how many acquires came to nothing, each counted once.
    pub fn attempts(&self) -> u32 {
        self.acquired
            .as_ref()
            .map_or(self.refusals, |acquired| acquired.attempts)
    }

    /// Refused: who held the lock, if the store tells. Admitted by force: who held it when it was taken, as seen
    /// just before; one that let go in that moment is among them, and one that came is not.
    pub fn holders(&self) -> &[Holder] {
        &self.holders
    }

    /// Refused: when the last holder's lease ends, if it has one.
    pub fn retry_after(&self) -> Option<Duration> {
        if self.admitted || self.holders.is_empty() {
            return None;
        }
        let ends = self.holders.iter().map(|holder| holder.remaining);
        ends.collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    /// As the header `Retry-After` has it: whole seconds, at least one.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        let left = self.retry_after()?;
        Some(left.as_secs() + u64::from(left.subsec_nanos() > 0)).map(|seconds| seconds.max(1))
    }

    /// Releases what is held; nothing if nothing is.
    ///
    /// # Errors
    /// As [`Lock::release`].
    pub fn release(&self) -> Result<Option<Released>> {
        match &self.lock {
            Some(lock) if lock.state() != State::Idle => lock.release().map(Some),
            _ => Ok(None),
        }
    }
}

/// What a host does next.
#[derive(Debug)]
pub enum Step {
    /// It is over.
    Done(Entry),
    /// Acquire a lock of [`Plan::options`] with this wait, in whatever way, and go on with
    /// [`Entering::granted`] or [`Entering::busy`]; any other failure is the end.
    Acquire(Wait),
}

/// A request at the gate, for hosts that acquire in their own way; [`Plan::enter`] is this on one
/// thread. It may ask the store, but never waits for a lock.
#[derive(Debug)]
pub struct Entering {
    plan: Plan,
    began: BootTime,
    refusals: u32,
    broken: Vec<Holder>,
}

impl Entering {
    /// Asks nobody.
    pub fn new(plan: Plan) -> Self {
        Entering {
            plan,
            began: BootTime::now(),
            refusals: 0,
            broken: Vec::new(),
        }
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The first step; asks the store only in the mode `check`.
    ///
    /// # Errors
    /// Trouble of the store.
    pub fn begin(&mut self) -> Result<Step> {
        if self.plan.policy().mode != GuardMode::Check {
            return Ok(Step::Acquire(self.plan.wait()));
        }
        let holders = self
            .plan
            .store()
            .inspect(self.plan.name().as_bytes())?
            .holders;
        let admitted = holders.is_empty();
        Ok(Step::Done(self.entry(admitted, holders)))
    }

    /// The acquire was granted. Asks nobody.
    pub fn granted(&mut self) -> Entry {
        let broken = std::mem::take(&mut self.broken);
        self.entry(true, broken)
    }

    /// The acquire was `Busy`, or `Timeout`.
    ///
    /// # Errors
    /// Trouble of the store.
    pub fn busy(&mut self) -> Result<Step> {
        self.refusals = self.refusals.saturating_add(1);
        if self.plan.policy().mode == GuardMode::Force && self.has_time() {
            self.take_away()?;
            return Ok(Step::Acquire(Wait::No));
        }
        // A refusal that cannot say who is in the way is one all the same.
        let found = self.plan.store().inspect(self.plan.name().as_bytes());
        let holders = found.map(|found| found.holders).unwrap_or_default();
        Ok(Step::Done(self.entry(false, holders)))
    }

    /// Breaking hands the lock to whoever waits for it, who is then the next to lose it: it takes several
    /// rounds to get past a queue, and two that force could go on for ever.
    fn has_time(&self) -> bool {
        BootTime::now().since(self.began) < self.plan.policy().max_wait
    }

    fn take_away(&mut self) -> Result<()> {
        let (store, name) = (self.plan.store(), self.plan.name());
        let victims = if store.inspects() {
            store.inspect(name.as_bytes())?.holders
        } else {
            Vec::new()
        };
        if store.break_lock(name.as_bytes())? {
            broken::note(store, name, &victims, self.plan.label());
            self.broken.extend(victims);
        }
        Ok(())
    }

    fn entry(&self, admitted: bool, holders: Vec<Holder>) -> Entry {
        Entry {
            lock: None,
            admitted,
            waited: BootTime::now().since(self.began),
            refusals: self.refusals,
            acquired: None,
            holders,
        }
    }
}

#[cfg(all(test, feature = "memory", feature = "flock"))]
mod tests;
