//! Keeps leases alive until release, and tells of their loss.
//!
//! A hold that ends with a session has no lease: its store rings when the session is over.
//!
//! Runs on the service thread of its store. A lease is renewed at a third of its TTL, together with all of
//! its store that come due soon; an expired one is never revived. Release locks the same phase as a renewal,
//! so that no renewal follows a release.

pub(crate) mod entry;
#[cfg(all(loom, test))]
mod model;
#[cfg(all(test, not(loom)))]
mod tests;

/// What the entry is made of; in `model.rs` it is made of the checker's.
mod sync {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering};
}

use crate::codes::Code;
use crate::fork;
use crate::lease::BootTime;
use crate::owner::OwnerToken;
use crate::phase::{Hold, Phase, PhaseLock};
use crate::service::{self, Command, Place};
use crate::shared::Shared;
use crate::signal::Signal;
use crate::store::Answer;
use crate::{Error, Result};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The most leases that are renewed together: a release waits for the answer to all of them.
const MOST_TOGETHER: usize = 1024;

/// A handle's entry in the book: one at a time, whatever number of holds come and go.
#[derive(Debug)]
pub(crate) struct Watch {
    lock: Weak<Shared>,
    /// When it comes due, by which it knows whether an earlier one has taken its place.
    due: u64,
    /// From when on it goes along with others.
    early: u64,
    /// The store, if it renews several leases in one exchange.
    company: Option<usize>,
}

/// Puts a hold under watch if it renews itself or somebody listens for its loss. The caller has the
/// phase.
pub(crate) fn start(lock: &Shared, hold: &Hold) {
    let Some(lease) = hold.lease else {
        if lock.is_remote && lock.is_watched() {
            lock.store().backend().alarm(&hold.claim, alarm(lock, hold));
        }
        return;
    };
    if !lock.renews() && !lock.is_watched() {
        return;
    }
    let due = due(lock, lease, spread());
    let (by, now) = (due.as_nanos(), BootTime::now().as_nanos());
    if lock.watched.needs_new(by, now, fork::generation()) {
        let mut watch = Watch {
            lock: lock.me.clone(),
            due: 0,
            early: 0,
            company: lock
                .store()
                .backend()
                .extends_together()
                .then(|| service::address(lock.store().backend())),
        };
        watch.set_due(lock, due);
        if service::schedule(lock.store(), due, watch).is_err() {
            // This hold's lease runs out; the next one asks for a thread again.
            lock.watched.set(None);
        }
    }
}

/// A little less for some, so that processes that began together do not ask together for ever.
fn spread() -> u32 {
    u32::from(OwnerToken::draw().map_or(0, |token| token.as_bytes()[0])) % 64
}

/// When to look: a third into what is left if the lease is renewed, else at its end.
fn due(lock: &Shared, lease: BootTime, spread: u32) -> BootTime {
    if !lock.renews() {
        return lease;
    }
    let now = BootTime::now();
    let left = lease.since(now);
    now.after((left / 3).saturating_sub(left / 3 / 640 * spread))
}

impl Watch {
    /// Half the way to a renewal it goes along with others: so leases of any age soon come due together,
    /// and none is renewed more than twice as often as it must be.
    fn set_due(&mut self, lock: &Shared, due: BootTime) {
        let way = due.since(BootTime::now());
        self.due = due.as_nanos();
        let ahead = if lock.renews() {
            way / 2
        } else {
            Duration::ZERO
        };
        let ahead = u64::try_from(ahead.as_nanos()).unwrap_or(u64::MAX);
        self.early = self.due.saturating_sub(ahead);
    }

    /// Whether it is renewed along with one that has come due.
    pub(crate) fn goes_with(&self, company: usize, now: BootTime) -> bool {
        self.company == Some(company) && self.early <= now.as_nanos()
    }

    /// Of which others it takes along.
    pub(crate) fn company(&self) -> Option<usize> {
        self.company
    }

    /// How many others it takes along at most.
    pub(crate) const MOST_OTHERS: usize = MOST_TOGETHER - 1;
}

/// Renews or reports; says of each that is to be looked at again when.
pub(crate) fn look(watches: Vec<Watch>) -> Vec<(BootTime, Watch)> {
    let alone = watches.len() == 1;
    let locks: Vec<_> = watches.iter().map(|watch| watch.lock.upgrade()).collect();
    let mut again = Vec::new();
    let (mut round, mut busy) = (Vec::new(), Vec::new());
    for (watch, lock) in watches.into_iter().zip(&locks) {
        let Some(lock) = lock else { continue };
        // Whoever has the phase may be waiting for the server: nobody else's lease waits for that.
        match lock.gated.try_lock() {
            Some(phase) if !alone => round.push((watch, &**lock, phase)),
            _ => busy.push((watch, &**lock)),
        }
    }
    look_together(round, &mut again);
    for (watch, lock) in busy {
        look_together(vec![(watch, lock, lock.gated.lock())], &mut again);
    }
    again
}

/// An entry, with its handle's phase.
type Turn<'a> = (Watch, &'a Shared, PhaseLock<'a>);

fn look_together(mut round: Vec<Turn<'_>>, again: &mut Vec<(BootTime, Watch)>) {
    let spread = spread();
    round.retain(|(watch, lock, _)| lock.watched.is(watch.due));
    let mut looks: Vec<Look> = round
        .iter_mut()
        .map(|(_, lock, phase)| judge(lock, phase, spread))
        .collect();
    renew(&mut round, &mut looks);
    let mut locks = Vec::with_capacity(round.len());
    for ((mut watch, lock, mut phase), look) in round.into_iter().zip(looks) {
        let next = settle(lock, &mut phase, look, spread);
        if let Some(next) = lock.watched.set(next.map(BootTime::as_nanos)) {
            watch.set_due(lock, BootTime::from_nanos(next));
            again.push((BootTime::from_nanos(next), watch));
        }
        locks.push(lock);
    }
    // Not before all phases are unlocked: an observer may wait for a thread that wants one.
    locks.iter().for_each(|lock| lock.flush_notices());
}

/// What is to be done about a hold, and then what came of it.
enum Look {
    /// Look again then, or not at all.
    Again(Option<BootTime>),
    /// Its lease is lengthened, if the handle still has it.
    Renew(BootTime, Duration),
    Renewed(BootTime, Result<Answer>),
}

fn judge(lock: &Shared, phase: &mut Phase, spread: u32) -> Look {
    let Phase::Held(hold) = &mut *phase else {
        return Look::Again(None);
    };
    let (Some(lease), ttl) = (hold.lease, hold.claim.ttl) else {
        return Look::Again(None);
    };
    if hold.has_ended() {
        // Another handle that shared it has released it: nothing is lost.
        return Look::Again(None);
    }
    if !lock.renews() && !lock.is_watched() {
        // It was renewed while the rest of its set was waited for.
        return Look::Again(None);
    }
    if lock.conservative(hold, lease).has_passed() {
        lose(lock, phase, "its lease ran out");
        return Look::Again(None);
    }
    // The lock's own TTL, or what a refresh made of it.
    match ttl {
        Some(ttl) if lock.renews() => {
            if hold.since.after(ttl / 6) > BootTime::now() {
                // A hold that began a moment ago, seen by the entry of an earlier one.
                return Look::Again(Some(due(lock, lease, spread)));
            }
            Look::Renew(lease, ttl)
        }
        _ => Look::Again((!lock.renews()).then_some(lease)),
    }
}

/// Asks the store to lengthen all that are to be.
fn renew(round: &mut [Turn<'_>], looks: &mut [Look]) {
    let now = BootTime::now();
    let mut shown = Vec::new();
    let mut claims = Vec::new();
    let mut backend = None;
    for ((_, lock, phase), look) in round.iter_mut().zip(looks.iter()) {
        if let (Phase::Held(hold), Look::Renew(lease, ttl)) = (&mut **phase, look) {
            hold.claim.deadline = Some(*lease);
            hold.claim.asked = now;
            shown.push(lock.show(hold));
            claims.push((&*hold.claim, *ttl));
            backend = Some(lock.store().backend());
        }
    }
    let Some(backend) = backend else { return };
    // A bug that shows here must not end the watch over all of them.
    let ask = std::panic::AssertUnwindSafe(|| match claims.as_slice() {
        [(claim, ttl)] => vec![backend.extend(claim, *ttl)],
        claims => backend.extend_many(claims),
    });
    let answers = std::panic::catch_unwind(ask).unwrap_or_default();
    drop(shown);
    let mut answers = answers.into_iter();
    for look in looks {
        if let Look::Renew(lease, _) = *look {
            let unknown = || Err(Error::new(Code::Internal, "no answer to a renewal"));
            *look = Look::Renewed(lease, answers.next().unwrap_or_else(unknown));
        }
    }
}

/// Notes what came of it; when to look again.
fn settle(lock: &Shared, phase: &mut Phase, look: Look, spread: u32) -> Option<BootTime> {
    let (lease, answer) = match look {
        Look::Again(at) => return at,
        Look::Renew(..) => return None,
        Look::Renewed(lease, answer) => (lease, answer),
    };
    let Phase::Held(hold) = &mut *phase else {
        return None;
    };
    hold.claim.deadline = None;
    if hold.has_ended() {
        return None;
    }
    match answer {
        Ok(Answer::Done(renewed)) => {
            hold.lease = lock.lease(renewed).max(hold.lease);
            hold.lease.map(|lease| due(lock, lease, spread))
        }
        Ok(Answer::NotOurs) => {
            lose(lock, phase, "the store says that it is not held any more");
            None
        }
        Err(error) if error.ends_hold() => {
            lose(lock, phase, error.message());
            None
        }
        // Try again soon, for as long as the lease lasts.
        Err(_) => Some(BootTime::now().after((lease.left() / 8).max(Duration::from_millis(1)))),
    }
}

/// The bell of a hold that ends with a session.
fn alarm<'a>(lock: &'a Shared, hold: &'a Hold) -> &'a Arc<Signal> {
    let common = hold.common.as_ref();
    common.map_or_else(|| lock.alarm(), |common| common.alarm())
}

/// Has the service thread look whether the hold stands.
pub(crate) fn look_soon(place: Place, lock: Weak<Shared>) {
    let look = move || {
        if let Some(lock) = lock.upgrade() {
            alarmed(&lock);
        }
    };
    let _ = service::send(place, Command::Job(Box::new(look)));
}

/// The store has rung: the hold may be over.
fn alarmed(lock: &Shared) {
    lock.alarm().take();
    let mut phase = lock.lock_phase();
    let Phase::Held(hold) = &mut *phase else {
        return;
    };
    if hold.has_ended() {
        return;
    }
    let bell = alarm(lock, hold);
    bell.take();
    let backend = lock.store().backend();
    let shown = lock.show(hold);
    let held = backend.is_held(&hold.claim);
    drop(shown);
    match held {
        // Released by another handle meanwhile.
        Ok(false) if hold.has_ended() => {}
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
