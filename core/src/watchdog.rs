//! Keeps leases alive until release, and tells of their loss.
//!
//! A hold that ends with a session has no lease: its store rings when the session is over.
//!
//! Runs on the service thread of its store. A lease is renewed at a third of its TTL; an expired one is never
//! revived. Release takes the same mutex as a renewal, so that no renewal follows a release.

pub(crate) mod entry;
#[cfg(all(loom, test))]
mod model;

/// What the entry is made of; in `model.rs` it is made of the checker's.
mod sync {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering};
}

use crate::lease::BootTime;
use crate::owner::OwnerToken;
use crate::phase::{Hold, Phase};
use crate::service;
use crate::shared::Shared;
use crate::store::Answer;
use std::sync::Weak;
use std::time::Duration;

/// A handle's entry in the book: one at a time, whatever number of holds come and go.
#[derive(Debug)]
pub(crate) struct Watch {
    lock: Weak<Shared>,
    /// When it comes due, by which it knows whether an earlier one has taken its place.
    due: u64,
}

/// Puts a hold under watch if it renews itself or somebody listens for its loss. The caller has the
/// phase.
pub(crate) fn start(lock: &Shared, hold: &Hold) {
    let Some(lease) = hold.lease else {
        if lock.is_remote && lock.is_watched() {
            lock.store().backend().alarm(&hold.claim, lock.alarm());
        }
        return;
    };
    if !lock.renew && !lock.is_watched() {
        return;
    }
    let due = due(lock, lease);
    if lock.watched.needs_new(due.as_nanos()) {
        let watch = Watch {
            lock: lock.me.clone(),
            due: due.as_nanos(),
        };
        service::schedule(lock.store(), due, watch);
    }
}

/// When to look: a third into what is left if the lease is renewed, else at its end.
fn due(lock: &Shared, lease: BootTime) -> BootTime {
    if !lock.renew {
        return lease;
    }
    let now = BootTime::now();
    let left = lease.since(now);
    // A little less for some, so that the leases of a process do not come due together.
    let spread = u32::from(OwnerToken::draw().map_or(0, |token| token.as_bytes()[0])) % 64;
    now.after((left / 3).saturating_sub(left / 3 / 640 * spread))
}

impl Watch {
    /// Renews or reports; says when to look again.
    pub(crate) fn look(&mut self) -> Option<BootTime> {
        let lock = self.lock.upgrade()?;
        let mut phase = lock.lock_phase();
        let look = || look_at(&lock, &mut phase).map(BootTime::as_nanos);
        let again = lock.watched.look(self.due, look);
        self.due = again.unwrap_or(0);
        again.map(BootTime::from_nanos)
    }
}

fn look_at(lock: &Shared, phase: &mut Phase) -> Option<BootTime> {
    let Phase::Held(hold) = &mut *phase else {
        return None;
    };
    let lease = hold.lease?;
    if lock.conservative(hold, lease).has_passed() {
        lose(lock, phase, "its lease ran out");
        return None;
    }
    if !lock.renew {
        return Some(lease);
    }
    if hold.since.after(hold.claim.ttl? / 6) > BootTime::now() {
        // A hold that began a moment ago, seen by the entry of an earlier one.
        return Some(due(lock, lease));
    }
    // The lock's own TTL, or what a refresh made of it.
    let ttl = hold.claim.ttl?;
    hold.claim.deadline = Some(lease);
    hold.claim.asked = BootTime::now();
    let shown = lock.show(hold);
    let extended = lock.store.backend().extend(&hold.claim, ttl);
    drop(shown);
    hold.claim.deadline = None;
    match extended {
        Ok(Answer::Done(renewed)) => {
            hold.lease = lock.lease(renewed).max(hold.lease);
            hold.lease.map(|lease| due(lock, lease))
        }
        Ok(Answer::NotOurs) => {
            lose(lock, phase, "the store says that it is not held any more");
            None
        }
        // Try again soon, for as long as the lease lasts.
        Err(_) => Some(BootTime::now().after((lease.left() / 8).max(Duration::from_millis(1)))),
    }
}

/// The store has rung: the hold may be over.
pub(crate) fn alarmed(lock: &Shared) {
    let bell = lock.alarm();
    bell.take();
    let mut phase = lock.lock_phase();
    let Phase::Held(hold) = &mut *phase else {
        return;
    };
    let backend = lock.store().backend();
    let shown = lock.show(hold);
    let held = backend.is_held(&hold.claim);
    drop(shown);
    match held {
        Ok(false) => lose(
            lock,
            &mut phase,
            "the store says that it is not held any more",
        ),
        // It rings once.
        Ok(true) | Err(_) => backend.alarm(&hold.claim, bell),
    }
}

/// No call returns a loss that is found here.
fn lose(lock: &Shared, phase: &mut Phase, why: &str) {
    let is_watched = lock.is_watched();
    lock.lose(phase, why);
    if !is_watched {
        lock.warn_of_loss(why);
    }
}
