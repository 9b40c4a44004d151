//! Sets of locks: the same plan as on a thread, whose steps are operations on single locks.

use super::{Done, Op, Outcome, start};
use crate::cancel::Cancel;
use crate::codes::Code;
use crate::lease::{BootTime, Wait};
use crate::lock::LongUse;
use crate::service::{self, Command, Place};
use crate::set::LockSet;
use crate::set::plan::{Next, Plan, Step, Told};
use crate::state::{Acquired, Released};
use crate::store::poller::Poller;
use crate::sync::Mutex;
use crate::{Error, Result};
use std::sync::Arc;

/// Starts `Acquire`, `Release`, `Abandon` or `Check` on all locks of a set, as `submit_on` does on one: what needs no answer of
/// another is under way at once.
///
/// # Errors
/// As `submit_on`, about one of the locks; `InvalidArgument` for another operation.
pub fn submit_set(
    poller: Option<&Arc<Poller>>,
    set: &Arc<LockSet>,
    op: Op,
    cancel: Option<Cancel>,
    done: impl FnOnce(Result<Outcome>) + Send + 'static,
) -> Result<()> {
    set.refuse_callers_stores()?;
    let (kind, used, next, deadline) = match op {
        Op::Acquire(wait) => {
            let (mut plan, used) = set.enter(wait)?;
            let next = plan.begin();
            (Kind::Acquire(plan), used, next, wait.deadline())
        }
        Op::Release => {
            let used = set.enter_all()?;
            if set.is_underway() {
                (Kind::GivenUp, used, give_up(set), None)
            } else {
                let next = match set.to_release() {
                    Ok(places) => Next::Do(Step::Release, places),
                    Err(error) => Next::Over(Err(error)),
                };
                (Kind::Release, used, next, None)
            }
        }
        Op::Abandon => {
            let used = set.enter_all()?;
            (Kind::Abandon, used, give_up(set), None)
        }
        Op::Check => {
            let used = set.enter_all()?;
            let all = (0..set.len()).collect();
            (Kind::Check, used, Next::Do(Step::Confirm, all), None)
        }
        _ => {
            return Err(Error::invalid(
                "a set is acquired, released, abandoned or checked",
            ));
        }
    };
    let run = Run {
        set: set.clone(),
        poller: poller.cloned(),
        deadline,
        cancel: cancel.unwrap_or_default(),
        state: Mutex::new(State {
            kind,
            open: 0,
            told: Vec::new(),
            used,
            done: Some(Box::new(done)),
        }),
    };
    Arc::new(run).go(next);
    Ok(())
}

/// What gives back all that a set took, if it did.
fn give_up(set: &LockSet) -> Next {
    let places = if set.has_taken() {
        set.forget()
    } else {
        Vec::new()
    };
    if places.is_empty() {
        Next::Over(Ok(Acquired::default()))
    } else {
        Next::Do(Step::Release, places)
    }
}

enum Kind {
    Acquire(Plan),
    Release,
    Abandon,
    /// A release of what was interrupted, and so is not held.
    GivenUp,
    Check,
}

/// One operation on a set, under way.
struct Run {
    set: Arc<LockSet>,
    poller: Option<Arc<Poller>>,
    deadline: Option<BootTime>,
    cancel: Cancel,
    state: Mutex<State>,
}

struct State {
    kind: Kind,
    /// How many operations of the present step have not come to an end.
    open: usize,
    told: Vec<(usize, Result<Outcome>)>,
    used: Vec<LongUse>,
    done: Option<Done>,
}

impl Run {
    fn go(self: &Arc<Self>, next: Next) {
        match next {
            Next::Do(step, places) => self.begin(step, &places),
            Next::Over(ended) => {
                // Out of the mutex first: others are told of it.
                let kind = std::mem::replace(&mut self.state.lock().kind, Kind::Abandon);
                let result = match kind {
                    Kind::Acquire(plan) => {
                        self.set.run_by(None);
                        self.set.note_end(&plan, ended).map(Outcome::Acquired)
                    }
                    Kind::GivenUp => Err(self.set.not_held()),
                    _ => ended.map(|_| Outcome::Done),
                };
                self.finish(result);
            }
        }
    }

    fn begin(self: &Arc<Self>, step: Step, places: &[usize]) {
        let (checks, releases) = {
            let mut state = self.state.lock();
            state.open = places.len();
            let kind = &state.kind;
            (matches!(kind, Kind::Check), matches!(kind, Kind::Release))
        };
        // Anew for each step: an operation that ends takes its lock out.
        self.set.run_by(Some(&self.cancel));
        for &at in places {
            let lock = self.set.lock(at);
            let op = match step {
                Step::Try => Op::Acquire(Wait::No),
                Step::Wait => {
                    self.keep_before(at);
                    Op::Acquire(LockSet::wait_until(self.deadline))
                }
                Step::Confirm if checks => Op::Check,
                Step::Confirm => Op::Refresh(None),
                // This acquire's part, and no more: others of this process may share the hold.
                Step::Release if !releases && lock.is_reentrant() => Op::Abandon,
                Step::Release => Op::Release,
            };
            // What is given back is not to be cancelled.
            let cancel = match step {
                Step::Release => Cancel::new(),
                _ => self.cancel.clone(),
            };
            let run = self.clone();
            let told = Box::new(move |result| run.note(at, result));
            if let Err(error) = start(self.poller.as_ref(), lock, None, op, cancel, told) {
                self.note(at, Err(error));
            }
        }
    }

    /// Their leases are renewed; by their own threads, for somebody may have their phases now.
    fn keep_before(&self, at: usize) {
        for lock in self.set.keep_before(at) {
            let kept = lock.clone();
            let watch = Command::Job(Box::new(move || kept.watch()));
            let _ = service::send(Place::of(lock.store()), watch);
        }
    }

    /// One operation has come to its end.
    fn note(self: &Arc<Self>, at: usize, result: Result<Outcome>) {
        let next = {
            let mut state = self.state.lock();
            state.told.push((at, result));
            state.open -= 1;
            if state.open > 0 {
                return;
            }
            let mut told = std::mem::take(&mut state.told);
            told.sort_by_key(|(at, _)| *at);
            match &mut state.kind {
                Kind::Acquire(plan) => {
                    let next = plan.next(told.into_iter().map(of_plan).collect::<Told>());
                    if matches!(next, Next::Over(Ok(_))) && self.set.has_orphan() {
                        plan.fail(Error::outcome(Code::Cancelled))
                    } else {
                        next
                    }
                }
                Kind::Release => {
                    drop(state);
                    return self.finish(self.released(told).map(Outcome::Released));
                }
                Kind::Abandon => {
                    drop(state);
                    return self.finish(Ok(Outcome::Done));
                }
                Kind::GivenUp => {
                    drop(state);
                    return self.finish(Err(self.set.not_held()));
                }
                Kind::Check => {
                    drop(state);
                    let failed = told.into_iter().find_map(|(_, result)| result.err());
                    return self.finish(failed.map_or(Ok(Outcome::Done), Err));
                }
            }
        };
        self.go(next);
    }

    fn released(&self, told: Vec<(usize, Result<Outcome>)>) -> Result<Released> {
        let each = told.into_iter().map(|(at, result)| {
            let released = result.map(|outcome| match outcome {
                Outcome::Released(released) => released,
                _ => Released::default(),
            });
            (released, at)
        });
        self.set.sum_up(each)
    }

    fn finish(&self, result: Result<Outcome>) {
        let (used, done) = {
            let mut state = self.state.lock();
            (std::mem::take(&mut state.used), state.done.take())
        };
        drop(used);
        if let Some(done) = done {
            done(result);
        }
    }
}

/// A lock that is busy is none in trouble.
fn of_plan((at, result): (usize, Result<Outcome>)) -> (usize, Result<Option<Acquired>>) {
    let answer = match result {
        Ok(Outcome::Acquired(acquired)) => Ok(Some(acquired)),
        Ok(_) => Ok(None),
        Err(error) if error.code() == Code::Busy => Ok(None),
        Err(error) => Err(error),
    };
    (at, answer)
}
