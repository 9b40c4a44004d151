//! One name's holders and queue.

use super::CLAIM;
use super::space::Work;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::Signal;
use crate::store::{Answer, Attempt, Busy, Cancelled, Claim, Grant, Holder, Inspection, this_host};
use crate::{Code, Error, Result};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
struct Held {
    token: OwnerToken,
    mode: Mode,
    ttl: Option<Duration>,
    until: Option<BootTime>,
    /// Set while this is an offer that the waiter has not taken up.
    offered_until: Option<BootTime>,
    since: BootTime,
    fence: u64,
    label: Option<Arc<str>>,
}

#[derive(Debug)]
struct Waiter {
    claim: Claim,
    bell: Arc<Signal>,
}

#[derive(Debug, Default)]
pub(super) struct Slot {
    held: Vec<Held>,
    queue: VecDeque<Waiter>,
    watchers: Vec<Arc<Signal>>,
}

impl Slot {
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.queue.is_empty() && self.watchers.is_empty()
    }

    pub(super) fn holds(&self, token: OwnerToken) -> bool {
        self.held
            .iter()
            .any(|held| held.token == token && held.offered_until.is_none())
    }

    /// A hold has got its token.
    pub(super) fn rename(&mut self, before: OwnerToken, token: OwnerToken) {
        if let Some(held) = self.held.iter_mut().find(|held| held.token == before) {
            held.token = token;
        }
    }

    /// Ends what has run out: leases, and offers that nobody took up.
    pub(super) fn expire(&mut self, work: &mut Work<'_>) {
        let ends = |held: &Held| held.until.is_some() || held.offered_until.is_some();
        if !self.held.iter().any(ends) {
            return;
        }
        let now = work.now();
        self.held.retain(|held| {
            held.until.is_none_or(|until| until > now)
                && held.offered_until.is_none_or(|until| until > now)
        });
    }

    /// Offers the lock to those at the head of the queue, as far as it goes round.
    pub(super) fn admit(&mut self, work: &mut Work<'_>) {
        while let Some(first) = self.queue.front() {
            if !self.fits(first.claim.mode) {
                break;
            }
            let Some(waiter) = self.queue.pop_front() else {
                break;
            };
            let offered_until = Some(work.now().after(CLAIM));
            self.grant(&waiter.claim, offered_until, work);
            work.bells.push(waiter.bell);
        }
        if self.held.is_empty() && self.queue.is_empty() {
            work.bells.append(&mut self.watchers);
        }
    }

    fn fits(&self, mode: Mode) -> bool {
        match mode {
            Mode::Exclusive => self.held.is_empty(),
            Mode::Shared => self.held.iter().all(|held| held.mode == Mode::Shared),
            Mode::Permits { take, of } => {
                let taken = self
                    .held
                    .iter()
                    .try_fold(0u32, |taken, held| match held.mode {
                        Mode::Permits { take, .. } => taken.checked_add(take),
                        _ => None,
                    });
                taken.is_some_and(|taken| taken.saturating_add(take) <= of)
            }
        }
    }

    /// All who speak of permits must agree how many there are.
    fn check_permits(&self, claim: &Claim) -> Result<()> {
        let Mode::Permits { of, .. } = claim.mode else {
            return Ok(());
        };
        for mode in self
            .held
            .iter()
            .map(|held| held.mode)
            .chain(self.queue.iter().map(|waiter| waiter.claim.mode))
        {
            if let Mode::Permits { of: theirs, .. } = mode
                && theirs != of
            {
                return Err(Error::invalid(format!(
                    "others use this name with {theirs} permits, not {of}"
                )));
            }
        }
        Ok(())
    }

    fn grant(
        &mut self,
        claim: &Claim,
        offered_until: Option<BootTime>,
        work: &mut Work<'_>,
    ) -> Grant {
        let fence = work.draw_fence(claim.fence_block);
        let until = claim.ttl.map(|ttl| work.now().after(ttl));
        self.held.push(Held {
            token: claim.token,
            mode: claim.mode,
            ttl: claim.ttl,
            until: if offered_until.is_some() { None } else { until },
            offered_until,
            since: work.now(),
            fence,
            label: claim.label.clone(),
        });
        Grant {
            lease: until,
            fence: Some(fence),
            recovered: false,
        }
    }

    pub(super) fn attempt(
        &mut self,
        claim: &Claim,
        bell: Option<&Arc<Signal>>,
        work: &mut Work<'_>,
    ) -> Result<Attempt> {
        if let Some(held) = self.held.iter_mut().find(|held| held.token == claim.token) {
            // An offer taken up, or a replay: the lease counts from now.
            held.offered_until = None;
            held.until = held.ttl.map(|ttl| work.now().after(ttl)).max(held.until);
            return Ok(Attempt::Granted(Grant {
                lease: held.until,
                fence: Some(held.fence),
                recovered: false,
            }));
        }
        self.check_permits(claim)?;
        let place = self
            .queue
            .iter()
            .position(|waiter| waiter.claim.token == claim.token);
        let first = if claim.fair {
            place.is_none() && self.queue.is_empty() || place == Some(0)
        } else {
            true
        };
        if first && self.fits(claim.mode) {
            if let Some(place) = place {
                self.queue.remove(place);
            }
            return Ok(Attempt::Granted(self.grant(claim, None, work)));
        }
        if let Some(bell) = bell {
            match place.and_then(|place| self.queue.get_mut(place)) {
                Some(waiter) => waiter.bell = bell.clone(),
                None => self.queue.push_back(Waiter {
                    claim: claim.clone(),
                    bell: bell.clone(),
                }),
            }
        }
        // The lock may be free with others before us.
        self.admit(work);
        Ok(Attempt::Busy(self.busy()))
    }

    fn busy(&self) -> Busy {
        let until = self
            .held
            .iter()
            .filter_map(|held| held.offered_until.or(held.until))
            .min();
        Busy {
            until,
            poll: None,
            ..Busy::default()
        }
    }

    pub(super) fn cancel(&mut self, claim: &Claim, work: &mut Work<'_>) -> Cancelled {
        self.queue
            .retain(|waiter| waiter.claim.token != claim.token);
        match self.held.iter_mut().find(|held| held.token == claim.token) {
            Some(held) => {
                held.offered_until = None;
                held.until = held.ttl.map(|ttl| work.now().after(ttl)).max(held.until);
                Cancelled::Granted(Grant {
                    lease: held.until,
                    fence: Some(held.fence),
                    recovered: false,
                })
            }
            None => Cancelled::Gone,
        }
    }

    pub(super) fn extend(&mut self, claim: &Claim, ttl: Duration, work: &mut Work<'_>) -> Answer {
        match self.held.iter_mut().find(|held| held.token == claim.token) {
            Some(held) => {
                held.offered_until = None;
                held.ttl = Some(ttl);
                held.until = held.until.max(Some(work.now().after(ttl)));
                Answer::Done(held.until)
            }
            None => Answer::NotOurs,
        }
    }

    pub(super) fn release(&mut self, claim: &Claim) -> Answer {
        self.queue
            .retain(|waiter| waiter.claim.token != claim.token);
        let before = self.held.len();
        self.held.retain(|held| held.token != claim.token);
        if self.held.len() < before {
            Answer::Done(None)
        } else {
            Answer::NotOurs
        }
    }

    pub(super) fn change_mode(
        &mut self,
        claim: &Claim,
        to: Mode,
        work: &mut Work<'_>,
    ) -> Result<Attempt> {
        let alone = self.held.len() == 1;
        let Some(held) = self.held.iter_mut().find(|held| held.token == claim.token) else {
            return Err(Error::outcome(Code::Lost));
        };
        if to == Mode::Exclusive && !alone {
            return Ok(Attempt::Busy(self.busy()));
        }
        if to == Mode::Exclusive {
            held.fence = work.draw_fence(claim.fence_block);
        }
        held.mode = to;
        Ok(Attempt::Granted(Grant {
            lease: held.until,
            fence: Some(held.fence),
            recovered: false,
        }))
    }

    /// Notes somebody who waits for the name to be free; nothing if it is.
    pub(super) fn watch(&mut self, bell: &Arc<Signal>) -> Option<Busy> {
        self.unwatch(bell);
        if self.held.is_empty() && self.queue.is_empty() {
            return None;
        }
        self.watchers.push(bell.clone());
        Some(self.busy())
    }

    pub(super) fn unwatch(&mut self, bell: &Arc<Signal>) {
        self.watchers.retain(|known| !Arc::ptr_eq(known, bell));
    }

    pub(super) fn break_holds(&mut self) -> bool {
        let any = !self.held.is_empty();
        self.held.clear();
        any
    }

    pub(super) fn inspect(&self, name: &Name, now: BootTime) -> Inspection {
        let holders = self
            .held
            .iter()
            .filter(|held| held.until.is_none_or(|until| until > now))
            .map(|held| Holder {
                owner: held.token.to_hex()[..8].to_owned(),
                mode: held.mode.kind(),
                permits: if let Mode::Permits { take, .. } = held.mode {
                    take
                } else {
                    1
                },
                host: this_host(),
                pid: Some(std::process::id()),
                label: held.label.as_deref().map(str::to_owned),
                remaining: held.until.map(|until| until.since(now)),
                held: Some(now.since(held.since)),
                fence: Some(held.fence),
                brand: held.token.brand(),
            });
        Inspection {
            name: name.as_bytes().to_vec(),
            holders: holders.collect(),
            waiters: u32::try_from(self.queue.len()).ok(),
        }
    }
}
