//! Several locks at once: all of them, or none.

pub(crate) mod plan;
mod taken;
#[cfg(test)]
mod tests;
mod together;

use crate::cancel::Cancel;
use crate::codes::Code;
use crate::fork;
use crate::lease::{BootTime, Wait};
use crate::lock::{Lock, LongUse};
use crate::options::Reentry;
use crate::registry::Store;
use crate::shared::Shared;
use crate::state::{Acquired, Released};
use crate::{Error, Result};
use plan::{Next, Plan, Step, Told};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use taken::Taken;

/// How many locks a set has at most.
pub const MOST: usize = 1024;

/// Locks that are taken together, all or none, whatever their modes, options and stores are.
///
/// No two sets can wait for one another: a set that waits for a name holds only names before it, in an order that
/// is the same in every process and language. Where all are of one store that can (Redis), taking them, when they
/// are free, is one round trip, and so is giving them back. Leases of what is held while another is waited for are
/// renewed, whatever the options say, and are fresh when all are held.
///
/// The locks stay what they are: each has its fencing token, its lease and its state. A lock that belongs to the
/// program too is not to be used by hand while the set is being acquired: `ConcurrentUse`. May move between
/// threads; used by one at a time. Dropping a set gives back what it holds, but for locks whose `auto_release` is
/// off.
#[derive(Debug)]
pub struct LockSet {
    /// In the order of all sets.
    locks: Vec<Arc<Shared>>,
    /// The lock that was named first: its options say how long to wait.
    first: Arc<Shared>,
    /// Generation of the process in which an acquire was interrupted, 0 otherwise.
    underway: AtomicU64,
    /// Generation of the process in which the set is held, 0 otherwise.
    held: AtomicU64,
    /// The last acquire found something held: there is nothing of it to take back.
    again: AtomicBool,
    /// Of each lock, as long as it is held or an acquire was interrupted.
    taken: Taken,
    /// When the last acquire began, in nanoseconds since boot.
    started: AtomicU64,
}

impl LockSet {
    /// A set of these locks; asks no store. They may be used, and dropped, as before.
    ///
    /// # Errors
    /// `InvalidArgument` for no lock at all, more than [`MOST`], and two on one name.
    pub fn new(locks: &[&Lock]) -> Result<Self> {
        let Some(first) = locks.first() else {
            return Err(Error::invalid("a set has one lock at least"));
        };
        if locks.len() > MOST {
            return Err(Error::invalid(format!("a set has {MOST} locks at most")));
        }
        let mut sorted: Vec<_> = locks
            .iter()
            .map(|lock| (lock.store().backend().identity(), lock.shared().clone()))
            .collect();
        sorted.sort_by(|(a, one), (b, other)| {
            (a, one.name.as_bytes()).cmp(&(b, other.name.as_bytes()))
        });
        let same = sorted.windows(2).find(|two| {
            two[0].0 == two[1].0 && two[0].1.name.as_bytes() == two[1].1.name.as_bytes()
        });
        if let Some([(_, twice), _]) = same {
            let error = Error::invalid("two locks of a set are on one name");
            return Err(twice.about("make a set", error));
        }
        Ok(LockSet {
            locks: sorted.into_iter().map(|(_, lock)| lock).collect(),
            first: first.shared().clone(),
            taken: Taken::none(locks.len()),
            underway: AtomicU64::new(0),
            held: AtomicU64::new(0),
            again: AtomicBool::new(false),
            started: AtomicU64::new(0),
        })
    }

    /// How long `acquire` waits if the caller does not say: what the options of the first lock say.
    pub fn default_wait(&self) -> Wait {
        self.first.options.timeout.unwrap_or(Wait::Forever)
    }

    /// How many locks it has.
    #[allow(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.locks.len()
    }

    pub(crate) fn lock(&self, at: usize) -> &Arc<Shared> {
        &self.locks[at]
    }

    /// Takes all locks, waiting as `wait` says in all; any wait ends when `cancel` is thrown.
    ///
    /// # Errors
    /// As [`Lock::acquire`], about one of the locks; then none is held. After `Interrupted` (only if a lock is
    /// `interruptible`) the call made again within a second goes on, and what was taken stays until then: give it
    /// back with [`abandon`](Self::abandon). `AlreadyHeld` if one is held by hand.
    pub fn acquire(&self, wait: Wait, cancel: Option<&Cancel>) -> Result<Acquired> {
        let (mut plan, _used) = self.enter(wait)?;
        if plan.waits_at().is_none() {
            // What was waited for by hand, and interrupted.
            self.locks.iter().for_each(|lock| lock.abandon());
        }
        // A handle that is freed meanwhile must be able to end the wait.
        let cancel = cancel.cloned().unwrap_or_default();
        self.run_by(Some(&cancel));
        let deadline = wait.deadline();
        let mut next = plan.begin();
        let ended = loop {
            match next {
                Next::Over(ended) => break ended,
                Next::Do(step, places) => {
                    let told = self.perform(step, &places, deadline, &cancel);
                    next = plan.next(told);
                    if matches!(next, Next::Over(Ok(_))) && self.has_orphan() {
                        next = plan.fail(Error::outcome(Code::Cancelled));
                    }
                }
            }
        };
        self.run_by(None);
        self.note_end(&plan, ended)
    }

    /// Takes all locks if all are free; `None` if one is not.
    ///
    /// # Errors
    /// As [`LockSet::acquire`], but for `Busy`.
    pub fn try_acquire(&self) -> Result<Option<Acquired>> {
        match self.acquire(Wait::No, None) {
            Ok(acquired) => Ok(Some(acquired)),
            Err(error) if error.code() == Code::Busy => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes back the last acquire, as [`Lock::abandon`] does: gives up one that was interrupted, and what one was
    /// granted. What was held before stays held.
    ///
    /// # Errors
    /// `ForkedHandle`, `ConcurrentUse`.
    pub fn abandon(&self) -> Result<()> {
        let _used = self.enter_all()?;
        if self.has_taken() {
            self.give_up();
        }
        Ok(())
    }

    fn give_up(&self) {
        for at in self.forget() {
            self.locks[at].undo();
        }
    }

    /// Gives all locks back that it took.
    ///
    /// # Errors
    /// `NotHeld` if it took none; of several that were not released as they should be, the first: `Lost`,
    /// `Uncertain`, `Unavailable`. The others are released all the same.
    pub fn release(&self) -> Result<Released> {
        let _used = self.enter_all()?;
        if self.is_underway() {
            self.give_up();
            return Err(self.not_held());
        }
        let places = self.to_release()?;
        let told = self.give_back(&places);
        self.sum_up(told.into_iter().zip(places))
    }

    /// Leaves what it holds to the locks themselves: dropping the set gives nothing back.
    pub fn leave(&self) {
        self.held.store(0, Ordering::Release);
    }

    /// What releases came to. Those that went wrong can be asked for again.
    pub(crate) fn sum_up(
        &self,
        told: impl Iterator<Item = (Result<Released>, usize)>,
    ) -> Result<Released> {
        let mut late = false;
        let mut released = 0;
        let mut failed = None;
        for (answer, at) in told {
            match answer {
                Ok(one) => {
                    late |= one.late;
                    released += 1;
                }
                Err(error) => {
                    let bad = error.code() != Code::NotHeld;
                    if failed.as_ref().is_none_or(|(known, _, _)| bad && !known) {
                        failed = Some((bad, at, error));
                    }
                }
            }
        }
        if failed
            .as_ref()
            .is_none_or(|(_, _, error)| error.code().number() < Code::NullPointer.number())
        {
            self.leave();
        }
        match failed {
            // One that was given back by hand.
            Some((false, ..)) if released > 0 => Ok(Released { late }),
            None => Ok(Released { late }),
            Some((_, at, error)) => Err(self.locks[at].about("release", error)),
        }
    }

    /// Asks the stores, and fails unless all locks are held.
    ///
    /// # Errors
    /// As [`Lock::ensure_held`], about the first that is not.
    pub fn ensure_held(&self) -> Result<()> {
        let _used = self.enter_all()?;
        for lock in &self.locks {
            lock.check().map_err(|error| lock.about("check", error))?;
        }
        Ok(())
    }

    /// The store of the lock that was named first.
    pub fn store(&self) -> &Store {
        &self.first.store
    }

    /// Whether a custom store has one of the locks: only threads of the program may ask it.
    pub fn is_of_callers_stores(&self) -> bool {
        self.locks
            .iter()
            .any(|lock| lock.store.is_caller_thread_only())
    }

    /// Event loops cannot wait for stores that only their program's threads may ask.
    pub(crate) fn refuse_callers_stores(&self) -> Result<()> {
        match self
            .locks
            .iter()
            .find(|lock| lock.store.is_caller_thread_only())
        {
            None => Ok(()),
            Some(lock) => {
                let words = "a custom store is asked on threads of the program alone: event loops call its locks directly";
                Err(lock.about("submit", Error::unsupported(words)))
            }
        }
    }

    /// Marks all locks as in use.
    pub(crate) fn enter_all(&self) -> Result<Vec<LongUse>> {
        self.locks.iter().map(LongUse::of).collect()
    }

    /// Marks all as in use for an acquire, and says how it goes on.
    pub(crate) fn enter(&self, wait: Wait) -> Result<(Plan, Vec<LongUse>)> {
        let used = self.enter_all()?;
        let count = self.locks.len();
        if self.is_underway() {
            let pending = self.locks.iter().position(|lock| lock.is_pending());
            let held = self.locks.iter().take_while(|lock| lock.is_held_now());
            let own = self.own();
            let resumes = |at: &usize| *at == held.count() && (0..=*at).all(|at| own.contains(&at));
            if let Some(at) = pending.filter(resumes) {
                return Ok((Plan::resumed(count, at), used));
            }
            // A part of it was lost meanwhile, or given back by hand, and perhaps taken again.
            self.give_up();
        }
        let now = BootTime::now().as_nanos();
        self.started.store(now, Ordering::Release);
        let held = self.locks.iter().find(|lock| lock.is_held_now());
        self.again.store(held.is_some(), Ordering::Release);
        if let Some(held) = held {
            return Err(held.about("acquire", Error::outcome(Code::AlreadyHeld)));
        }
        Ok((Plan::new(count, wait != Wait::No), used))
    }

    /// Whether a handle was dropped while this was under way.
    pub(crate) fn has_orphan(&self) -> bool {
        self.locks.iter().any(|lock| lock.is_orphaned())
    }

    /// Has a handle that is dropped meanwhile end the acquire, or no more.
    pub(crate) fn run_by(&self, cancel: Option<&Cancel>) {
        for lock in &self.locks {
            *lock.running.lock() = cancel.cloned();
        }
        // Whoever dropped one before this found nothing to end.
        if let Some(cancel) = cancel.filter(|_| self.has_orphan()) {
            cancel.cancel();
        }
    }

    /// Notes how an acquire has ended.
    pub(crate) fn note_end(&self, plan: &Plan, ended: Result<Acquired>) -> Result<Acquired> {
        let now = BootTime::now();
        match ended {
            Ok(acquired) => {
                self.locks.iter().for_each(|lock| lock.keep(false));
                self.taken.note(&self.locks);
                self.underway.store(0, Ordering::Release);
                self.held.store(fork::generation(), Ordering::Release);
                let started = BootTime::from_nanos(self.started.load(Ordering::Acquire));
                Ok(Acquired {
                    waited: now.since(started),
                    ..acquired
                })
            }
            Err(error) if plan.waits_at().is_some() => {
                self.taken.note(&self.locks);
                self.underway.store(fork::generation(), Ordering::Release);
                Err(error)
            }
            Err(error) => {
                self.locks.iter().for_each(|lock| lock.keep(false));
                self.underway.store(0, Ordering::Release);
                let busy = plan.busy().filter(|_| error.code() == Code::Busy);
                Err(busy.map_or(error, |at| {
                    let lock = &self.locks[at];
                    let refused = lock.refuse(Code::Busy, Duration::ZERO);
                    lock.flush_notices();
                    lock.about("acquire", refused)
                }))
            }
        }
    }

    /// What is left of the time, for one wait. Whoever had some has waited.
    pub(crate) fn wait_until(deadline: Option<BootTime>) -> Wait {
        deadline.map_or(Wait::Forever, |end| {
            Wait::For(end.left().max(Duration::from_nanos(1)))
        })
    }

    /// Before the lock at this place is waited for.
    pub(crate) fn keep_before(&self, at: usize) -> &[Arc<Shared>] {
        let kept = &self.locks[..at];
        kept.iter().for_each(|lock| lock.keep(true));
        kept
    }

    fn perform(
        &self,
        step: Step,
        places: &[usize],
        deadline: Option<BootTime>,
        cancel: &Cancel,
    ) -> Told {
        let each = |run: &dyn Fn(&Shared) -> Result<Option<Acquired>>| {
            let one = |at: &usize| {
                let lock = &self.locks[*at];
                (*at, run(lock).map_err(|error| lock.about("acquire", error)))
            };
            places.iter().map(one).collect()
        };
        match step {
            Step::Try => self.look(places, cancel),
            Step::Wait => {
                for at in places {
                    self.keep_before(*at).iter().for_each(|lock| lock.watch());
                }
                each(&|lock| {
                    let wait = Self::wait_until(deadline);
                    lock.wait_for(wait, BootTime::now(), Some(cancel)).map(Some)
                })
            }
            Step::Confirm => each(&|lock| lock.refresh(None).map(|()| None)),
            Step::Release => {
                self.take_back(places);
                places.iter().map(|at| (*at, Ok(None))).collect()
            }
        }
    }

    /// At one after the other, until one is refused.
    fn look(&self, places: &[usize], cancel: &Cancel) -> Told {
        let mut told: Told = Vec::with_capacity(places.len());
        while told.len() < places.len() {
            let rest: Vec<&Shared> = places[told.len()..]
                .iter()
                .map(|at| &*self.locks[*at])
                .collect();
            let answers = if cancel.is_cancelled() {
                vec![Err(Error::outcome(Code::Cancelled))]
            } else {
                match together::company(&rest) {
                    0 | 1 => vec![rest[0].acquire_at_once(&mut rest[0].lock_phase())],
                    count => together::take(&rest[..count]),
                }
            };
            let mut over = answers.is_empty();
            for answer in answers {
                let at = places[told.len()];
                over |= !matches!(answer, Ok(Some(_)));
                let about = |error| self.locks[at].about("acquire", error);
                told.push((at, answer.map_err(about)));
            }
            if over {
                break;
            }
        }
        told
    }

    /// What this acquire took, and no more: others of this process may share a hold.
    fn take_back(&self, places: &[usize]) {
        let is_shared = |at: &usize| self.locks[*at].is_reentrant();
        let (shared, own): (Vec<_>, Vec<_>) = places.iter().partition(|at| is_shared(at));
        self.give_back(&own);
        for at in shared {
            self.locks[at].undo();
        }
    }

    fn give_back(&self, places: &[usize]) -> Vec<Result<Released>> {
        let mut told = Vec::with_capacity(places.len());
        while told.len() < places.len() {
            let rest: Vec<&Shared> = places[told.len()..]
                .iter()
                .map(|at| &*self.locks[*at])
                .collect();
            match together::company(&rest) {
                0 | 1 => told.push(rest[0].release()),
                count => told.extend(together::give_back(&rest[..count])),
            }
        }
        told
    }

    /// What dropping the set does, for hosts that choose where that is.
    pub fn end(&self) {
        if !self.is_underway() && !self.is_mine(&self.held) {
            return;
        }
        // One that somebody uses at this moment is given back all the same: nobody would do it later.
        let _used: Vec<_> = self.locks.iter().flat_map(LongUse::of).collect();
        if self.is_underway() {
            return self.give_up();
        }
        for at in self.forget() {
            if self.locks[at].auto_release.load(Ordering::Relaxed) {
                self.end_one(at);
            }
        }
    }
}

impl Drop for LockSet {
    fn drop(&mut self) {
        self.end();
    }
}

impl Shared {
    /// Whether a hold may be one that another handle of this process had before.
    pub(crate) fn is_reentrant(&self) -> bool {
        self.options.reentry != Reentry::Independent
    }
}
