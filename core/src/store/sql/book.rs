//! What the column `state` says: who holds a lock and who waits for it, and what each verb makes of
//! that. Pure: the row is read before and written after, by compare-and-swap of its version.

mod lines;

use crate::mode::Mode;
use crate::owner::OwnerToken;
use crate::store::{Claim, Inspection};
use crate::{Error, Result};
pub(super) use lines::{host_and_pid, only, who};
use std::time::Duration;

/// How long an offer stands, in µs.
pub(super) const CLAIM: i64 = 1_000_000;
/// How long a place in the queue lives without a refresh (three safety polls), in µs.
const QUEUE_LIFE: i64 = 15_000_000;
/// A place with less life than this left is refreshed when its waiter asks again.
const REFRESH_BELOW: i64 = 10_500_000;

/// A row as it was read, and the server's time then. Times are µs of the server's clock.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub version: i64,
    /// The last fencing token drawn.
    pub fence: i64,
    /// When its only holder was granted it, or it came free.
    pub since: i64,
    /// When the last hold and the last place in the queue have ended; in the past, it is free.
    pub until: i64,
    pub state: String,
    pub now: i64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Held {
    token: String,
    mode: Mode,
    fence: i64,
    ttl: i64,
    since: i64,
    until: i64,
    /// It was handed over, and its waiter has not confirmed that it took it.
    offered: bool,
    who: String,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Waiting {
    token: String,
    mode: Mode,
    block: i64,
    ttl: i64,
    until: i64,
    channel: String,
    who: String,
}

/// One who takes nothing, and is told when nobody holds.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Watching {
    token: String,
    until: i64,
    channel: String,
}

/// To be told over a channel once the row is written: of a hand-over, of being the first now, or that nobody holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Note {
    pub channel: String,
    pub token: String,
}

/// The holders and waiters of one lock at one moment.
#[derive(Clone, Debug)]
pub(super) struct Book {
    now: i64,
    pub fence: i64,
    held: Vec<Held>,
    queue: Vec<Waiting>,
    watching: Vec<Watching>,
    pub notes: Vec<Note>,
}

/// What an attempt came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Granted {
        fence: i64,
    },
    /// µs until the first hold can end; whether the book has changed.
    Busy {
        left: Option<i64>,
        changed: bool,
    },
}

pub(super) fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros())
        .unwrap_or(i64::MAX / 4)
        .max(1)
}

fn ttl_of(claim: &Claim) -> i64 {
    micros(claim.ttl.unwrap_or(crate::lock::DEFAULT_LEASE))
}

fn block_of(claim: &Claim) -> i64 {
    i64::from(claim.fence_block.max(1))
}

impl Book {
    /// The column `until`. Who only watches keeps no lock from being taken.
    pub fn until(&self) -> i64 {
        let held = self.held.iter().map(|held| held.until);
        let queue = self.queue.iter().map(|waiting| waiting.until);
        held.chain(queue).max().unwrap_or(0)
    }

    fn fits(&self, mode: Mode) -> bool {
        if cfg!(canary = "always_fits") {
            return true;
        }
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
    fn check_permits(&self, mode: Mode) -> Result<()> {
        let Mode::Permits { of, .. } = mode else {
            return Ok(());
        };
        let held = self.held.iter().map(|held| held.mode);
        let queue = self.queue.iter().map(|waiting| waiting.mode);
        for mode in held.chain(queue) {
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

    /// The first of `block` new fencing tokens.
    fn draw(&mut self, block: i64) -> i64 {
        if cfg!(canary = "flat_fence") {
            return self.fence;
        }
        let first = self.fence.saturating_add(1);
        self.fence = self.fence.saturating_add(block);
        first
    }

    /// Offers the lock to those at the head of the queue, as far as it goes round, and tells the one
    /// after them that it is first: it looks in case they are dead.
    fn admit(&mut self) {
        let before = self.queue.len();
        while let Some(first) = self.queue.first() {
            if !self.fits(first.mode) {
                break;
            }
            let waiting = self.queue.remove(0);
            let fence = self.draw(waiting.block);
            self.notes.push(Note {
                channel: waiting.channel,
                token: waiting.token.clone(),
            });
            self.held.push(Held {
                token: waiting.token,
                mode: waiting.mode,
                fence,
                ttl: waiting.ttl,
                since: self.now,
                until: self.now + CLAIM,
                offered: true,
                who: waiting.who,
            });
        }
        if self.queue.len() < before
            && let Some(next) = self.queue.first()
        {
            self.notes.push(Note {
                channel: next.channel.clone(),
                token: next.token.clone(),
            });
        }
        if self.held.is_empty() {
            let told = self.watching.drain(..).map(|watching| Note {
                channel: watching.channel,
                token: watching.token,
            });
            self.notes.extend(told);
        }
    }

    /// Sees to it that whoever watches is told once nobody holds: the µs until the first hold can end, or nothing
    /// if nobody does now.
    pub fn watch(&mut self, token: OwnerToken, channel: &str) -> Option<i64> {
        let left = self.held.iter().map(|held| held.until - self.now).min();
        let token = token.to_hex();
        if left.is_none() {
            self.watching.retain(|watching| watching.token != token);
            return left;
        }
        let life = self.now + QUEUE_LIFE;
        let known = self.watching.iter_mut().find(|one| one.token == token);
        match known {
            Some(known) if known.channel == channel && known.until - self.now >= REFRESH_BELOW => {}
            Some(known) => {
                channel.clone_into(&mut known.channel);
                known.until = life;
            }
            None => self.watching.push(Watching {
                token,
                until: life,
                channel: channel.to_owned(),
            }),
        }
        left
    }

    /// Takes up an offer, or grants again what is held; its fence.
    fn take_up(&mut self, token: &str, block: i64) -> Option<i64> {
        let place = self.held.iter().position(|held| held.token == token)?;
        let drawn = self.held[place].offered.then(|| self.draw(block));
        let held = &mut self.held[place];
        if let Some(fence) = drawn {
            // Drawn now: others may have been granted since the offer.
            held.fence = fence;
            held.since = self.now;
        }
        held.offered = false;
        held.until = held.until.max(self.now.saturating_add(held.ttl));
        let fence = held.fence;
        self.queue.retain(|waiting| waiting.token != token);
        Some(fence)
    }

    /// May this claim hold the lock? With a channel it is queued if not.
    pub fn attempt(&mut self, claim: &Claim, who: &str, channel: Option<&str>) -> Result<Verdict> {
        let token = claim.token.to_hex();
        if let Some(fence) = self.take_up(&token, block_of(claim)) {
            return Ok(Verdict::Granted { fence });
        }
        self.check_permits(claim.mode)?;
        let place = self.queue.iter().position(|waiting| waiting.token == token);
        let first = !claim.fair || place.map_or(self.queue.is_empty(), |place| place == 0);
        if first && self.fits(claim.mode) {
            if let Some(place) = place {
                self.queue.remove(place);
            }
            let fence = self.draw(block_of(claim));
            let ttl = ttl_of(claim);
            self.held.push(Held {
                token,
                mode: claim.mode,
                fence,
                ttl,
                since: self.now,
                until: self.now.saturating_add(ttl),
                offered: false,
                who: who.to_owned(),
            });
            self.admit();
            return Ok(Verdict::Granted { fence });
        }
        let mut changed = false;
        if let Some(channel) = channel {
            let life = self.now + QUEUE_LIFE;
            match place.and_then(|place| self.queue.get_mut(place)) {
                Some(waiting) => {
                    if waiting.until - self.now < REFRESH_BELOW || waiting.channel != channel {
                        waiting.until = life;
                        channel.clone_into(&mut waiting.channel);
                        changed = true;
                    }
                }
                None => {
                    self.queue.push(Waiting {
                        token: token.clone(),
                        mode: claim.mode,
                        block: block_of(claim),
                        ttl: ttl_of(claim),
                        until: life,
                        channel: channel.to_owned(),
                        who: who.to_owned(),
                    });
                    changed = true;
                }
            }
        }
        // Leases that ran out may have made room for those who wait.
        self.admit();
        if let Some(fence) = self.take_up(&token, block_of(claim)) {
            return Ok(Verdict::Granted { fence });
        }
        changed |= !self.notes.is_empty();
        let left = self.held.iter().map(|held| held.until - self.now).min();
        Ok(Verdict::Busy { left, changed })
    }

    /// Ends a hold or a place in the queue; whether it was a hold.
    pub fn release(&mut self, token: OwnerToken) -> Released {
        let token = token.to_hex();
        let (held, queued) = (self.held.len(), self.queue.len());
        self.held.retain(|held| held.token != token);
        self.queue.retain(|waiting| waiting.token != token);
        let released = if self.held.len() < held {
            Released::Held
        } else if self.queue.len() < queued {
            Released::Queued
        } else {
            Released::Nothing
        };
        self.admit();
        released
    }

    /// Leaves the queue, or takes up what was handed over meanwhile: its fence.
    pub fn cancel(&mut self, token: OwnerToken, block: u32) -> Option<i64> {
        let taken = self.take_up(&token.to_hex(), i64::from(block.max(1)));
        if taken.is_none() {
            self.release(token);
        }
        taken
    }

    /// Lengthens a hold to `ttl` from now; false if it is not this owner's.
    pub fn extend(&mut self, token: OwnerToken, ttl: Duration) -> bool {
        let (token, until) = (token.to_hex(), self.now.saturating_add(micros(ttl)));
        match self
            .held
            .iter_mut()
            .find(|held| held.token == token && !held.offered)
        {
            Some(held) => {
                held.until = held.until.max(until);
                true
            }
            None => false,
        }
    }

    /// Turns a hold into one of another mode: `None` if it is not ours, `Some(None)` if others hold
    /// it too; otherwise its fence and the µs that are left of it.
    pub fn change_mode(&mut self, claim: &Claim, to: Mode) -> Option<Option<(i64, i64)>> {
        let token = claim.token.to_hex();
        let place = self
            .held
            .iter()
            .position(|held| held.token == token && !held.offered)?;
        if to == Mode::Exclusive && self.held.len() > 1 {
            return Some(None);
        }
        // A writer's token must be above those of all readers that there were.
        let fence = self.draw(block_of(claim));
        let held = &mut self.held[place];
        held.mode = to;
        held.fence = fence;
        let left = held.until - self.now;
        self.admit();
        Some(Some((fence, left)))
    }

    /// Makes `heir` the owner; the fence, or nothing if it is not `token`'s.
    pub fn adopt(&mut self, claim: &Claim, heir: OwnerToken, who: &str) -> Option<i64> {
        let (token, ttl) = (claim.token.to_hex(), ttl_of(claim));
        let held = self
            .held
            .iter_mut()
            .find(|held| held.token == token && !held.offered)?;
        held.token = heir.to_hex();
        held.ttl = ttl;
        held.until = held.until.max(self.now.saturating_add(ttl));
        who.clone_into(&mut held.who);
        Some(held.fence)
    }

    /// Ends all holds; whether there was one.
    pub fn break_holds(&mut self) -> bool {
        let any = !self.held.is_empty();
        self.held.clear();
        self.admit();
        any
    }

    /// Whoever holds exclusively is no reader: the table may be an older copy.
    pub fn holds(&self, token: OwnerToken, mode: Mode) -> bool {
        let token = token.to_hex();
        let fits = |held: &Held| mode != Mode::Exclusive || held.mode != Mode::Shared;
        self.held
            .iter()
            .any(|held| held.token == token && !held.offered && fits(held))
    }

    pub fn is_free(&self) -> bool {
        self.held.is_empty()
    }

    /// As people see it.
    pub fn inspection(&self, name: &[u8]) -> Inspection {
        Inspection {
            name: name.to_vec(),
            holders: self.held.iter().map(|held| held.shown(self.now)).collect(),
            waiters: u32::try_from(self.queue.len()).ok(),
        }
    }
}

/// What a release found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Released {
    Held,
    Queued,
    Nothing,
}
