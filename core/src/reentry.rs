//! What asking again within one process means, for locks that are not `independent`.

use crate::codes::Code;
use crate::fork::PerProcess;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::options::Reentry;
use crate::phase::{Hold, Phase, Undo};
use crate::service::Place;
use crate::shared::Shared;
use crate::signal::Signal;
use crate::state::Acquired;
use crate::store::{Answer, Claim};
use crate::sync::{Mutex, MutexGuard};
use crate::watchdog;
use crate::{Error, Result};
use once_cell::race::OnceBox;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

type Key = (String, Vec<u8>);

#[derive(Clone, Copy, Debug)]
struct Changed {
    mode: Mode,
    unsure: bool,
    fence: Option<u64>,
}

/// What the handles that share a hold have in common.
#[derive(Debug, Default)]
pub(crate) struct Common {
    /// One of them has released it.
    ended: AtomicBool,
    sharers: Mutex<Vec<(Place, Weak<Shared>)>>,
    /// Whose turn it is to change the mode: each has a phase of its own, and no store does two changes of one hold
    /// at once.
    turn: Mutex<()>,
    /// What the last change of mode has left, whosever it was.
    changed: Mutex<Option<Changed>>,
    /// A store has one alarm for each hold, and all are to hear it.
    alarm: OnceBox<Arc<Signal>>,
}

impl Common {
    fn join(&self, lock: &Shared) {
        let mut sharers = self.sharers.lock();
        sharers.retain(|(_, other)| other.strong_count() > 0 && !other.ptr_eq(&lock.me));
        sharers.push((Place::of(&lock.store), lock.me.clone()));
    }

    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Notes that the hold is released; whether it was before.
    #[inline]
    pub(crate) fn end(&self) -> bool {
        self.ended.swap(true, Ordering::AcqRel)
    }

    /// Keeps the other handles from changing the mode until it is dropped. Nobody waits for longer than for one
    /// answer of the store; the handles of a hold are all of one process.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock()
    }

    /// The bell that has the service thread look, for each handle, whether the hold stands.
    pub(crate) fn alarm(self: &Arc<Self>) -> &Arc<Signal> {
        self.alarm.get_or_init(|| {
            let me = Arc::downgrade(self);
            let bell = Signal::with_hook(move || {
                let common = me.upgrade();
                let sharers = common.map(|common| common.sharers.lock().clone());
                for (place, lock) in sharers.into_iter().flatten() {
                    watchdog::look_soon(place, lock);
                }
            });
            Box::new(Arc::new(bell))
        })
    }
}

#[derive(Debug)]
struct Held {
    claim: Claim,
    fence: Option<u64>,
    common: Weak<Common>,
}

/// Holds of this process made by locks with a policy, by store and name.
static HELD: PerProcess<Mutex<HashMap<Key, Held>>> = PerProcess::new();

fn key(lock: &Shared) -> Key {
    (lock.store.fingerprint(), lock.name.as_bytes().to_vec())
}

/// Notes a hold, for those who ask again.
pub(crate) fn note(lock: &Shared, claim: &Claim, fence: Option<u64>) -> Arc<Common> {
    let common = Arc::new(Common::default());
    common.join(lock);
    let mut held = HELD.get_or_init(Mutex::default).lock();
    held.retain(|_, known| {
        let common = known.common.upgrade();
        common.is_some_and(|common| !common.has_ended())
    });
    held.insert(
        key(lock),
        Held {
            claim: claim.clone(),
            fence,
            common: Arc::downgrade(&common),
        },
    );
    common
}

/// Notes how a change of mode has left the hold, for the other handles and for those who ask again.
pub(crate) fn note_mode(hold: &Hold) {
    if let Some(common) = &hold.common {
        *common.changed.lock() = Some(Changed {
            mode: hold.claim.mode,
            unsure: hold.unsure,
            fence: hold.fence,
        });
    }
}

/// Takes over what a change of mode by another handle has left.
pub(crate) fn catch_up(hold: &mut Hold) {
    if let Some(common) = &hold.common
        && let Some(changed) = *common.changed.lock()
    {
        hold.claim.mode = changed.mode;
        hold.unsure = changed.unsure;
        hold.fence = changed.fence;
    }
}

/// The mode and the fencing token of a hold that another handle may have changed.
pub(crate) fn latest(hold: &Hold) -> (Mode, Option<u64>) {
    let common = hold.common.as_ref();
    let changed = common.and_then(|common| *common.changed.lock());
    changed.map_or((hold.claim.mode, hold.fence), |changed| {
        (changed.mode, changed.fence)
    })
}

/// Whether this process may have a hold that is to be refused or shared. Asks no store.
pub(crate) fn knows_one(lock: &Shared) -> bool {
    lock.is_reentrant() && {
        let held = HELD.get_or_init(Mutex::default).lock();
        let common = held
            .get(&key(lock))
            .and_then(|known| known.common.upgrade());
        common.is_some_and(|common| !common.has_ended())
    }
}

/// Before an acquire: refuses, or shares the hold that this process has already.
#[inline]
pub(crate) fn check(lock: &Shared, phase: &mut Phase) -> Result<Option<Acquired>> {
    if lock.options.reentry == Reentry::Independent {
        return Ok(None);
    }
    check_held(lock, phase)
}

/// Why a hold in this mode is not to be shared, if it is not.
fn refuse(lock: &Shared, held: Mode) -> Option<Error> {
    let wanted = lock.options.mode;
    if lock.options.reentry == Reentry::Error {
        Some(Error::outcome(Code::Reentered))
    } else if held.covers(wanted) {
        None
    } else {
        let words = format!(
            "this process holds the lock already, as {held}: that hold cannot be shared as {wanted}"
        );
        Some(Error::new(Code::Reentered, words))
    }
}

fn check_held(lock: &Shared, phase: &mut Phase) -> Result<Option<Acquired>> {
    lock.borrow(false);
    let found = {
        let held = HELD.get_or_init(Mutex::default).lock();
        held.get(&key(lock))
            .and_then(|known| Some((known.claim.clone(), known.fence, known.common.upgrade()?)))
    };
    let live = found.filter(|(_, _, common)| !common.has_ended());
    let Some((mut claim, mut fence, common)) = live else {
        return Ok(None);
    };
    if let Some(changed) = *common.changed.lock() {
        (claim.mode, fence) = (changed.mode, changed.fence);
    }
    claim.asked = BootTime::now();
    if let Some(refusal) = refuse(lock, claim.mode) {
        // One that was lost unnoticed stands in nobody's way.
        return match lock.store.backend().is_held(&claim)? {
            true => Err(refusal),
            false => Ok(None),
        };
    }
    let lease = match claim.ttl {
        Some(theirs) => {
            // For as long as either of them asks.
            let ttl = lock
                .kept_for(lock.ttl)
                .map_or(theirs, |ttl| ttl.max(theirs));
            match lock.store.backend().extend(&claim, ttl)? {
                Answer::Done(kept) => {
                    claim.ttl = Some(ttl);
                    lock.borrow(lock.ttl.is_none());
                    lock.lease(kept)
                }
                // Lost meanwhile: ask as anybody would.
                Answer::NotOurs => return Ok(None),
            }
        }
        None if lock.store.backend().is_held(&claim)? => None,
        None => return Ok(None),
    };
    common.join(lock);
    lock.quiet_lost();
    lock.set(
        phase,
        Phase::Held(Hold {
            claim: Box::new(claim),
            lease,
            fence,
            since: BootTime::now(),
            unsure: false,
            common: Some(common),
            undo: Undo::LetGo,
        }),
    );
    if let Phase::Held(hold) = &*phase {
        watchdog::start(lock, hold);
    }
    Ok(Some(Acquired {
        attempts: 1,
        fence,
        extended: true,
        ..Acquired::default()
    }))
}
