//! The words of the segment: how a grant, a place and a life are packed into 64 bits each.

/// Most records that a grant word can name; the last two numbers are taken.
pub const MOST_RECORDS: u16 = (1 << 15) - 2;
/// No record: the slot is free for certain.
pub const NOBODY: u16 = (1 << 15) - 1;
/// No record in particular: whoever wants to know the members reads all places.
pub const SOMEBODY: u16 = (1 << 15) - 2;

const EPOCH_BITS: u32 = 46;
const EPOCH: u64 = (1 << EPOCH_BITS) - 1;
const WAITERS: u64 = 1 << EPOCH_BITS;
const KIND_SHIFT: u32 = EPOCH_BITS + 1;
const RECORD_SHIFT: u32 = KIND_SHIFT + 2;

/// The waiters' flag of a grant word, to set with `fetch_or`.
pub const WAITERS_FLAG: u64 = WAITERS;

/// What a grant word says of its record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Members, if any, are those whose places say so; the record joined last.
    Open,
    /// The record is the one holder.
    Exclusive,
    /// The record, a waiter, may join next; members as with `Open`.
    Offer,
    /// The slot is being given another name.
    Sealed,
}

/// A slot's grant word: record 15 | kind 2 | waiters 1 | epoch 46. The epoch grows with every
/// change but the setting of the waiters' flag, and is never reset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant(pub u64);

impl Grant {
    /// A word of its parts.
    pub fn new(record: u16, kind: Kind, waiters: bool, epoch: u64) -> Self {
        let kind = match kind {
            Kind::Open => 0,
            Kind::Exclusive => 1,
            Kind::Offer => 2,
            Kind::Sealed => 3u64,
        };
        Grant(
            u64::from(record) << RECORD_SHIFT
                | kind << KIND_SHIFT
                | if waiters { WAITERS } else { 0 }
                | epoch & EPOCH,
        )
    }

    /// A slot that nobody has used.
    pub fn free() -> Self {
        Self::new(NOBODY, Kind::Open, false, 0)
    }

    /// The record.
    pub fn record(self) -> u16 {
        (self.0 >> RECORD_SHIFT) as u16
    }

    /// What it says of the record.
    pub fn kind(self) -> Kind {
        match self.0 >> KIND_SHIFT & 3 {
            0 => Kind::Open,
            1 => Kind::Exclusive,
            2 => Kind::Offer,
            _ => Kind::Sealed,
        }
    }

    /// Whether somebody may be waiting.
    pub fn has_waiters(self) -> bool {
        self.0 & WAITERS != 0
    }

    /// The epoch.
    pub fn epoch(self) -> u64 {
        self.0 & EPOCH
    }

    /// The next word, with this record and kind; the waiters' flag stays.
    #[must_use]
    pub fn next(self, record: u16, kind: Kind) -> Self {
        Self::new(record, kind, self.has_waiters(), self.epoch() + 1)
    }

    /// The same without the waiters' flag.
    #[must_use]
    pub fn without_waiters(self) -> Self {
        Grant(self.0 & !WAITERS)
    }
}

/// What a record has to do with a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Nothing.
    None,
    /// It waits; the number is its ticket.
    Waiting,
    /// It wants the grant word's epoch to become the number, and is a holder if it names it then.
    Joining,
    /// It holds, since the epoch of the number.
    Member,
}

/// A record's place: role 2 | slot 16 | number 46. Written by its owner; others only turn
/// `Joining` into `Member`, for the record that the grant word names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place(pub u64);

/// The ticket of those who wait without wanting the lock.
pub const WATCHER: u64 = EPOCH;

impl Place {
    /// No place.
    pub const NONE: Place = Place(0);

    /// A place of its parts.
    pub fn new(role: Role, slot: u16, number: u64) -> Self {
        let role = match role {
            Role::None => 0,
            Role::Waiting => 1,
            Role::Joining => 2,
            Role::Member => 3u64,
        };
        Place(role << 62 | u64::from(slot) << EPOCH_BITS | number & EPOCH)
    }

    /// The role.
    pub fn role(self) -> Role {
        match self.0 >> 62 {
            0 => Role::None,
            1 => Role::Waiting,
            2 => Role::Joining,
            _ => Role::Member,
        }
    }

    /// The slot.
    pub fn slot(self) -> u16 {
        (self.0 >> EPOCH_BITS) as u16
    }

    /// Ticket or epoch.
    pub fn number(self) -> u64 {
        self.0 & EPOCH
    }

    /// Whether it waits for this slot.
    pub fn waits_for(self, slot: u16) -> bool {
        self.role() == Role::Waiting && self.slot() == slot
    }
}

/// A record's life: what must be ended, by compare-and-swap, before anybody else may have what the
/// record holds. Its owner changes it in the same way, so that exactly one of both wins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Life(pub u64);

impl Life {
    /// Never begun, or ended by somebody else.
    pub const ENDED: Life = Life(0);
    /// Ended by its owner.
    pub const RELEASED: Life = Life(1);
    const UNBOUNDED: u64 = 1 << 63;
    const USES: u64 = 0x3ff;

    /// A life until `until` (ns on the boot-time clock; for ever if none). `uses` counts the lives
    /// of the record, so that no two are alike.
    pub fn new(until: Option<u64>, uses: u64) -> Self {
        match until {
            None => Life(Self::UNBOUNDED | uses.max(1)),
            Some(until) => {
                Life((until & !(Self::UNBOUNDED | Self::USES) | uses & Self::USES).max(2))
            }
        }
    }

    /// Whether it was begun and not ended; it may have run out.
    pub fn is_begun(self) -> bool {
        self.0 > 1
    }

    /// When it runs out.
    pub fn until(self) -> Option<u64> {
        (self.is_begun() && self.0 & Self::UNBOUNDED == 0).then_some(self.0 & !Self::USES)
    }

    /// Whether it has run out.
    pub fn is_over(self, now: u64) -> bool {
        self.until().is_some_and(|until| until <= now)
    }
}

/// A mode in one word, to be read by other processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModeWord(pub u64);

impl ModeWord {
    /// One holder.
    pub const EXCLUSIVE: ModeWord = ModeWord(1);
    /// Any number of readers.
    pub const SHARED: ModeWord = ModeWord(2);

    /// `take` of `of` permits.
    pub fn permits(take: u32, of: u32) -> Self {
        ModeWord(3 << 62 | u64::from(take) << 31 | u64::from(of))
    }

    /// `take` and `of`, if it is about permits.
    pub fn as_permits(self) -> Option<(u32, u32)> {
        let mask = (1 << 31) - 1;
        (self.0 >> 62 == 3).then_some(((self.0 >> 31 & mask) as u32, (self.0 & mask) as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_give_back_their_parts() {
        for kind in [Kind::Open, Kind::Exclusive, Kind::Offer, Kind::Sealed] {
            for (record, waiters, epoch) in [(0, true, 0), (NOBODY, false, EPOCH), (77, true, 5)] {
                let word = Grant::new(record, kind, waiters, epoch);
                assert_eq!(
                    (word.record(), word.kind(), word.has_waiters(), word.epoch()),
                    (record, kind, waiters, epoch)
                );
            }
        }
        for role in [Role::None, Role::Waiting, Role::Joining, Role::Member] {
            let place = Place::new(role, u16::MAX, 9);
            assert_eq!(
                (place.role(), place.slot(), place.number()),
                (role, u16::MAX, 9)
            );
        }
        let permits = ModeWord::permits(1_000_000, 1_000_000);
        assert_eq!(permits.as_permits(), Some((1_000_000, 1_000_000)));
        assert_eq!(ModeWord::SHARED.as_permits(), None);
    }

    #[test]
    fn lives() {
        let bounded = Life::new(Some(10_240), 3);
        assert_eq!(bounded.until(), Some(10_240));
        assert!(bounded.is_over(10_240) && !bounded.is_over(10_239));
        let unbounded = Life::new(None, 1);
        assert!(unbounded.is_begun() && !unbounded.is_over(u64::MAX));
        assert!(!Life::ENDED.is_begun() && !Life::RELEASED.is_begun());
        assert_ne!(Life::new(None, 1), Life::new(None, 2));
    }
}
