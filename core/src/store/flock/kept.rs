//! What a handle's seat keeps from verb to verb: what follows from its name, and from its second hold
//! on a berth.

use super::berth::{Inside, Lodger};
use super::companion::{self, Found};
use super::dialect::Dialect;
use super::names;
use super::process::Process;
use super::queue::Line;
use crate::store::Claim;

/// What follows from a name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    /// Which queue the name has; its key also finds the name's idle descriptors.
    pub(super) line: Line,
    /// Whether the file's name says the whole name.
    pub(super) is_plain: bool,
}

/// What is in a seat.
#[derive(Debug)]
pub(super) struct Seated {
    pub(super) kept: Kept,
    /// The queue's file.
    pub(super) found: Found,
    lodger: Option<Lodger>,
    /// Whether the handle has held before: one that holds once needs no berth.
    has_held: bool,
}

impl Kept {
    pub(super) fn of(dialect: Dialect, claim: &Claim) -> Self {
        Kept::with(dialect, claim, |_, _| ()).0
    }

    /// What follows from the claim's name, and what `work` makes of it and of the queue's file.
    #[inline]
    pub(super) fn with<T>(
        dialect: Dialect,
        claim: &Claim,
        work: impl Fn(Kept, &mut Found) -> T,
    ) -> (Kept, T) {
        let known = |seated: &mut Seated| (seated.kept, work(seated.kept, &mut seated.found));
        claim.seat.with(known).unwrap_or_else(|| {
            let kept = Kept {
                line: companion::line(dialect, &claim.name),
                is_plain: !dialect.is_native() || names::is_plain(claim.name.as_bytes()),
            };
            let mut found = Found::default();
            let done = work(kept, &mut found);
            claim.seat.put(Seated {
                kept,
                found,
                lodger: None,
                has_held: false,
            });
            (kept, done)
        })
    }
}

impl Seated {
    /// Works on the handle's berth, if it has one.
    #[inline]
    pub(super) fn in_berth<T>(claim: &Claim, work: impl FnOnce(&mut Inside) -> T) -> Option<T> {
        let in_berth = |seated: &mut Seated| seated.berth(work);
        claim.seat.with(in_berth).flatten()
    }

    #[inline]
    pub(super) fn berth<T>(&self, work: impl FnOnce(&mut Inside) -> T) -> Option<T> {
        let lodger = self.lodger.as_ref()?;
        Some(work(&mut lodger.berth.lock()))
    }

    /// Before a hold: gives the handle a berth if it is due and there is one to be had.
    pub(super) fn look_for_berth(process: &Process, claim: &Claim) {
        claim.seat.with(|seated: &mut Seated| {
            if seated.lodger.is_none() && seated.has_held {
                let line = seated.kept.line;
                seated.lodger = process.books.lock().lodge().map(|berth| Lodger {
                    berth,
                    books: process.books.clone(),
                    name: claim.name.clone(),
                    line,
                });
            }
            seated.has_held = true;
        });
    }
}
