//! Keeps leases alive until release, and tells of their loss.
//!
//! Runs on the service thread. A lease is renewed at a third of its TTL; an expired one is never
//! revived. Release takes the same mutex as a renewal, so that no renewal follows a release.

use crate::lease::BootTime;
use crate::lock::{Phase, Shared};
use crate::owner::OwnerToken;
use crate::service;
use crate::store::Answer;
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// One hold under watch.
#[derive(Debug)]
pub(crate) struct Watch {
    lock: Weak<Shared>,
    owner: OwnerToken,
}

/// Puts a hold under watch if it renews itself or somebody listens for its loss.
pub(crate) fn start(lock: &Shared, owner: OwnerToken, lease: Option<BootTime>) {
    let Some(lease) = lease else { return };
    let mark = mark(owner);
    if (lock.renew || lock.is_watched()) && lock.watched.swap(mark, Ordering::AcqRel) != mark {
        service::schedule(
            due(lock, lease),
            Watch {
                lock: lock.me.clone(),
                owner,
            },
        );
    }
}

/// The first half of a token, to tell holds apart.
fn mark(owner: OwnerToken) -> u64 {
    let mut half = [0; 8];
    half.copy_from_slice(&owner.as_bytes()[..8]);
    u64::from_ne_bytes(half) | 1
}

/// When to look: a third into what is left if the lease is renewed, else at its end.
fn due(lock: &Shared, lease: BootTime) -> BootTime {
    let now = BootTime::now();
    if lock.renew {
        let left = lease.since(now);
        // A little less for some, so that the leases of a process do not come due together.
        let spread = u32::from(OwnerToken::draw().map_or(0, |token| token.as_bytes()[0])) % 64;
        now.after((left / 3).saturating_sub(left / 3 / 640 * spread))
    } else {
        lease
    }
}

impl Watch {
    /// Renews or reports; says when to look again.
    pub(crate) fn look(&self) -> Option<BootTime> {
        let lock = self.lock.upgrade()?;
        let again = self.look_at(&lock);
        if again.is_none() {
            // A later hold has written its own mark.
            let _ = lock.watched.compare_exchange(
                mark(self.owner),
                0,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
        }
        again
    }

    fn look_at(&self, lock: &Shared) -> Option<BootTime> {
        let mut phase = lock.lock_phase();
        let Phase::Held(hold) = &mut *phase else {
            return None;
        };
        if hold.claim.token != self.owner {
            return None;
        }
        let lease = hold.lease?;
        if lock.conservative(hold, lease).has_passed() {
            lose(lock, &mut phase, "its lease ran out");
            return None;
        }
        if !lock.renew {
            return Some(lease);
        }
        // The lock's own TTL, or what a refresh made of it.
        let ttl = hold.claim.ttl?;
        let mut claim = hold.claim.clone();
        claim.deadline = Some(lease);
        let shown = lock.show(hold);
        let extended = lock.store.backend().extend(&claim, ttl);
        drop(shown);
        match extended {
            Ok(Answer::Done(renewed)) => {
                hold.lease = renewed.max(hold.lease);
                hold.lease.map(|lease| due(lock, lease))
            }
            Ok(Answer::NotOurs) => {
                lose(
                    lock,
                    &mut phase,
                    "the store says that it is not held any more",
                );
                None
            }
            // Try again soon, for as long as the lease lasts.
            Err(_) => Some(BootTime::now().after((lease.left() / 8).max(Duration::from_millis(1)))),
        }
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
