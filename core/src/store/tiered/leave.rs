//! Letting go: what is left to those of this host that wait, and what goes back to the remote store.

use super::config::{Entry, Tiered};
use super::verbs::{of_call, ttl};
use crate::Result;
use crate::lease::{BootTime, drift_allowance};
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::store::{Answer, Attempt, Claim};

impl Tiered {
    /// Whether somebody of this host waits.
    fn has_followers(&self, name: &Name) -> bool {
        let found = self.local.inspect(name, None);
        found.is_ok_and(|found| found.waiters.unwrap_or(0) > 0)
    }

    /// A baton was left to somebody who is not there any more: other hosts must not wait for its lease.
    pub(super) fn sweep(&self, claim: &Claim) {
        if self.has_followers(&claim.name) {
            return;
        }
        let Ok(token) = OwnerToken::draw() else {
            return;
        };
        let own = Claim {
            token,
            asked: BootTime::now(),
            ..claim.clone()
        };
        if let Ok(Attempt::Granted(_)) = self.local.attempt(&self.near(&own), None) {
            self.let_go(&own);
        }
    }

    /// With the local lock and nothing to do with it: leaves the remote hold to who waits, or gives it back.
    pub(super) fn let_go(&self, claim: &Claim) {
        let leaves = self.has_followers(&claim.name);
        let holds = || self.has_place(claim);
        if !leaves
            && let Ok(Some((baton, _))) = self.batons.take(&claim.name, claim.token, holds)
            && self.batons.end(&claim.name, claim.token).unwrap_or(false)
        {
            self.give_up_far(&self.far(claim, baton.token));
        }
        self.drop_place(claim);
        if leaves {
            self.sweep(claim);
        }
    }

    /// The remote store says that the hold is none: the next one of this host must not go on inside it.
    pub(super) fn disown(&self, claim: &Claim, far: &Claim) {
        self.forget(claim.token);
        if self.batons.end(&claim.name, claim.token).unwrap_or(false) {
            // One release follows, in case a late grant of this token is still on its way.
            self.give_up_far(far);
        }
        self.drop_place(claim);
    }

    pub(super) fn release_held(&self, claim: &Claim, entry: &Entry) -> Result<Answer> {
        let near = self.near(claim);
        let has_time = entry.end > BootTime::now().after(drift_allowance(ttl(claim)));
        // If it cannot be handed over, it is given back.
        if entry.left > 0
            && has_time
            && self.has_followers(&claim.name)
            && let Ok(handed) = self.batons.hand_over(&claim.name, claim.token)
        {
            let answer = self.local.release(&near)?;
            if !handed {
                return Ok(Answer::NotOurs);
            }
            self.sweep(claim);
            return Ok(answer);
        }
        let ended = self.batons.end(&claim.name, claim.token);
        let is_ours = match ended {
            Ok(ended) => ended,
            Err(_) => self.has_place(claim),
        };
        // Otherwise somebody of this host took it over: the remote hold is theirs.
        let mut answer = Ok(Answer::NotOurs);
        if is_ours {
            let far = of_call(claim, entry);
            answer = self.remote.release(&far);
            if answer.is_err() {
                self.burn(&far);
            }
        }
        self.local.release(&near)?;
        ended.and(answer)
    }
}
