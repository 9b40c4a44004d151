//! The queue of those who wait for a lock file: who is first, who is to be woken. Only the kernel
//! says who holds; nothing here keeps anybody out who does not ask. Like the state machine of shm it
//! works on single words and runs in the model checker as it stands (`queue_model.rs`).
//!
//! * A waiter writes its key, its place (slot and ticket), then raises the slot's flag, *then* tries
//!   the kernel's lock. Whoever lets go asks the flag *after* the kernel. Either the waiter's try came
//!   after the lock was let go, and succeeds; or before, and then its flag and place are seen.
//! * The flag is lowered by compare-and-swap from the word that was read before nobody was found, and
//!   every raising changes the word: so it is never lowered over a newcomer's head.
//! * Who only wants to hear that the lock came free, a watcher, raises the flag in the same way, then looks
//!   whether somebody holds. Whoever lets go wakes all watchers beside the first, and leaves the flag up.
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

/// Who is there.
#[derive(Clone, Copy, Debug, Default)]
struct Crowd {
    first: Option<u16>,
    /// How many wait for the name.
    waiting: usize,
    /// Whether anybody watches in the slot, dead or alive.
    is_watched: bool,
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
/// Of a watcher's place. It has no turn, and builds that know no watchers take it for nobody.
const WATCHING: Role = Role::Member;

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
        self.crowd(self.0.now(), u64::MAX).first.is_some()
    }

    /// Joins the queue at its end.
    pub fn join(&self, me: u16) {
        let ticket = self.0.tail(self.1.slot).fetch_add(1, AcqRel);
        self.0.seen(me).store(self.0.now() & !KNOWS, Release);
        self.enter(me, Role::Waiting, ticket);
    }

    /// Is told from now on whenever the lock may have come free, until it leaves.
    pub fn watch(&self, me: u16) {
        self.enter(me, WATCHING, 0);
    }

    fn enter(&self, me: u16, role: Role, number: u64) {
        let slot = self.1.slot;
        self.0.key(me).store(self.1.key, Release);
        self.0
            .place(me)
            .swap(Place::new(role, slot, number).0, AcqRel);
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
        let crowd = self.crowd(now, mine);
        match crowd.first {
            Some(first) if first != me => {
                let seen = self.0.seen(first).load(Acquire);
                let patience = if seen & KNOWS == 0 { TELL_NS } else { NUDGE_NS };
                if now.saturating_sub(seen) > patience {
                    self.0.wake(first);
                }
                Turn::Behind(crowd.waiting)
            }
            _ => {
                self.0.seen(me).store(now | KNOWS, Release);
                Turn::First
            }
        }
    }

    /// Leaves the queue, granted or not, or watches no more. Unless it now holds and keeps others out, `pass_on` is due.
    pub fn leave(&self, me: u16) {
        self.0.place(me).swap(Place::NONE.0, AcqRel);
    }

    /// The lock may have come free: wakes the first that waits for it and all who watch, or lowers the flag. Whoever
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
            let mut crowd = self.crowd(now, u64::MAX);
            let is_watched = crowd.is_watched && self.tell_watchers();
            if crowd.first.is_none() {
                // They come back of themselves; but whoever is slow rather than stopped may come now.
                crowd = self.crowd(0, u64::MAX);
            }
            if let Some(first) = crowd.first {
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
                None if is_watched => return,
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

    /// Wakes those who watch the name; whether anybody watches in the slot.
    fn tell_watchers(&self) -> bool {
        let mut is_watched = false;
        for record in 0..self.0.records() {
            let place = Place(self.0.place(record).load(Acquire));
            if !self.watches(place) {
                continue;
            }
            if !self.0.is_alive(record) {
                self.bury(record, place);
                continue;
            }
            is_watched = true;
            if self.0.key(record).load(Acquire) == self.1.key && !cfg!(canary = "no_wake") {
                self.0.wake(record);
            }
        }
        is_watched
    }

    /// The key of anybody who waits in the slot.
    fn anybody(&self) -> Option<u64> {
        (0..self.0.records()).find_map(|record| {
            let place = Place(self.0.place(record).load(Acquire));
            if !place.waits_for(self.1.slot) {
                return None;
            }
            if !self.0.is_alive(record) {
                self.bury(record, place);
                return None;
            }
            Some(self.0.key(record).load(Acquire))
        })
    }

    /// How many wait for the name.
    pub fn waiters(&self) -> usize {
        let mine = |record: &u16| {
            let place = Place(self.0.place(*record).load(Acquire));
            self.waits(*record, place) && self.0.is_alive(*record)
        };
        (0..self.0.records()).filter(mine).count()
    }

    fn watches(&self, place: Place) -> bool {
        place.role() == WATCHING && place.slot() == self.1.slot
    }

    /// Whether a record whose place was read waits for the name.
    fn waits(&self, record: u16, place: Place) -> bool {
        place.waits_for(self.1.slot)
            && self.0.key(record).load(Acquire) == self.1.key
            && self.0.place(record).load(Acquire) == place.0
    }

    /// The living waiter with the lowest ticket up to `up_to`, silent ones aside, and how many wait in
    /// all. With a `now` of 0 nobody is silent.
    fn crowd(&self, now: u64, up_to: u64) -> Crowd {
        loop {
            let mut found: Option<(u64, u16)> = None;
            let mut crowd = Crowd::default();
            for record in 0..self.0.records() {
                let place = Place(self.0.place(record).load(Acquire));
                if !self.waits(record, place) {
                    crowd.is_watched |= self.watches(place);
                    continue;
                }
                crowd.waiting += 1;
                let ticket = place.number();
                let silent = now.saturating_sub(self.0.seen(record).load(Acquire)) > SILENT_NS;
                if ticket <= up_to && !silent && found.is_none_or(|(best, _)| ticket < best) {
                    found = Some((ticket, record));
                }
            }
            match found {
                Some((ticket, record)) if !self.0.is_alive(record) => {
                    self.bury(record, Place::new(Role::Waiting, self.1.slot, ticket));
                }
                found => {
                    crowd.first = found.map(|(_, record)| record);
                    return crowd;
                }
            }
        }
    }

    /// Takes a dead one out. A waiter's ticket was drawn once, so a later one is not meant; a watcher that has come
    /// after it looks again in time.
    fn bury(&self, record: u16, place: Place) {
        let _ = self
            .0
            .place(record)
            .compare_exchange(place.0, Place::NONE.0, AcqRel, Acquire);
    }
}
