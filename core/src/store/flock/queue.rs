//! The queue of those who wait for a lock file: who is first, who is to be woken. Only the kernel
//! says who holds; nothing here keeps anybody out who does not ask. Like the state machine of shm it
//! works on single words and runs in the model checker as it stands (`queue_model.rs`).
//!
//! * A waiter writes its key, its place (slot and ticket), then raises the slot's flag, *then* tries
//!   the kernel's lock. Whoever lets go asks the flag *after* the kernel. Either the waiter's try came
//!   after the lock was let go, and succeeds; or before, and then its flag and place are seen.
//! * The flag is lowered by compare-and-swap from the word that was read before nobody was found, and
//!   every raising changes the word: so it is never lowered over a newcomer's head.
//! * Everybody looks now and then. The first looks for holders that nobody told of; the others find
//!   a first that died or sleeps over its turn, and pass it by.

#[cfg(loom)]
pub use crate::store::segment::mortal::AtomicU64;
use crate::store::segment::words::{Place, Role};
#[cfg(not(loom))]
pub use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

/// Where the words lie, and what is known about processes and time.
pub trait Table {
    /// Whether somebody may be waiting in a slot: bit 0; the rest counts the raisings.
    fn flag(&self, slot: u16) -> &AtomicU64;
    /// A slot's next ticket.
    fn tail(&self, slot: u16) -> &AtomicU64;
    /// A record's place.
    fn place(&self, record: u16) -> &AtomicU64;
    /// Which name a record waits for, among those of its slot.
    fn key(&self, record: u16) -> &AtomicU64;
    /// When a record was last heard of; bit 0: it is the first, and knows it.
    fn seen(&self, record: u16) -> &AtomicU64;
    /// All records that were ever used are below.
    fn records(&self) -> u16;
    /// Whether a record's process lives; errs on the side of life.
    fn is_alive(&self, record: u16) -> bool;
    /// Boot time in nanoseconds.
    fn now(&self) -> u64;
    /// Tells a waiter to look.
    fn wake(&self, record: u16);
}

/// Which queue: a name's. Names that share even the key share a queue, which costs them speed only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Line {
    /// Where it lies.
    pub slot: u16,
    /// Which of those that lie there.
    pub key: u64,
}

/// Where a waiter stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Nobody comes before it.
    First,
    /// Others do; how many wait in all.
    Behind(usize),
}

/// A waiter that was not heard of for so long is passed by until it is: stopped, or with its host.
pub const SILENT_NS: u64 = 1_000_000_000;
/// A first that has not looked for so long is told to, by those behind it.
const NUDGE_NS: u64 = 100_000_000;
/// The same of one that does not know that it is first: whoever came before it has the lock, and may
/// have died with it.
const TELL_NS: u64 = 2_000_000;
/// Of the time when a record was last heard of: it knew then that it was first.
const KNOWS: u64 = 1;
const MOMENT_NS: u64 = 1_000_000;
const RAISED: u64 = 1;

/// One name's queue.
#[derive(Debug)]
pub struct Queue<'a, T: ?Sized>(pub &'a T, pub Line);

impl<T: Table + ?Sized> Queue<'_, T> {
    #[inline]
    fn raised(&self) -> Option<u64> {
        let flag = self.0.flag(self.1.slot).load(Acquire);
        (flag & RAISED != 0).then_some(flag)
    }

    /// Whether a newcomer has to wait behind somebody.
    #[inline]
    pub fn is_waited_for(&self) -> bool {
        self.raised().is_some() && self.has_first()
    }

    #[cold]
    fn has_first(&self) -> bool {
        self.first(self.0.now(), u64::MAX).0.is_some()
    }

    /// Joins the queue at its end.
    pub fn join(&self, me: u16) {
        let slot = self.1.slot;
        let ticket = self.0.tail(slot).fetch_add(1, AcqRel);
        self.0.key(me).store(self.1.key, Release);
        self.0.seen(me).store(self.0.now() & !KNOWS, Release);
        self.0
            .place(me)
            .swap(Place::new(Role::Waiting, slot, ticket).0, AcqRel);
        let flag = self.0.flag(slot);
        let mut known = flag.load(Acquire);
        loop {
            match flag.compare_exchange(known, known.wrapping_add(2) | RAISED, AcqRel, Acquire) {
                Ok(_) => return,
                Err(now) => known = now,
            }
        }
    }

    /// One look of a waiter: where it stands. Passes the dead by, and nudges a first that has not
    /// looked for long.
    pub fn look(&self, me: u16) -> Turn {
        let now = self.0.now() & !KNOWS;
        self.0.seen(me).store(now, Release);
        let mine = Place(self.0.place(me).load(Acquire)).number();
        match self.first(now, mine) {
            (Some(first), waiting) if first != me => {
                let seen = self.0.seen(first).load(Acquire);
                let patience = if seen & KNOWS == 0 { TELL_NS } else { NUDGE_NS };
                if now.saturating_sub(seen) > patience {
                    self.0.wake(first);
                }
                Turn::Behind(waiting)
            }
            _ => {
                self.0.seen(me).store(now | KNOWS, Release);
                Turn::First
            }
        }
    }

    /// Leaves the queue, granted or not. Unless it now holds and keeps others out, `pass_on` is due.
    pub fn leave(&self, me: u16) {
        self.0.place(me).swap(Place::NONE.0, AcqRel);
    }

    /// The lock may have come free: wakes the first that waits for it, or lowers the flag. Whoever
    /// is not `fair` lets a first alone that has looked a moment ago and will again in a moment: most
    /// times a newcomer is faster, and waking in vain costs more than the lock.
    #[inline]
    pub fn pass_on(&self, fair: bool) {
        if let Some(flag) = self.raised() {
            self.pass_on_from(flag, fair);
        }
    }

    #[cold]
    fn pass_on_from(&self, flag: u64, fair: bool) {
        let mut raised = Some(flag);
        while let Some(flag) = raised.take().or_else(|| self.raised()) {
            let now = self.0.now();
            let first = match self.first(now, u64::MAX).0 {
                // They come back of themselves; but whoever is slow rather than stopped may come now.
                None => self.first(0, u64::MAX).0,
                found => found,
            };
            if let Some(first) = first {
                let looked = self.0.seen(first).load(Acquire);
                let leave = !fair && now.saturating_sub(looked) < MOMENT_NS;
                if !leave && !cfg!(canary = "no_wake") {
                    self.0.wake(first);
                }
                return;
            }
            match self.anybody() {
                // It came while we looked: it may have thought itself behind somebody who is gone.
                Some(key) if key == self.1.key => continue,
                Some(_) => return,
                None => {}
            }
            let lowered = flag & !RAISED;
            let word = self.0.flag(self.1.slot);
            if word
                .compare_exchange(flag, lowered, AcqRel, Acquire)
                .is_ok()
            {
                return;
            }
        }
    }

    /// The key of anybody who waits in the slot.
    fn anybody(&self) -> Option<u64> {
        (0..self.0.records()).find_map(|record| {
            let place = Place(self.0.place(record).load(Acquire));
            if !place.waits_for(self.1.slot) {
                return None;
            }
            if !self.0.is_alive(record) {
                self.bury(record, place.number());
                return None;
            }
            Some(self.0.key(record).load(Acquire))
        })
    }

    /// How many wait for the name.
    pub fn waiters(&self) -> usize {
        let mine = |record: &u16| self.waits(*record).is_some() && self.0.is_alive(*record);
        (0..self.0.records()).filter(mine).count()
    }

    /// The place of a record that waits for the name.
    fn waits(&self, record: u16) -> Option<Place> {
        let place = Place(self.0.place(record).load(Acquire));
        let ours = place.waits_for(self.1.slot)
            && self.0.key(record).load(Acquire) == self.1.key
            && self.0.place(record).load(Acquire) == place.0;
        ours.then_some(place)
    }

    /// The living waiter with the lowest ticket up to `up_to`, silent ones aside, and how many wait in
    /// all. With a `now` of 0 nobody is silent.
    fn first(&self, now: u64, up_to: u64) -> (Option<u16>, usize) {
        loop {
            let mut found: Option<(u64, u16)> = None;
            let mut waiting = 0;
            for record in 0..self.0.records() {
                let Some(place) = self.waits(record) else {
                    continue;
                };
                waiting += 1;
                let ticket = place.number();
                let silent = now.saturating_sub(self.0.seen(record).load(Acquire)) > SILENT_NS;
                if ticket <= up_to && !silent && found.is_none_or(|(best, _)| ticket < best) {
                    found = Some((ticket, record));
                }
            }
            match found {
                Some((ticket, record)) if !self.0.is_alive(record) => self.bury(record, ticket),
                found => return (found.map(|(_, record)| record), waiting),
            }
        }
    }

    /// Takes a dead waiter out. Its ticket was drawn once, so a later waiter is not meant.
    fn bury(&self, record: u16, ticket: u64) {
        let place = Place::new(Role::Waiting, self.1.slot, ticket);
        let _ = self
            .0
            .place(record)
            .compare_exchange(place.0, Place::NONE.0, AcqRel, Acquire);
    }
}
