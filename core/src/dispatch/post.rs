//! Operations over the pipelined connection of a store: written where they are submitted, answered where it is
//! read.

use super::{Op, Outcome, Task};
use crate::acquire::Look;
use crate::codes::Code;
use crate::lease::{BootTime, Wait};
use crate::phase::{Phase, PhaseGuard, Step};
use crate::reentry;
use crate::service::{self, Command, Place};
use crate::store::pipe::{Arrived, Ask, Letter, Pipe};
use crate::store::{Attempt, Claim};
use crate::{Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

/// What came of an attempt to send a task on its way.
pub(crate) enum Went {
    /// Its answer comes by the connection.
    Away,
    /// It is to be stepped through in the ordinary way.
    Stays(Box<Task>),
    /// Nothing need be asked.
    Over(Box<Task>, Result<Step>),
}

/// Starts an operation: at once if that blocks nobody and overtakes nobody, otherwise on the service thread.
pub(super) fn begin(task: Box<Task>) -> Result<()> {
    let place = Place::of(task.lock.store());
    let backend = task.backend().clone();
    let Some(pipe) = backend.pipe() else {
        return service::send(place, Command::Start(task));
    };
    if let Some(poller) = &task.poller {
        poller.know(&backend);
    }
    let is_first = pipe.ahead().load(Ordering::Acquire) == 0 && pipe.is_open(task.queues());
    let task = if is_first {
        match task.post(pipe, true) {
            Went::Away => return Ok(()),
            Went::Stays(task) => task,
            // Not here, where whoever submits may not expect it yet.
            Went::Over(task, step) => {
                return service::send(place, Command::Arrived(task, step));
            }
        }
    } else {
        task
    };
    pipe.ahead().fetch_add(1, Ordering::AcqRel);
    let sent = service::send(place, Command::Start(task));
    if sent.is_err() {
        pipe.ahead().fetch_sub(1, Ordering::AcqRel);
    }
    sent
}

impl Task {
    /// Whether it may stand in a queue.
    pub(crate) fn queues(&self) -> bool {
        matches!(self.op, Op::Acquire(wait) if wait != Wait::No)
    }

    /// Writes what is to be asked next.
    pub(crate) fn post(mut self: Box<Self>, pipe: &dyn Pipe, first: bool) -> Went {
        match self.op {
            Op::Acquire(_) => {
                let rung = self.bell.take();
                let lock = self.lock.clone();
                let Some(mut phase) = PhaseGuard::try_new(&lock) else {
                    self.ring_again(rung);
                    return Went::Stays(self);
                };
                match self.next_ask(&mut phase, rung, first) {
                    Ok(Some(Look::Ask(ask, claim))) => {
                        let claim = claim.clone();
                        drop(phase);
                        self.send(pipe, ask, claim)
                    }
                    Ok(Some(Look::Over(step))) => {
                        drop(phase);
                        Went::Over(self, Ok(step))
                    }
                    Ok(None) => {
                        self.ring_again(rung);
                        Went::Stays(self)
                    }
                    Err(error) => {
                        drop(phase);
                        Went::Over(self, Err(error))
                    }
                }
            }
            Op::Release => {
                let lock = self.lock.clone();
                let Some(mut phase) = PhaseGuard::try_new(&lock) else {
                    return Went::Stays(self);
                };
                // What is no plain hold has its own ways to end.
                if !matches!(&*phase, Phase::Held(_)) {
                    return Went::Stays(self);
                }
                match lock.post_release(&mut phase) {
                    Ok(Some((ending, claim))) => {
                        drop(phase);
                        self.ending = Some(ending);
                        self.send(pipe, Ask::Release, claim)
                    }
                    Ok(None) => Went::Stays(self),
                    Err(error) => {
                        drop(phase);
                        Went::Over(self, Err(error))
                    }
                }
            }
            _ => Went::Stays(self),
        }
    }

    /// A word that was taken and not heeded.
    fn ring_again(&self, rung: bool) {
        if rung {
            self.bell.ring();
        }
    }

    /// Nothing if the ordinary way has something to do first that may block.
    fn next_ask<'a>(
        &self,
        phase: &'a mut Phase,
        rung: bool,
        first: bool,
    ) -> Result<Option<Look<'a>>> {
        if let (true, Op::Acquire(wait)) = (first, self.op) {
            // Who may share a hold asks the store first whether that stands.
            if matches!(phase, Phase::Pending(..)) || reentry::knows_one(&self.lock) {
                return Ok(None);
            }
            let (wait, now) = (self.time_left(wait), BootTime::now());
            let cancel = self.cancel.as_ref();
            if let Some(step) = self.lock.ready(phase, wait, now, cancel, &self.bell)? {
                return Ok(Some(Look::Over(step)));
            }
        } else if self.lock.gives_up(phase) {
            return Ok(None);
        }
        self.lock.look(phase, rung).map(Some)
    }

    fn send(self: Box<Self>, pipe: &dyn Pipe, ask: Ask, claim: Claim) -> Went {
        let place = Place::of(self.lock.store());
        let bell = matches!(ask, Ask::Queue | Ask::Confirm).then(|| self.bell.clone());
        let letter = Box::new(Letter {
            ask,
            claim,
            bell,
            poller: self.poller.clone(),
            then: Box::new(move |arrived| self.arrived(ask, arrived)),
        });
        match pipe.send(letter) {
            Ok(false) => {}
            Ok(true) => service::ring(place),
            // The connection has just gone.
            Err(letter) => (letter.then)(Arrived::Unserved(None)),
        }
        Went::Away
    }

    /// On the thread that reads.
    pub(crate) fn arrived(mut self: Box<Self>, ask: Ask, arrived: Arrived) {
        let place = Place::of(self.lock.store());
        if let Arrived::Attempt(Ok(Attempt::Granted(grant))) = &arrived
            && !service::is_this_thread()
            && self.lock.came_too_late(grant)
        {
            // It is given back, and a loop of the host must not wait for that.
            let _ = service::send(place, Command::Answered(self, ask, arrived));
            return;
        }
        let step = match arrived {
            Arrived::Unserved(lost) => {
                let _ = service::send(place, Command::Repeat(self, ask, lost));
                return;
            }
            Arrived::Attempt(answer) => {
                let lock = self.lock.clone();
                catch_unwind(AssertUnwindSafe(|| {
                    lock.looked(&mut lock.lock_phase(), ask, answer)
                }))
            }
            Arrived::Answer(answer) => {
                let ending = self.ending.take();
                let lock = self.lock.clone();
                let released = catch_unwind(AssertUnwindSafe(|| match ending {
                    Some(ending) => lock.posted_release(ending, answer),
                    None => Err(Error::new(Code::Internal, "no release is under way")),
                }));
                let released = released.unwrap_or_else(|_| Err(bug()));
                self.finish_release(released);
                return;
            }
        };
        match step.unwrap_or_else(|_| Err(bug())) {
            Ok(Step::Sleep(until)) => {
                let _ = service::send(place, Command::Arrived(self, Ok(Step::Sleep(until))));
            }
            step => {
                self.settle(step);
            }
        }
    }

    /// Asks again what the connection did not answer; on the service thread, which may block.
    pub(crate) fn repeat(self: Box<Self>, ask: Ask, lost: Option<BootTime>) {
        let backend = self.backend().clone();
        let claim = self.lock.posted_claim();
        let arrived = match (claim, backend.pipe()) {
            (Some(mut claim), Some(pipe)) if lost.is_some() => {
                // All that were lost together have the time that they had, not one after the other.
                claim.deadline = lost;
                pipe.repeat(ask, &claim, Some(&self.bell))
            }
            (Some(claim), _) => match ask {
                Ask::Release => Arrived::Answer(backend.release(&claim)),
                Ask::Try => Arrived::Attempt(backend.attempt(&claim, None)),
                Ask::Queue => Arrived::Attempt(backend.attempt(&claim, Some(&self.bell))),
                Ask::Confirm => Arrived::Attempt(backend.confirm(&claim, &self.bell)),
            },
            (None, _) => Arrived::trouble(ask, Error::new(Code::Internal, "nothing was asked")),
        };
        self.arrived(ask, arrived);
    }

    /// Ends the task, or says until when it sleeps.
    pub(crate) fn settle(&mut self, step: Result<Step>) -> Option<BootTime> {
        let result = match step {
            Ok(Step::Sleep(until)) => {
                self.until = Some(until);
                return self.until;
            }
            Ok(Step::Granted(acquired)) => Ok(Outcome::Acquired(acquired)),
            Err(error) if self.op == Op::Release => Err(self.lock.about("release", error)),
            Err(error) => Err(self.lock.about("acquire", error)),
        };
        self.finish(result);
        None
    }

    fn finish_release(&mut self, released: Result<crate::lock::Released>) {
        let result = released
            .map(Outcome::Released)
            .map_err(|error| self.lock.about("release", error));
        self.finish(result);
    }

    /// Whether word came while its request was under way.
    pub(crate) fn is_rung(&self) -> bool {
        self.bell.is_rung()
    }
}

fn bug() -> Error {
    Error::new(Code::Internal, "the service thread met a bug")
}
