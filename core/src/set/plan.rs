//! What a set of locks does next: all that is decided, apart from who asks the stores.
//!
//! Whoever waits for a name holds only names that come before it in the order that all sets have, so no ring of
//! sets can wait for one another. What was taken out of that order, by a look at all names at once, is given
//! back before anything is waited for.

use crate::codes::Code;
use crate::state::Acquired;
use crate::{Error, Result};
use std::ops::Range;

/// What is to be done with one lock of the set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// Take it if it is free.
    Try,
    /// Wait for it.
    Wait,
    /// Its lease is lengthened, or it is seen to be held still.
    Confirm,
    /// Give it back.
    Release,
}

/// What steps came to, by the places of their locks: nothing where a lock is busy, or was given back. Looks that
/// nobody took, for an earlier one was refused, are left out.
pub(crate) type Told = Vec<(usize, Result<Option<Acquired>>)>;

/// What is next.
#[derive(Debug)]
pub(crate) enum Next {
    /// All of these; the order matters to nobody but those who are told of releases.
    Do(Step, Vec<usize>),
    /// It is over. After `Interrupted` it may be taken up again.
    Over(Result<Acquired>),
}

#[derive(Debug)]
enum Stage {
    /// Looking at all from here on.
    Trying(Range<usize>),
    /// Giving back what comes after this one, which is waited for next.
    Clearing(usize),
    Waiting(usize),
    Confirming,
    /// Giving everything back, because of that.
    Ending(Error),
}

/// One acquire of a set.
#[derive(Debug)]
pub(crate) struct Plan {
    held: Vec<Option<Acquired>>,
    /// Those before it were held while another was waited for.
    kept: usize,
    waits: bool,
    /// Which was found taken.
    busy: Option<usize>,
    stage: Stage,
    sum: Acquired,
}

impl Plan {
    /// For so many locks.
    pub(crate) fn new(count: usize, waits: bool) -> Self {
        Plan {
            held: vec![None; count],
            kept: 0,
            waits,
            busy: None,
            stage: Stage::Trying(0..count),
            sum: Acquired::default(),
        }
    }

    /// For a set whose wait at this place was interrupted: it holds all that come before.
    pub(crate) fn resumed(count: usize, at: usize) -> Self {
        let mut plan = Self::new(count, true);
        plan.held[..at].fill(Some(Acquired::default()));
        plan.kept = at;
        plan.stage = Stage::Waiting(at);
        plan
    }

    /// The first step.
    pub(crate) fn begin(&mut self) -> Next {
        match &self.stage {
            Stage::Waiting(at) => Next::Do(Step::Wait, vec![*at]),
            _ => Next::Do(Step::Try, (0..self.held.len()).collect()),
        }
    }

    /// Where it waits, if it does.
    pub(crate) fn waits_at(&self) -> Option<usize> {
        match self.stage {
            Stage::Waiting(at) => Some(at),
            _ => None,
        }
    }

    /// The last that was found taken.
    pub(crate) fn busy(&self) -> Option<usize> {
        self.busy
    }

    /// The step after the present one, which came to this.
    pub(crate) fn next(&mut self, told: Told) -> Next {
        let mut failed = None;
        for (at, answer) in told {
            match (answer, &self.stage) {
                // What is given back is seen through by the store.
                (_, Stage::Clearing(_) | Stage::Ending(_)) => self.held[at] = None,
                (Ok(None), _) => {}
                (Ok(Some(acquired)), _) => {
                    self.sum.attempts = self.sum.attempts.saturating_add(acquired.attempts);
                    self.sum.recovered |= acquired.recovered;
                    self.sum.contended |= acquired.contended;
                    self.held[at] = Some(acquired);
                }
                (Err(error), _) => failed = failed.or(Some((at, error))),
            }
        }
        match (
            std::mem::replace(&mut self.stage, Stage::Confirming),
            failed,
        ) {
            (Stage::Ending(error), _) => Next::Over(Err(error)),
            (Stage::Clearing(at), _) => self.wait(at),
            (Stage::Waiting(at), Some((_, error))) if error.code() == Code::Interrupted => {
                self.stage = Stage::Waiting(at);
                Next::Over(Err(error))
            }
            (Stage::Confirming, Some((_, error))) if error.code() == Code::Lost => {
                let words = "a lock of the set was lost while another one was waited for";
                self.fail(Error::new(Code::Unavailable, words))
            }
            (_, Some((_, error))) => self.fail(error),
            (Stage::Confirming, None) => Next::Over(Ok(self.sum)),
            (Stage::Waiting(at), None) => {
                self.sum.contended = true;
                self.look(at + 1)
            }
            (Stage::Trying(range), None) => self.looked(range),
        }
    }

    /// At all that come from here on.
    fn look(&mut self, from: usize) -> Next {
        let rest = from..self.held.len();
        if rest.is_empty() {
            return self.looked(rest);
        }
        self.stage = Stage::Trying(rest.clone());
        Next::Do(Step::Try, rest.collect())
    }

    fn looked(&mut self, mut range: Range<usize>) -> Next {
        let Some(busy) = range.find(|at| self.held[*at].is_none()) else {
            if self.kept == 0 {
                return Next::Over(Ok(self.sum));
            }
            self.stage = Stage::Confirming;
            return Next::Do(Step::Confirm, (0..self.kept).collect());
        };
        self.busy = Some(busy);
        if !self.waits {
            return self.fail(Error::outcome(Code::Busy));
        }
        // Canary: what comes later is kept, so that two sets may wait for one another.
        let first = if cfg!(canary = "out_of_order") {
            self.held.len()
        } else {
            busy
        };
        let beyond = self.held_from(first);
        if beyond.is_empty() {
            return self.wait(busy);
        }
        self.stage = Stage::Clearing(busy);
        Next::Do(Step::Release, beyond)
    }

    fn wait(&mut self, at: usize) -> Next {
        self.kept = at;
        self.stage = Stage::Waiting(at);
        Next::Do(Step::Wait, vec![at])
    }

    /// Ends with an error, after all was given back.
    pub(crate) fn fail(&mut self, error: Error) -> Next {
        // Canary: a part of the set stays.
        let first = usize::from(cfg!(canary = "keep_part"));
        let held = self.held_from(first);
        if held.is_empty() {
            return Next::Over(Err(error));
        }
        self.stage = Stage::Ending(error);
        Next::Do(Step::Release, held)
    }

    /// The latest first.
    fn held_from(&self, first: usize) -> Vec<usize> {
        let places = (first..self.held.len()).rev();
        places.filter(|at| self.held[*at].is_some()).collect()
    }
}
