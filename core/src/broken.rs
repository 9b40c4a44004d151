//! Who broke a lock: a note for its former holder.
//!
//! Stores that break a lock tell its holder that it is gone, not by whose hand. Whoever breaks one on
//! purpose leaves a note beside it: a lock of its own, `broken:` and the name, whose holder is the
//! breaker and which nobody takes. It uses what each store can do anyway (labels, leases, inspect), so
//! that every language and version reads it, and it goes away with its lease. Stores without leases keep
//! the note in their own way. See decision 0090.

use crate::lease::{BootTime, Wait};
use crate::name::Name;
use crate::options::{LockOptions, Reentry};
use crate::registry::Store;
use crate::store::Holder;
use std::time::Duration;

/// Notes last as long as the lease that was broken, within these bounds; the longest where their age is told
/// from what is left of them.
const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(600);
/// What servers count in, so that they round the beginning and the end of a note.
const GRAIN: Duration = Duration::from_millis(1);
/// Servers that do not tell ages count what is left in whole seconds, and may be one behind.
const WHOLE_SECONDS: Duration = Duration::from_secs(2);

/// Whether it ends them, and shows them to whoever looks.
fn keeps_notes(store: &Store) -> bool {
    store.capabilities().ttl && store.inspects()
}

fn note_name(name: &Name) -> Vec<u8> {
    [b"broken:", name.as_bytes()].concat()
}

/// Tells the holders of `name`, as they were before, that it was broken by one with this label. In vain
/// where the store keeps no labels.
pub(crate) fn note(store: &Store, name: &Name, victims: &[Holder], label: &str) {
    let keeps_labels = victims.iter().any(|victim| victim.label.is_some());
    if !keeps_labels {
        return;
    }
    if !keeps_notes(store) {
        let fences = victims.iter().map(|victim| victim.fence);
        let last = fences.map(|fence| fence.unwrap_or(u64::MAX)).max();
        // As below, in vain rather than an error.
        let _ = store
            .backend()
            .note_breaker(name, label, last.unwrap_or(u64::MAX));
        return;
    }
    let left = victims.iter().map(|victim| match victim.held {
        Some(_) => victim.remaining.unwrap_or(LONGEST),
        None => LONGEST,
    });
    let ttl = left.max().unwrap_or(LONGEST).clamp(SHORTEST, LONGEST);
    let name = note_name(name);
    let options = LockOptions {
        ttl: Some(ttl),
        renew: Some(false),
        auto_release: false,
        reentry: Reentry::Independent,
        label: Some(label.into()),
        ..LockOptions::default()
    };
    // An older note gives way. That a note cannot be left must not keep anybody from the lock.
    let left = store
        .break_lock(&name)
        .and_then(|_| store.lock_with(&name, options))
        .and_then(|lock| lock.acquire(Wait::No, None));
    drop(left);
}

/// A store that does not tell how long something is held tells how much is left of it.
fn age_of(note: &Holder) -> Duration {
    note.held.unwrap_or_else(|| {
        LONGEST.saturating_sub(note.remaining.unwrap_or(LONGEST) + WHOLE_SECONDS)
    })
}

/// Whether a note that is so old is about a hold before the one that is so old.
fn is_of_before(note: Duration, hold: Duration) -> bool {
    let is_rounded = note.as_nanos().is_multiple_of(GRAIN.as_nanos());
    note > if is_rounded { hold + GRAIN } else { hold }
}

/// The note about a hold that began at `since`, if there is one.
fn note_about(store: &Store, name: &Name, since: BootTime, fence: Option<u64>) -> Option<Holder> {
    if !keeps_notes(store) {
        return store.backend().breaker(name, fence).ok()?;
    }
    let found = store.inspect(note_name(name)).ok()?;
    let note = found.holders.into_iter().next()?;
    let age = BootTime::now().since(since);
    (!is_of_before(age_of(&note), age)).then_some(note)
}

/// “broken by label, pid, host”, if a note says so of a hold that began at `since`.
pub(crate) fn by_whom(
    store: &Store,
    name: &Name,
    since: BootTime,
    fence: Option<u64>,
) -> Option<String> {
    let note = note_about(store, name, since, fence)?;
    let parts = [
        note.label,
        note.pid.map(|pid| format!("pid {pid}")),
        note.host.map(|host| format!("host {host}")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("broken by {}", parts.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_of_a_note_is_told_from_what_is_left_of_it_too() {
        let note = |held, left| Holder {
            held,
            remaining: Some(Duration::from_secs(left)),
            ..Holder::default()
        };
        let age = |held, left| age_of(&note(held, left)).as_secs();
        assert_eq!(age(Some(Duration::from_secs(7)), 53), 7);
        assert_eq!(
            [602, 600, 599, 590].map(|left| age(None, left)),
            [0, 0, 0, 8]
        );
        assert_eq!(age_of(&Holder::default()), Duration::ZERO);
    }

    #[test]
    fn a_note_counts_whose_age_is_only_rounded_up() {
        let us = Duration::from_micros;
        assert!(!is_of_before(us(1000), us(600)));
        assert!(!is_of_before(us(600), us(1000)));
        assert!(is_of_before(us(3000), us(1000)));
        // Counted to the nanosecond.
        assert!(is_of_before(us(1001), us(1000)));
    }
}
