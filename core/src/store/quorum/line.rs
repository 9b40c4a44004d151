//! Where a waiter stands: in line at the first member.

use super::config::Quorum;
use super::count::until;
use super::round::{Answers, Member, ask};
use super::rules;
use super::tally::{Tally, Vote};
use super::votes::{burn_at, give_back_to};
use crate::codes::Code;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::owner::RANDOM_BYTES;
use crate::signal::Signal;
use crate::store::{Attempt, Backend, Busy, Claim, Holder, Inspection};
use crate::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// How long after a split until the next try, at least; up to five times as long.
pub(super) const SPLIT_PAUSE: Duration = Duration::from_millis(5);
/// What a waiter's seat keeps while it does not stand in line.
pub(super) enum Apart {
    /// It is about to.
    NotYet,
    /// There is none: the first member is down.
    NoLine,
}

/// How often a waiter asks when the first member, where it would stand in line, is down.
pub(super) const DOWN_PAUSE: Duration = Duration::from_millis(40);

/// How often, at least, a waiter in line looks whether the others are free; up to five times as long.
const LINE_PAUSE: Duration = Duration::from_millis(500);

/// `pause` to five times that, by the token, so that those who split do not meet again.
fn spread(pause: Duration, claim: &Claim) -> BootTime {
    // Another byte each time.
    let at = (BootTime::now().as_nanos() >> 20) as usize % RANDOM_BYTES;
    let byte = claim.token.as_bytes()[at];
    BootTime::now().after(pause + pause * u32::from(byte) / 64)
}

impl Quorum {
    /// Stands in line at the first member, then asks the rest.
    pub(super) fn stand(&self, claim: &Claim, bell: &Arc<Signal>, again: bool) -> Result<Attempt> {
        let Some(first) = self.members.first() else {
            return Err(Error::new(Code::Internal, "a quorum of nobody"));
        };
        let own = claim.clone();
        let asked = if again {
            first.confirm(&own, bell)
        } else {
            first.attempt(&own, Some(bell))
        };
        if let Err(error) = asked.as_ref()
            && error.ends_hold()
        {
            return asked;
        }
        if !again && let Err(error) = &asked {
            if error.code() == Code::Uncertain {
                self.burn(0, claim);
            }
            let spent = Busy {
                spent: true,
                ..Busy::default()
            };
            return Ok(self.without_line(claim, spent));
        }
        let vote = match asked {
            Ok(Attempt::Busy(_)) if again && self.are_others_free(claim) => {
                return self.pass_by(claim);
            }
            Ok(Attempt::Busy(busy)) => {
                let look = spread(LINE_PAUSE, claim);
                let poll = Some(busy.poll.map_or(look, |poll| poll.min(look)));
                return Ok(Attempt::Busy(Busy { poll, ..busy }));
            }
            Ok(Attempt::Granted(grant)) => self.counted(0, &**first, claim, grant),
            Err(error) => Err(error),
        };
        if !matches!(vote, Ok(Vote::Granted(_))) && !claim.seat.keeps() {
            // Nothing would tell the next call that there is no line: the others are asked in this one.
            let tally = Tally {
                answers: vec![(0, vote)],
            };
            let tally = self.collect(claim, &self.others(), tally);
            return Ok(match self.settle(claim, tally)? {
                Attempt::Busy(busy) => self.without_line(claim, busy),
                granted => granted,
            });
        }
        if !matches!(vote, Ok(Vote::Granted(_))) {
            // Without it there is no line to stand in, and no place there.
            if vote.is_ok() {
                give_back_to(first, claim);
            } else {
                burn_at(first, claim);
            }
            // By another token: the release may come late.
            claim.seat.put(Apart::NoLine);
            return Ok(Attempt::Busy(Busy {
                poll: Some(BootTime::now()),
                spent: rules::SPENT,
                ..Busy::default()
            }));
        }
        let tally = Tally {
            answers: vec![(0, vote)],
        };
        let tally = self.collect(claim, &self.others(), tally);
        Ok(self.later(self.settle(claim, tally)?, SPLIT_PAUSE, claim))
    }

    fn others(&self) -> Vec<Member> {
        self.places().into_iter().skip(1).collect()
    }

    /// Whether there are enough without the first member, which somebody may have who has no other: a stranger, or
    /// a session that nobody ends.
    fn are_others_free(&self, claim: &Claim) -> bool {
        let others = self.others();
        if !self.rule.is_met(others.len()) {
            return false;
        }
        let fits = |holder: &Holder| claim.mode == Mode::Shared && holder.mode == "shared";
        let is_free = |(_, found): &&(usize, Result<Inspection>)| {
            found
                .as_ref()
                .is_ok_and(|found| found.holders.iter().all(fits))
        };
        let free = |answers: &Answers<Inspection>| answers.iter().filter(is_free).count();
        let is_settled = |answers: &Answers<Inspection>, left| {
            let free = free(answers);
            self.rule.is_met(free) || !self.rule.is_met(free + left)
        };
        let question = |_| {
            let (name, deadline) = (claim.name.clone(), claim.deadline);
            move |member: &dyn Backend| member.inspect(&name, deadline)
        };
        let pool = self.remote.then(|| &self.process().pool);
        let answers = ask(pool, &others, question, until(is_settled));
        self.rule.is_met(free(&answers))
    }

    /// Leaves the line for a round without the first member.
    fn pass_by(&self, claim: &Claim) -> Result<Attempt> {
        self.cancel(claim)?;
        let tally = self.collect(claim, &self.others(), Tally::default());
        let settled = match self.settle(claim, tally) {
            // Who waits goes on waiting.
            Err(error) if !error.ends_hold() => Attempt::Busy(Busy {
                spent: rules::SPENT,
                ..Busy::default()
            }),
            settled => settled?,
        };
        Ok(self.later(settled, LINE_PAUSE, claim))
    }

    /// For a waiter who knows that somebody holds, while the first member is down.
    pub(super) fn without_line(&self, claim: &Claim, busy: Busy) -> Attempt {
        claim.seat.put(Apart::NoLine);
        self.later(
            Attempt::Busy(Busy {
                until: None,
                ..busy
            }),
            DOWN_PAUSE,
            claim,
        )
    }

    /// Says when a waiter that got nothing asks again.
    pub(super) fn later(&self, attempt: Attempt, pause: Duration, claim: &Claim) -> Attempt {
        match attempt {
            Attempt::Busy(busy) => Attempt::Busy(Busy {
                poll: Some(spread(pause, claim)),
                ..busy
            }),
            granted => granted,
        }
    }
}
