//! The store contract, verb by verb. The order is always the same: first the local lock, then the baton, then,
//! if need be, the remote store; and the other way round at the end.

use super::baton::Baton;
use super::config::{Entry, Phase, Tiered};
use crate::capability::Capabilities;
use crate::codes::Code;
use crate::lease::{BootTime, drift_allowance};
use crate::mode::Mode;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::registry::Store;
use crate::service;
use crate::signal::{Signal, Wake};
use crate::store::{
    Answer, Attempt, Backend, Busy, Cancelled, Claim, Grant, Inspection, Life, Page, Seat,
};
use crate::{Error, Result};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

/// By how much a local lease is longer than the remote one: whoever holds is told by the remote one first.
const LONGER: Duration = Duration::from_secs(2);

pub(super) fn ttl(claim: &Claim) -> Duration {
    claim.ttl.unwrap_or(crate::lock::DEFAULT_LEASE)
}

fn address(bell: &Arc<Signal>) -> usize {
    Arc::as_ptr(bell) as usize
}

/// The host's claim at the remote store, with the time that this call has.
pub(super) fn of_call(claim: &Claim, entry: &Entry) -> Claim {
    Claim {
        asked: claim.asked,
        deadline: claim.deadline,
        ..entry.remote.clone()
    }
}

/// Where a remote hold comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Remote,
    /// Another of this host had it before, and a next one may have it by now.
    Baton,
}

impl Tiered {
    /// How long a remote lease is taken for.
    fn far_ttl(&self, ttl: Duration) -> Duration {
        ttl + self.allowance.min(ttl)
    }

    fn near_ttl(&self, ttl: Duration) -> Duration {
        self.far_ttl(ttl) + LONGER
    }

    /// The claim as the local store sees it: the seat of a claim is one store's.
    pub(super) fn near(&self, claim: &Claim) -> Claim {
        Claim {
            ttl: Some(self.near_ttl(ttl(claim))),
            fence_block: 1,
            seat: Seat::none(),
            ..claim.clone()
        }
    }

    /// A claim of the host's at the remote store.
    pub(super) fn far(&self, claim: &Claim, token: OwnerToken) -> Claim {
        Claim {
            token,
            ttl: Some(self.far_ttl(ttl(claim))),
            fence_block: if self.remote.reserves_fences() {
                self.budget
            } else {
                1
            },
            seat: Seat::none(),
            ..claim.clone()
        }
    }

    pub(super) fn known(&self, token: OwnerToken) -> Option<Entry> {
        self.process().claims.lock().get(&token).cloned()
    }

    fn note(&self, token: OwnerToken, entry: Entry) {
        if entry.phase == Phase::Remote {
            self.process().far.lock().insert(entry.bell);
        }
        self.process().claims.lock().insert(token, entry);
    }

    pub(super) fn forget(&self, token: OwnerToken) {
        let entry = self.process().claims.lock().remove(&token);
        if let Some(entry) = entry {
            self.process().far.lock().remove(&entry.bell);
        }
    }

    /// The remote store's claim may hold or wait; nobody here believes in it.
    pub(super) fn burn(&self, far: &Claim) {
        let store = Store::over(self.remote.clone(), Default::default());
        service::burn(store, far.clone());
    }

    pub(super) fn give_up_far(&self, far: &Claim) {
        if self.remote.release(far).is_err() {
            self.burn(far);
        }
    }

    /// Lets go of the local lock after trouble.
    fn step_back<T>(&self, claim: &Claim, error: Error) -> Result<T> {
        self.forget(claim.token);
        self.drop_place(claim);
        Err(error)
    }

    /// A token for the remote store, which is to see of which quorum the claim is.
    fn draw_far(&self, claim: &Claim) -> Result<OwnerToken> {
        let mut token = OwnerToken::draw()?;
        if let Some(brand) = claim.token.brand() {
            token = token.branded(brand);
        }
        Ok(self.remote.brand(token))
    }

    /// Whether the local lock is the claim's still. Who was frozen, or whose hold was broken, leaves the baton alone:
    /// it is another's.
    pub(super) fn has_place(&self, claim: &Claim) -> bool {
        self.local.is_held(&self.near(claim)).unwrap_or(false)
    }

    /// Lets go of the local lock, or has the local store forget that it was the claim's: it would say so again.
    pub(super) fn drop_place(&self, claim: &Claim) {
        let _ = self.local.release(&self.near(claim));
    }

    /// With the local lock: goes on inside the host's remote hold, or asks for one.
    fn take(&self, claim: &Claim, bell: Option<&Arc<Signal>>) -> Result<Attempt> {
        let holds = || self.has_place(claim);
        match self.batons.take(&claim.name, claim.token, holds) {
            Ok(Some((baton, handed))) => {
                if let Some(attempt) = self.go_on(claim, &baton, handed)? {
                    return Ok(attempt);
                }
            }
            Ok(None) if !holds() => {
                // Somebody of this host took our place: it asks for another.
                self.drop_place(claim);
                return Ok(Attempt::Busy(Busy {
                    poll: Some(BootTime::now()),
                    ..Busy::default()
                }));
            }
            Ok(None) => {}
            Err(error) => return self.step_back(claim, error),
        }
        let token = match self.draw_far(claim) {
            Ok(token) => token,
            Err(error) => return self.step_back(claim, error),
        };
        let far = self.far(claim, token);
        let answer = self.remote.attempt(&far, bell);
        self.settle(claim, far, answer, bell)
    }

    /// Goes on inside a remote hold; nothing if it is over or spent.
    fn go_on(&self, claim: &Claim, baton: &Baton, handed: bool) -> Result<Option<Attempt>> {
        let far = self.far(claim, baton.token);
        let asked = BootTime::now();
        let need = ttl(claim) + drift_allowance(ttl(claim));
        let mut end = baton.end;
        let spent = baton.left == 0;
        let is_sure = handed || cfg!(canary = "trusts_baton");
        if !spent && (!is_sure || asked.after(need) > end) {
            // The last holder died or froze, or too little is left: the remote store has the last word.
            match self.remote.extend(&far, self.far_ttl(ttl(claim))) {
                Ok(Answer::Done(sure)) => {
                    end = sure.unwrap_or_else(|| asked.after(self.far_ttl(ttl(claim))));
                }
                Ok(Answer::NotOurs) => {
                    let ended = self.batons.end(&claim.name, claim.token);
                    return ended.map_or_else(|error| self.step_back(claim, error), |_| Ok(None));
                }
                // The baton stays; the next one asks again, or the lease runs out.
                Err(error) => {
                    let words = error.message().to_owned();
                    let error = match error.code() {
                        // Nothing is in doubt that this claim would hold.
                        Code::Uncertain => Error::new(Code::Unavailable, words),
                        _ => error,
                    };
                    return self.step_back(claim, error);
                }
            }
        }
        if spent {
            let ended = self.batons.end(&claim.name, claim.token);
            if !matches!(ended, Ok(false)) {
                self.give_up_far(&far);
            }
            return ended.map_or_else(|error| self.step_back(claim, error), |_| Ok(None));
        }
        let next = Baton {
            end,
            ..baton.clone()
        };
        let accepted = self.accept(claim, far, &next, Origin::Baton, !handed);
        accepted.map(Some)
    }

    /// What the remote store says to the host's claim.
    fn settle(
        &self,
        claim: &Claim,
        far: Claim,
        answer: Result<Attempt>,
        bell: Option<&Arc<Signal>>,
    ) -> Result<Attempt> {
        match (answer, bell) {
            (Ok(Attempt::Granted(grant)), _) => {
                let baton = Baton {
                    token: far.token,
                    end: grant.lease.unwrap_or_else(|| far.asked.after(ttl(&far))),
                    left: self.budget,
                    next: grant.fence.filter(|_| self.remote.reserves_fences()),
                };
                self.accept(claim, far, &baton, Origin::Remote, grant.recovered)
            }
            (Ok(Attempt::Busy(busy)), Some(bell)) => {
                let far = if busy.spent {
                    // The host's claim asks again with another token; this one keeps its local place.
                    match self.draw_far(claim) {
                        Ok(token) => Claim { token, ..far },
                        Err(error) => return self.step_back(claim, error),
                    }
                } else {
                    far
                };
                let entry = Entry {
                    phase: Phase::Remote,
                    remote: far,
                    end: claim.asked,
                    left: 0,
                    fence: None,
                    bell: address(bell),
                };
                self.note(claim.token, entry);
                // The local lease must not run out meanwhile.
                let latest = claim.asked.after(self.near_ttl(ttl(claim)) / 3);
                let poll = Some(busy.poll.map_or(latest, |poll| poll.min(latest)));
                Ok(Attempt::Busy(Busy {
                    poll,
                    spent: false,
                    ..busy
                }))
            }
            (Ok(busy), None) => {
                self.drop_place(claim);
                Ok(busy)
            }
            (Err(error), _) => {
                // It may hold, or stand in the queue.
                if error.code() == Code::Uncertain || bell.is_some() {
                    self.burn(&far);
                }
                self.step_back(claim, error)
            }
        }
    }

    /// The claim holds: the baton says who may follow, and with what.
    fn accept(
        &self,
        claim: &Claim,
        far: Claim,
        baton: &Baton,
        from: Origin,
        recovered: bool,
    ) -> Result<Attempt> {
        let left = baton.left.saturating_sub(1);
        let mine = Baton {
            left,
            next: baton.next.map(|fence| fence + 1),
            ..baton.clone()
        };
        // Whoever is frozen from here on finds its lease over before another has the local lock.
        let asked = BootTime::now();
        let near = Claim {
            asked,
            ..self.near(claim)
        };
        let lost = || {
            let words = "the local lock ran out while the remote one was waited for";
            Error::new(Code::Unavailable, words)
        };
        let longer = self.local.extend(&near, self.near_ttl(ttl(claim)));
        if !matches!(longer, Ok(Answer::Done(_))) {
            return self.refuse(claim, &far, from == Origin::Remote, lost());
        }
        if let Err(error) = self.batons.put(&claim.name, claim.token, &mine) {
            return self.refuse(claim, &far, from == Origin::Remote, error);
        }
        if !self.has_place(claim) {
            // Written late, it stands beside another, which may be of the same remote hold.
            if from == Origin::Remote {
                return self.refuse(claim, &far, false, lost());
            }
            let _ = self.batons.end(&claim.name, claim.token);
            return self.step_back(claim, lost());
        }
        self.forget(claim.token);
        let entry = Entry {
            phase: Phase::Held,
            remote: far,
            end: baton.end,
            left,
            fence: baton.next,
            bell: 0,
        };
        self.note(claim.token, entry);
        Ok(Attempt::Granted(Grant {
            lease: Some(baton.end.min(asked.after(ttl(claim)))),
            fence: baton.next,
            recovered,
        }))
    }

    /// Nobody goes on from here. The remote hold is given up if no baton has spoken of it yet, or whoever ends
    /// its baton; otherwise another of this host has it.
    fn refuse(&self, claim: &Claim, far: &Claim, unseen: bool, error: Error) -> Result<Attempt> {
        let ended = self.batons.end(&claim.name, claim.token);
        if unseen || matches!(ended, Ok(true)) {
            self.give_up_far(far);
        }
        self.step_back(claim, error)
    }
}

impl Backend for Tiered {
    fn capabilities(&self) -> Capabilities {
        self.can
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn fingerprint(&self) -> String {
        format!(
            "tiered:({},{})",
            self.local.fingerprint(),
            self.remote.fingerprint()
        )
    }

    fn identity(&self) -> String {
        self.remote.identity()
    }

    fn check_name(&self, name: &Name) -> Result<()> {
        self.local.check_name(name)?;
        self.remote.check_name(name)
    }

    fn check_ttl(&self, ttl: Duration) -> Result<()> {
        // As short as the hold's own, and as long as the lease that is taken for it.
        self.remote.check_ttl(ttl)?;
        self.remote.check_ttl(self.far_ttl(ttl))
    }

    fn default_lease(&self) -> Duration {
        self.remote.default_lease()
    }

    fn ping(&self, deadline: Option<BootTime>) -> Result<()> {
        self.local.ping(deadline)?;
        self.remote.ping(deadline)
    }

    /// On this host the next one goes on at once.
    fn keeps_delays(&self) -> bool {
        false
    }

    /// They come from a block that was reserved before.
    fn reserves_fences(&self) -> bool {
        false
    }

    /// Who holds is told by the remote store: what that forgets is forgotten.
    fn life(&self, deadline: Option<BootTime>) -> Result<Option<Life>> {
        self.remote.life(deadline)
    }

    fn attempt(&self, claim: &Claim, bell: Option<&Arc<Signal>>) -> Result<Attempt> {
        if claim.fence_block > 1 {
            return Err(Error::unsupported("two tiers reserve no fencing tokens"));
        }
        if let Some(entry) = self.known(claim.token) {
            match (entry.phase, bell) {
                (Phase::Held, _) => {
                    if let Answer::Done(lease) = self.extend(claim, ttl(claim))? {
                        return Ok(Attempt::Granted(Grant {
                            lease,
                            fence: entry.fence,
                            recovered: false,
                        }));
                    }
                    self.forget(claim.token);
                    if !self.has_place(claim) {
                        self.drop_place(claim);
                    }
                }
                (Phase::Remote, Some(bell)) => return self.confirm(claim, bell),
                (Phase::Remote, None) => {
                    let far = of_call(claim, &entry);
                    let answer = self.remote.attempt(&far, None);
                    self.forget(claim.token);
                    if matches!(answer, Ok(Attempt::Busy(_))) {
                        self.give_up_far(&far);
                    }
                    return self.settle(claim, far, answer, None);
                }
            }
        }
        match self.local.attempt(&self.near(claim), bell)? {
            Attempt::Granted(_) => self.take(claim, bell),
            busy => Ok(busy),
        }
    }

    fn confirm(&self, claim: &Claim, bell: &Arc<Signal>) -> Result<Attempt> {
        let Some(entry) = self.known(claim.token) else {
            return match self.local.confirm(&self.near(claim), bell)? {
                Attempt::Granted(_) => self.take(claim, Some(bell)),
                busy => Ok(busy),
            };
        };
        if entry.phase == Phase::Held {
            return self.attempt(claim, Some(bell));
        }
        let longer = self
            .local
            .extend(&self.near(claim), self.near_ttl(ttl(claim)));
        if !matches!(longer, Ok(Answer::Done(_))) {
            // Somebody of this host took our place: back to the local queue.
            self.forget(claim.token);
            self.give_up_far(&of_call(claim, &entry));
            self.drop_place(claim);
            return self.attempt(claim, Some(bell));
        }
        let far = of_call(claim, &entry);
        let answer = self.remote.confirm(&far, bell);
        self.settle(claim, far, answer, Some(bell))
    }

    fn cancel(&self, claim: &Claim) -> Result<Cancelled> {
        match self.known(claim.token) {
            None => {
                if let Cancelled::Granted(_) = self.local.cancel(&self.near(claim))? {
                    self.let_go(claim);
                }
                Ok(Cancelled::Gone)
            }
            Some(entry) if entry.phase == Phase::Held => Ok(Cancelled::Granted(Grant {
                lease: Some(entry.end.min(claim.asked.after(ttl(claim)))),
                fence: entry.fence,
                recovered: false,
            })),
            Some(entry) => {
                let far = of_call(claim, &entry);
                match self.remote.cancel(&far) {
                    Ok(Cancelled::Gone) => {}
                    Ok(Cancelled::Granted(grant)) => {
                        let granted = Ok(Attempt::Granted(grant));
                        return match self.settle(claim, far, granted, None)? {
                            Attempt::Granted(grant) => Ok(Cancelled::Granted(grant)),
                            Attempt::Busy(_) => Ok(Cancelled::Gone),
                        };
                    }
                    Err(_) => self.burn(&far),
                }
                self.forget(claim.token);
                self.let_go(claim);
                Ok(Cancelled::Gone)
            }
        }
    }

    fn take_caution(&self) -> Option<String> {
        let near = self.local.take_caution();
        near.or_else(|| self.remote.take_caution())
    }

    fn first_caution(&self) -> Option<String> {
        let near = self.local.first_caution();
        near.or_else(|| self.remote.first_caution())
    }

    fn park(&self, bell: &Arc<Signal>, until: BootTime) -> Result<Wake> {
        let is_far = self.process().far.lock().contains(&address(bell));
        if is_far {
            self.remote.park(bell, until)
        } else {
            self.local.park(bell, until)
        }
    }

    fn pump_fd(&self) -> Option<RawFd> {
        self.remote.pump_fd()
    }

    fn pump(&self) {
        self.remote.pump();
    }

    fn extend(&self, claim: &Claim, ttl: Duration) -> Result<Answer> {
        let Some(mut entry) = self
            .known(claim.token)
            .filter(|entry| entry.phase == Phase::Held)
        else {
            return Ok(Answer::NotOurs);
        };
        let asked = BootTime::now();
        let far = of_call(claim, &entry);
        let Answer::Done(sure) = self.remote.extend(&far, self.far_ttl(ttl))? else {
            self.disown(claim, &far);
            return Ok(Answer::NotOurs);
        };
        let longer = self.local.extend(&self.near(claim), self.near_ttl(ttl))?;
        // Whoever took the baton over has the remote hold.
        if longer == Answer::NotOurs || !self.batons.is_ours(&claim.name, claim.token) {
            return Ok(Answer::NotOurs);
        }
        let before = entry.end.min(asked.after(ttl));
        entry.end = sure.unwrap_or(before).max(entry.end);
        let until = entry.end.min(asked.after(ttl)).max(before);
        self.note(claim.token, entry);
        Ok(Answer::Done(Some(until)))
    }

    fn release(&self, claim: &Claim) -> Result<Answer> {
        let Some(entry) = self.known(claim.token) else {
            return self.local.release(&self.near(claim));
        };
        self.forget(claim.token);
        if entry.phase == Phase::Held {
            return self.release_held(claim, &entry);
        }
        self.give_up_far(&of_call(claim, &entry));
        self.let_go(claim);
        Ok(Answer::Done(None))
    }

    fn change_mode(&self, claim: &Claim, to: Mode) -> Result<Attempt> {
        let _ = (claim, to);
        Err(Error::unsupported("two tiers have exclusive locks alone"))
    }

    fn is_held(&self, claim: &Claim) -> Result<bool> {
        match self.known(claim.token) {
            Some(entry) if entry.phase == Phase::Held => {
                let is_here = self.batons.is_ours(&claim.name, claim.token)
                    && self.local.is_held(&self.near(claim))?;
                let far = of_call(claim, &entry);
                if is_here && !self.remote.is_held(&far)? {
                    self.disown(claim, &far);
                    return Ok(false);
                }
                Ok(is_here)
            }
            _ => Ok(false),
        }
    }

    fn wait_free(&self, name: &Name, until: BootTime) -> Result<bool> {
        // A holder of this host that let its lease run out is in the way here for a little longer.
        Ok(self.remote.wait_free(name, until)? && self.local.wait_free(name, until)?)
    }

    fn inspects(&self) -> bool {
        self.remote.inspects()
    }

    fn inspect(&self, name: &Name, deadline: Option<BootTime>) -> Result<Inspection> {
        self.look_at(name, deadline)
    }

    fn list(
        &self,
        prefix: &[u8],
        cursor: Option<&str>,
        limit: usize,
        deadline: Option<BootTime>,
    ) -> Result<Page> {
        self.page(prefix, cursor, limit, deadline)
    }

    /// The holder, whichever host it is on, finds its lease gone; one of this host loses the local lock too, so
    /// that nobody waits for it here.
    fn break_lock(&self, name: &Name, deadline: Option<BootTime>) -> Result<bool> {
        let broken = self.remote.break_lock(name, deadline)?;
        if broken && self.local.capabilities().break_lock {
            self.local.break_lock(name, deadline)?;
        }
        Ok(broken)
    }
}
