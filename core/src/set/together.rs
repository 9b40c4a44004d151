//! Several locks of one store at once: in one exchange, where the store can.

use crate::codes::Code;
use crate::lease::BootTime;
use crate::shared::Shared;
use crate::state::{Acquired, Released};
use crate::store::Attempt;
use crate::{Error, Result};
use std::sync::Arc;

/// How many locks, from the first on, one exchange can take or give back.
pub(super) fn company(locks: &[&Shared]) -> usize {
    let Some(first) = locks.first() else { return 0 };
    let backend = first.store.backend();
    let joins =
        |lock: &&&Shared| Arc::ptr_eq(lock.store.backend(), backend) && !lock.is_reentrant();
    if backend.takes_together() {
        locks.iter().take_while(joins).count().max(1)
    } else {
        1
    }
}

/// Takes each that is free; all are of one store that takes them together.
pub(super) fn take(locks: &[&Shared]) -> Vec<Result<Option<Acquired>>> {
    let started = BootTime::now();
    let mut phases: Vec<_> = locks.iter().map(|lock| lock.lock_phase()).collect();
    let mut claims = Vec::with_capacity(locks.len());
    for (lock, phase) in locks.iter().zip(&mut phases) {
        match lock.take_claim(phase, started) {
            Ok(claim) => claims.push(claim),
            Err(error) => return vec![Err(error)],
        }
    }
    let asked: Vec<_> = claims.iter().map(|claim| &**claim).collect();
    let answers = locks[0].store.backend().attempt_many(&asked);
    let each = locks
        .iter()
        .zip(&mut phases)
        .zip(claims.into_iter().zip(answers));
    each.map(|((lock, phase), (claim, answer))| match answer {
        Ok(Attempt::Granted(grant)) if !lock.is_too_late(&claim, &grant) => {
            Ok(Some(lock.hold(phase, claim, &grant, started, 1, false)))
        }
        other => lock.not_now(phase, claim, other),
    })
    .collect()
}

/// Gives each back.
pub(super) fn give_back(locks: &[&Shared]) -> Vec<Result<Released>> {
    let mut phases: Vec<_> = locks.iter().map(|lock| lock.lock_phase()).collect();
    let mut endings = Vec::with_capacity(locks.len());
    let mut claims = Vec::with_capacity(locks.len());
    for (lock, phase) in locks.iter().zip(&mut phases) {
        match lock.post_release(phase) {
            Ok(Some((ending, claim))) => {
                claims.push(claim);
                endings.push(Ok(ending));
            }
            Ok(None) => endings.push(Err(Error::outcome(Code::NotHeld))),
            Err(error) => endings.push(Err(error)),
        }
    }
    drop(phases);
    let asked: Vec<_> = claims.iter().collect();
    let answers = match locks.first() {
        Some(lock) if !asked.is_empty() => lock.store.backend().release_many(&asked),
        _ => Vec::new(),
    };
    let mut answers = answers.into_iter();
    let each = locks.iter().zip(endings);
    each.map(|(lock, ending)| {
        let unknown = || Err(Error::new(Code::Internal, "no answer to a release"));
        let ending = ending?;
        lock.posted_release(ending, answers.next().unwrap_or_else(unknown))
    })
    .collect()
}
