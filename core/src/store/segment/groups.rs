//! Records belong to processes in groups. A process takes a group that is nobody's, or a dead process',
//! and gives it back when it is done with its records; what was begun for the last owner ends there.

#[cfg(loom)]
pub use super::mortal::AtomicU64;
use super::words::{Life, Place};
use std::ops::Range;
#[cfg(not(loom))]
pub use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};

/// Where the words lie.
pub trait Table {
    /// The word that names a group's process; 0 is nobody.
    fn owner(&self, group: u16) -> &AtomicU64;
    /// A record's life.
    fn life(&self, record: u16) -> &AtomicU64;
    /// A record's place.
    fn place(&self, record: u16) -> &AtomicU64;
    /// Whether a record let an offer lapse.
    fn late(&self, record: u16) -> &AtomicU64;
    /// When word was left for a record that has not been taken; 0 is none.
    fn rung(&self, record: u16) -> &AtomicU64;
    /// The records of a group.
    fn records_of(&self, group: u16) -> Range<u16>;
    /// The group of a record.
    fn group_of(&self, record: u16) -> u16;
}

/// The groups of a table.
#[derive(Debug)]
pub struct Groups<'a, T: ?Sized>(pub &'a T);

impl<T: Table + ?Sized> Groups<'_, T> {
    /// Whose a record is.
    pub fn owner_of(&self, record: u16) -> u64 {
        self.0.owner(self.0.group_of(record)).load(Acquire)
    }

    /// Takes a group whose owner is `wanted`.
    pub fn take(&self, group: u16, me: u64, wanted: &dyn Fn(u64) -> bool) -> bool {
        let word = self.0.owner(group);
        let owner = word.load(Acquire);
        if !wanted(owner) || word.compare_exchange(owner, me, AcqRel, Acquire).is_err() {
            return false;
        }
        self.wipe(group);
        true
    }

    /// Gives back a group of ours, whose records nobody in this process can touch any more.
    pub fn give(&self, group: u16) {
        self.wipe(group);
        self.0.owner(group).store(0, Release);
    }

    /// Ends what a group's earlier process left, in this order: a place without a life is nothing.
    fn wipe(&self, group: u16) {
        for record in self.0.records_of(group) {
            self.0.life(record).swap(Life::ENDED.0, AcqRel);
            self.0.place(record).swap(Place::NONE.0, AcqRel);
            self.0.late(record).store(0, Release);
            self.0.rung(record).store(0, Release);
        }
    }

    /// Leaves word for a record; whose bell is to be rung, if word that was left before does not do. It does
    /// unless whoever left it may have died before it could ring, more than `again` ago.
    pub fn tell(&self, record: u16, now: u64, again: u64) -> Option<u64> {
        let rung = self.0.rung(record);
        while rung.compare_exchange(0, now, AcqRel, Acquire).is_err() {
            // Changes nothing, but comes before or after the owner takes it: before, and the owner will
            // see all that we did.
            let last = rung.fetch_or(0, AcqRel);
            if last != 0 && now.saturating_sub(last) < again {
                return None;
            }
            if last != 0 && rung.compare_exchange(last, now, AcqRel, Acquire).is_ok() {
                break;
            }
        }
        // Not before: the record may have another owner since, who cleared the word in order to hear this.
        Some(self.owner_of(record))
    }

    /// Takes the word that was left for a record of ours.
    pub fn hear(&self, record: u16) -> bool {
        self.0.rung(record).swap(0, AcqRel) != 0
    }
}
