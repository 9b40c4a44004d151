//! What asking again within one process means, for locks that are not `independent`.

use crate::codes::Code;
use crate::fork::PerProcess;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::options::Reentry;
use crate::phase::{Hold, Phase, Undo};
use crate::shared::Shared;
use crate::state::Acquired;
use crate::store::{Answer, Claim};
use crate::sync::Mutex;
use crate::{Error, Result};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

type Key = (String, Vec<u8>);

#[derive(Debug)]
struct Held {
    claim: Claim,
    fence: Option<u64>,
    ended: Weak<AtomicBool>,
}

/// Holds of this process made by locks with a policy, by store and name.
static HELD: PerProcess<Mutex<HashMap<Key, Held>>> = PerProcess::new();

fn key(lock: &Shared) -> Key {
    (lock.store.fingerprint(), lock.name.as_bytes().to_vec())
}

/// Notes a hold, for those who ask again.
pub(crate) fn note(lock: &Shared, claim: &Claim, fence: Option<u64>, ended: &Arc<AtomicBool>) {
    let mut held = HELD.get_or_init(Mutex::default).lock();
    held.retain(|_, known| {
        known
            .ended
            .upgrade()
            .is_some_and(|ended| !ended.load(Ordering::Acquire))
    });
    held.insert(
        key(lock),
        Held {
            claim: claim.clone(),
            fence,
            ended: Arc::downgrade(ended),
        },
    );
}

/// Notes that a hold has changed its mode, for those who ask again.
pub(crate) fn note_mode(lock: &Shared, hold: &Hold) {
    let Some(ended) = &hold.ended else { return };
    let mut held = HELD.get_or_init(Mutex::default).lock();
    if let Some(known) = held.get_mut(&key(lock))
        && std::ptr::eq(known.ended.as_ptr(), &raw const **ended)
    {
        known.claim.mode = hold.claim.mode;
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
    let found = {
        let held = HELD.get_or_init(Mutex::default).lock();
        held.get(&key(lock))
            .and_then(|known| Some((known.claim.clone(), known.fence, known.ended.upgrade()?)))
    };
    let live = found.filter(|(_, _, ended)| !ended.load(Ordering::Acquire));
    let Some((mut claim, fence, ended)) = live else {
        return Ok(None);
    };
    claim.asked = BootTime::now();
    if let Some(refusal) = refuse(lock, claim.mode) {
        // One that was lost unnoticed stands in nobody's way.
        return match lock.store.backend().is_held(&claim)? {
            true => Err(refusal),
            false => Ok(None),
        };
    }
    let lease = match claim.ttl {
        Some(ttl) => match lock.store.backend().extend(&claim, ttl)? {
            Answer::Done(kept) => lock.lease(kept),
            // Lost meanwhile: ask as anybody would.
            Answer::NotOurs => return Ok(None),
        },
        None if lock.store.backend().is_held(&claim)? => None,
        None => return Ok(None),
    };
    lock.set(
        phase,
        Phase::Held(Hold {
            claim: Box::new(claim),
            lease,
            fence,
            since: BootTime::now(),
            unsure: false,
            ended: Some(ended),
            undo: Undo::LetGo,
        }),
    );
    Ok(Some(Acquired {
        attempts: 1,
        fence,
        extended: true,
        ..Acquired::default()
    }))
}
