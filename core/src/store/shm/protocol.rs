//! Who may have a slot: the state machine over the words of the segment. Nothing here waits, asks
//! the kernel or knows where the words lie, so the same source runs in the model checker.
//!
//! A process may die between any two steps. So each change is one compare-and-swap on one word, and
//! what a dead process leaves behind is *void* by a rule that everybody can check:
//!
//! * The holders of a slot are the records whose place says `Member` of it, and the one that the
//!   grant word names, if its place says `Joining` at the grant word's epoch; but only those whose
//!   life has begun. Nobody takes what such a record holds before it has *ended that life*, and it
//!   may do so only if the life has run out or the record's process is dead.
//! * Every join changes the grant word's epoch. Whoever has read the word, then looked at all
//!   holders, and changes the word by compare-and-swap, knows that nobody joined meanwhile; holders
//!   can only have gone.
//! * Before the word names another joiner, the last one's `Joining` is made `Member`, by anybody.
//! * A record holds only by its own compare-and-swap. A hand-over is an *offer*: it keeps others out
//!   while the waiter lives and is not late, and makes nobody the owner.

use super::words::{Grant, Kind, Life, ModeWord, NOBODY, Place, Role, SOMEBODY, WATCHER};
#[cfg(loom)]
pub use crate::store::segment::mortal::AtomicU64;
#[cfg(not(loom))]
pub use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

/// Where the words lie, and what is known about processes and time.
pub trait Table {
    /// A slot's grant word.
    fn grant(&self, slot: u16) -> &AtomicU64;
    /// A slot's next ticket.
    fn tail(&self, slot: u16) -> &AtomicU64;
    /// The epoch of a slot's last offer of something whose holder died or ran out of time.
    fn recovered(&self, slot: u16) -> &AtomicU64;
    /// The head of a slot's queue as it was seen last: ticket and record; a hint.
    fn seen_head(&self, slot: u16) -> &AtomicU64;
    /// A record's place.
    fn place(&self, record: u16) -> &AtomicU64;
    /// A record's life.
    fn life(&self, record: u16) -> &AtomicU64;
    /// A record's mode.
    fn mode(&self, record: u16) -> &AtomicU64;
    /// When a slot was last offered.
    fn offered(&self, slot: u16) -> &AtomicU64;
    /// Not 0 if the record let an offer lapse and has not been heard of since.
    fn late(&self, record: u16) -> &AtomicU64;
    /// All records that were ever used are below.
    fn records(&self) -> u16;
    /// Whether a record's process lives; errs on the side of life.
    fn is_alive(&self, record: u16) -> bool;
    /// Boot time in nanoseconds.
    fn now(&self) -> u64;
    /// How long newcomers may pass those who wait, in nanoseconds.
    fn barge(&self) -> u64 {
        BARGE_NS
    }
    /// Tells a waiter to look again.
    fn wake(&self, record: u16);
    /// Whether a waiter has been told so and has not begun to: it will see what was done before this.
    fn is_woken(&self, record: u16) -> bool;
    /// Whether the slot has the name that is meant. Asked after its grant word was read.
    fn is_named(&self, slot: u16) -> bool;
}

/// What a record wants.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    /// In which mode.
    pub mode: ModeWord,
    /// Its life, should it be granted; never used before.
    pub life: Life,
    /// Not before those who wait.
    pub fair: bool,
    /// By how much the epoch grows with the grant: the fencing tokens that it brings.
    pub step: u64,
}

/// The answer to a record that wants a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It holds, since this epoch. `recovered`: the last holder did not release.
    Granted {
        /// The epoch of the grant.
        epoch: u64,
        /// Whether the last holder did not release.
        recovered: bool,
    },
    /// It does not; when a holder's life runs out, if that is known.
    Busy(Option<u64>),
    /// Others count another number of permits.
    Mismatch(u32),
    /// The slot has another name now.
    Moved,
}

/// How long an offer stands while its waiter lives but does not come, in nanoseconds.
pub const CLAIM_NS: u64 = 1_000_000_000;

/// How long newcomers may pass those who wait, in nanoseconds: a lock that is held for a moment only
/// would otherwise change hands at the speed of wake-ups.
const BARGE_NS: u64 = 1_000_000;

/// What tickets count, in nanoseconds.
pub const TICK_NS: u64 = 1024;

pub(super) enum Look {
    Free { recovered: bool },
    Taken(Option<u64>),
    Mismatch(u32),
}

enum Verdict {
    Holds(Option<u64>),
    Void { recovered: bool },
}

/// The state machine over a table.
#[derive(Debug)]
pub struct Protocol<'a, T: ?Sized>(pub &'a T);

impl<T: Table + ?Sized> Protocol<'_, T> {
    pub(super) fn load(&self, slot: u16) -> Grant {
        Grant(self.0.grant(slot).load(Acquire))
    }

    pub(super) fn place(&self, record: u16) -> Place {
        Place(self.0.place(record).load(Acquire))
    }

    pub(super) fn swap(&self, slot: u16, from: Grant, to: Grant) -> bool {
        self.0
            .grant(slot)
            .compare_exchange(from.0, to.0, AcqRel, Acquire)
            .is_ok()
    }

    // ---- who holds

    /// Judges a life, and ends it if it has run out or its process is dead.
    fn judge(&self, record: u16, probe: bool) -> Verdict {
        loop {
            let life = Life(self.0.life(record).load(Acquire));
            if !life.is_begun() {
                let recovered = life != Life::RELEASED;
                return Verdict::Void { recovered };
            }
            let over = life.is_over(self.0.now()) || (probe && !self.0.is_alive(record));
            if !over {
                return Verdict::Holds(life.until());
            }
            if cfg!(canary = "no_end") || self.end(record, life) {
                return Verdict::Void { recovered: true };
            }
        }
    }

    pub(super) fn end(&self, record: u16, life: Life) -> bool {
        self.0
            .life(record)
            .compare_exchange(life.0, Life::ENDED.0, AcqRel, Acquire)
            .is_ok()
    }

    /// Whether the record is the one holder that an exclusive grant names.
    pub(super) fn is_sole(&self, slot: u16, grant: Grant) -> bool {
        let place = self.place(grant.record());
        place.slot() == slot
            && match place.role() {
                Role::Joining => place.number() == grant.epoch(),
                Role::Member => true,
                _ => false,
            }
    }

    pub(super) fn is_member(slot: u16, grant: Grant, record: u16, place: Place) -> bool {
        place.slot() == slot
            && match place.role() {
                Role::Member => true,
                Role::Joining => {
                    grant.kind() == Kind::Open
                        && grant.record() == record
                        && place.number() == grant.epoch()
                }
                _ => false,
            }
    }

    /// Makes the last joiner a member, before the grant word forgets it.
    pub(super) fn help(&self, slot: u16, grant: Grant) {
        let record = grant.record();
        if grant.kind() == Kind::Open && record < SOMEBODY && !cfg!(canary = "no_help") {
            let joining = Place::new(Role::Joining, slot, grant.epoch());
            let member = Place::new(Role::Member, slot, grant.epoch());
            let _ = self
                .0
                .place(record)
                .compare_exchange(joining.0, member.0, AcqRel, Acquire);
        }
    }

    /// Looks at the holders as of `grant`: whether `mode` goes together with all but `me`.
    pub(super) fn look(&self, slot: u16, grant: Grant, me: u16, mode: ModeWord) -> Look {
        match grant.kind() {
            Kind::Sealed => Look::Taken(None),
            Kind::Exclusive if cfg!(canary = "take_anyway") => Look::Free { recovered: false },
            Kind::Exclusive if !self.is_sole(slot, grant) => Look::Free { recovered: true },
            Kind::Exclusive => match self.judge(grant.record(), true) {
                Verdict::Holds(until) => Look::Taken(until),
                Verdict::Void { recovered } => Look::Free { recovered },
            },
            Kind::Open if grant.record() == NOBODY => Look::Free { recovered: false },
            Kind::Open => {
                self.help(slot, grant);
                self.look_at_members(slot, grant, me, mode)
            }
            Kind::Offer => match self.look_at_members(slot, grant, me, mode) {
                // Whoever it was offered to may have died or gone without having heard of it.
                Look::Free { recovered } => Look::Free {
                    recovered: recovered || self.is_recovered(slot, grant),
                },
                other => other,
            },
        }
    }

    /// Whether what is offered was not released by its last holder.
    fn is_recovered(&self, slot: u16, grant: Grant) -> bool {
        self.0.recovered(slot).load(Acquire) == grant.epoch() && !cfg!(canary = "forget_death")
    }

    fn look_at_members(&self, slot: u16, grant: Grant, me: u16, mode: ModeWord) -> Look {
        let mut recovered = false;
        // The kernel is asked about processes only if that could change the answer.
        for probe in [false, true] {
            let (mut taken, mut blocked) = (0u64, None);
            for record in (0..self.0.records()).filter(|record| *record != me) {
                let place = self.place(record);
                if !Self::is_member(slot, grant, record, place) {
                    continue;
                }
                let theirs = ModeWord(self.0.mode(record).load(Acquire));
                if self.place(record) != place {
                    continue; // it left, and the mode may be of its next hold
                }
                let until = match self.judge(record, probe) {
                    Verdict::Holds(until) => until,
                    Verdict::Void { recovered: dead } => {
                        recovered |= dead;
                        continue;
                    }
                };
                match (mode.as_permits(), theirs.as_permits()) {
                    (Some((_, of)), Some((_, others))) if of != others => {
                        if probe {
                            return Look::Mismatch(others);
                        }
                        blocked = Some(until);
                    }
                    (Some((take, of)), Some((others, _))) => {
                        taken += u64::from(others);
                        let spare = u64::from(cfg!(canary = "spare_permit"));
                        if taken + u64::from(take) > u64::from(of) + spare {
                            blocked = Some(until);
                        }
                    }
                    (None, None) if mode == ModeWord::SHARED && theirs == ModeWord::SHARED => {}
                    _ => blocked = Some(until),
                }
                if blocked.is_some() {
                    break;
                }
            }
            match blocked {
                None => return Look::Free { recovered },
                Some(until) if probe => return Look::Taken(until),
                Some(_) => {}
            }
        }
        Look::Taken(None)
    }

    /// Joins as of `grant`, which the caller has looked at.
    pub(super) fn join(&self, slot: u16, grant: Grant, me: u16, want: &Want) -> bool {
        let exclusive = want.mode == ModeWord::EXCLUSIVE;
        let kind = if exclusive {
            Kind::Exclusive
        } else {
            Kind::Open
        };
        let epoch = grant.epoch() + want.step;
        let to = Grant::new(me, kind, grant.has_waiters(), epoch);
        let before = self.place(me);
        self.0.mode(me).store(want.mode.0, Release);
        self.0.life(me).store(want.life.0, Release);
        let joining = Place::new(Role::Joining, slot, epoch);
        // Plain stores: whoever sees the grant word name us sees them too.
        self.0.place(me).store(joining.0, Release);
        if self.swap(slot, grant, to) {
            if !exclusive {
                let member = Place::new(Role::Member, slot, epoch);
                self.0.place(me).store(member.0, Release);
            }
            return true;
        }
        self.0.place(me).swap(before.0, AcqRel);
        self.0.life(me).store(Life::RELEASED.0, Release);
        false
    }

    /// The records that hold the slot now.
    pub fn holders(&self, slot: u16) -> Vec<u16> {
        let grant = self.load(slot);
        let lives = |record: &u16| {
            let life = Life(self.0.life(*record).load(Acquire));
            life.is_begun() && !life.is_over(self.0.now()) && self.0.is_alive(*record)
        };
        match grant.kind() {
            Kind::Sealed => Vec::new(),
            Kind::Open if grant.record() == NOBODY => Vec::new(),
            Kind::Exclusive => Some(grant.record())
                .filter(|_| self.is_sole(slot, grant))
                .into_iter()
                .filter(lives)
                .collect(),
            _ => (0..self.0.records())
                .filter(|record| Self::is_member(slot, grant, *record, self.place(*record)))
                .filter(lives)
                .collect(),
        }
    }

    /// How many records wait for the slot.
    pub fn waiters(&self, slot: u16) -> u32 {
        let count = (0..self.0.records())
            .filter(|record| {
                let place = self.place(*record);
                place.waits_for(slot) && place.number() != WATCHER && self.0.is_alive(*record)
            })
            .count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Whether nobody holds the slot and no offer stands.
    pub fn is_free(&self, slot: u16) -> bool {
        let grant = self.load(slot);
        let offered = grant.kind() == Kind::Offer && self.offer_stands(slot, grant);
        !offered
            && matches!(
                self.look(slot, grant, NOBODY, ModeWord::EXCLUSIVE),
                Look::Free { .. }
            )
    }

    /// Whether a record that holds anything holds the slot.
    fn is_here(&self, slot: u16, record: u16) -> bool {
        let place = self.place(record);
        place.slot() == slot && matches!(place.role(), Role::Joining | Role::Member)
    }

    /// Ends every hold of the slot; false if there was none.
    pub fn break_holds(&self, slot: u16) -> bool {
        let mut broke = false;
        for record in self.holders(slot) {
            loop {
                let life = Life(self.0.life(record).load(Acquire));
                // Looked at after its life: given back meanwhile, it may hold another name by now.
                let is_meant = self.is_here(slot, record) && self.0.is_named(slot);
                if !life.is_begun() || !(is_meant || cfg!(canary = "break_any")) {
                    break;
                }
                if self.end(record, life) {
                    broke = true;
                    break;
                }
            }
        }
        self.admit(slot, NOBODY);
        broke
    }

    /// Keeps everybody out of a slot that nobody uses, so as to give it another name. The caller
    /// has the kernel's lock on the table of names.
    pub fn seal(&self, slot: u16) -> bool {
        self.admit(slot, NOBODY);
        let grant = self.load(slot);
        if grant.kind() == Kind::Sealed {
            return true; // by somebody who died at it
        }
        let free = matches!(
            self.look(slot, grant, NOBODY, ModeWord::EXCLUSIVE),
            Look::Free { .. }
        );
        free && !grant.has_waiters()
            && grant.kind() != Kind::Offer
            && self.swap(slot, grant, grant.next(NOBODY, Kind::Sealed))
    }

    /// Opens a sealed slot.
    pub fn unseal(&self, slot: u16) {
        loop {
            let grant = self.load(slot);
            if grant.kind() != Kind::Sealed
                || self.swap(slot, grant, grant.next(NOBODY, Kind::Open))
            {
                return;
            }
        }
    }
}
