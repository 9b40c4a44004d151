//! How a claim waits: in its place in the queue, or by polling where there is no queue.

use super::companion::{self, Found};
use super::kept::Kept;
use super::process::Process;
use super::queue::Line;
use super::store::Flock;
use crate::Result;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::signal::Signal;
use crate::store::{Attempt, Busy, Claim};
use std::sync::Arc;
use std::time::Duration;

/// Waiters without a companion ask at least this often; at first more often.
const LONGEST_POLL: Duration = Duration::from_millis(50);
const SHORTEST_POLL: Duration = Duration::from_millis(1);

impl Flock {
    /// A look of a claim that waits, from its place in the queue.
    pub(super) fn wait(&self, claim: &Claim, bell: &Arc<Signal>) -> Result<Attempt> {
        let process = self.process();
        let (companion, kept) = (&process.companion, Kept::of(self.config.dialect, claim));
        let Some(look) = companion.look(claim, bell)? else {
            return self.wait_alone(process, claim, kept, bell);
        };
        if look.is_first || !claim.fair {
            match self.try_take(process, claim, kept, BootTime::coarse_nanos()) {
                Ok(Some(grant)) => {
                    companion.leave(claim);
                    if claim.mode == Mode::Shared {
                        // The next may be a reader too.
                        self.pass_on(&claim.name);
                    }
                    return Ok(Attempt::Granted(grant));
                }
                Ok(None) => {}
                Err(error) => {
                    self.give_up_place(self.process(), claim);
                    return Err(error);
                }
            }
        }
        Ok(Attempt::Busy(Busy {
            until: None,
            // A canary that wakes nobody does not look after them either.
            poll: (!cfg!(canary = "no_wake")).then_some(look.again),
            ..Busy::default()
        }))
    }

    /// A look of a claim that has no queue to stand in: it polls.
    fn wait_alone(
        &self,
        process: &Process,
        claim: &Claim,
        kept: Kept,
        bell: &Arc<Signal>,
    ) -> Result<Attempt> {
        if let Some(grant) = self.try_take(process, claim, kept, BootTime::coarse_nanos())? {
            return Ok(Attempt::Granted(grant));
        }
        let asked = process.waiting.wait(claim, bell);
        Ok(self.busy(claim, asked))
    }

    pub(super) fn busy(&self, claim: &Claim, asked: u32) -> Attempt {
        let most = SHORTEST_POLL
            .saturating_mul(1 << asked.min(8))
            .min(LONGEST_POLL);
        // Spread out, so that waiters do not ask in step.
        let random = claim.token.as_bytes()[asked as usize % 8];
        let poll = most / 2 + (most / 2) * u32::from(random) / 256;
        Attempt::Busy(Busy {
            until: None,
            poll: Some(BootTime::now().after(poll)),
            ..Busy::default()
        })
    }

    pub(super) fn give_up_place(&self, process: &Process, claim: &Claim) {
        if process.companion.leave(claim) {
            self.pass_on(&claim.name);
        }
    }

    /// Wakes the first of those who wait, without a handle that knows its queue.
    pub(super) fn pass_on(&self, name: &Name) {
        let companion = &self.process().companion;
        let now = BootTime::coarse_nanos();
        companion.pass_on(now, &mut Found::default(), self.line(name), true);
    }

    pub(super) fn line(&self, name: &Name) -> Line {
        companion::line(self.config.dialect, name)
    }
}
