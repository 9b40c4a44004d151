//! Where everything lies in a segment. Described for others in `core/FORMATS.md`.

use crate::codes::Code;
use crate::{Error, Result};

/// The newest layout that this build understands; it understands the one before too.
pub const LAYOUT: u32 = if cfg!(feature = "next-layout") { 2 } else { 1 };
/// The layout of segments that this build makes: the previous one, so that builds of the previous
/// release can attach to them.
pub(in crate::store) const WRITTEN: u32 = if LAYOUT > 1 { LAYOUT - 1 } else { 1 };

/// What a segment is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) enum Kind {
    /// The locks of `shm:`.
    Locks,
    /// The queues of a directory of `flock:`: nothing is kept of names and records but single words.
    Queues,
}

impl Kind {
    pub(in crate::store) fn magic(self) -> [u8; 8] {
        match self {
            Kind::Locks => *b"synlock\x07",
            Kind::Queues => *b"synlock\x08",
        }
    }

    pub(in crate::store) fn of_magic(magic: &[u8]) -> Option<Self> {
        [Kind::Locks, Kind::Queues]
            .into_iter()
            .find(|kind| kind.magic() == magic)
    }

    fn info_entry(self) -> u64 {
        match self {
            Kind::Locks => INFO_ENTRY,
            Kind::Queues => 0,
        }
    }

    fn name_entry(self) -> u64 {
        match self {
            Kind::Locks => NAME_ENTRY,
            Kind::Queues => 0,
        }
    }
}

/// Reads otherwise on a machine of the other byte order.
pub(in crate::store) const WORD: u32 = 0x0102_0304;

const PAGE: u64 = 4096;
/// Names up to this length stand in full; of longer ones the first bytes and a hash.
pub(in crate::store) const NAME_BYTES: usize = 1024;
/// Labels are cut to this.
pub(in crate::store) const LABEL_BYTES: usize = 256;
/// Records are given to processes in groups, so that no two processes write to one cache line.
pub(in crate::store) const GROUP: u16 = 8;

/// Sizes of one process', one record's, one slot's entry.
pub(in crate::store) const PROCESS_ENTRY: u64 = 64;
const INFO_ENTRY: u64 = 64 + LABEL_BYTES as u64;
pub(in crate::store) const SLOT_ENTRY: u64 = 64;
const NAME_ENTRY: u64 = 64 + NAME_BYTES as u64;

/// Where a process' entry lies, in every layout.
pub(in crate::store) fn process_at(process: u16) -> u64 {
    PAGE + u64::from(process) * PROCESS_ENTRY
}

/// How much of everything there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) struct Geometry {
    pub(in crate::store) kind: Kind,
    pub(in crate::store) slots: u32,
    pub(in crate::store) processes: u32,
    pub(in crate::store) records: u32,
}

/// Offsets in the header.
pub(in crate::store) mod header {
    pub(in crate::store) const MAGIC: u64 = 0;
    pub(in crate::store) const LAYOUT: u64 = 8;
    pub(in crate::store) const WORD: u64 = 12;
    pub(in crate::store) const SLOTS: u64 = 16;
    pub(in crate::store) const PROCESSES: u64 = 20;
    pub(in crate::store) const RECORDS: u64 = 24;
    pub(in crate::store) const SIZE: u64 = 32;
    pub(in crate::store) const BOOT_ID: u64 = 40;
    pub(in crate::store) const TIME_OFFSET: u64 = 56;
    pub(in crate::store) const FENCE_FLOOR: u64 = 72;
    pub(in crate::store) const GROUPS_USED: u64 = 80;
}

/// Offsets in the entries.
pub(in crate::store) mod entry {
    // of a process
    pub(in crate::store) const GENERATION: u64 = 0;
    pub(in crate::store) const BELL: u64 = 8;
    pub(in crate::store) const PID: u64 = 12;
    // of a slot
    pub(in crate::store) const GRANT: u64 = 0;
    /// In place of the grant, where there are only queues.
    #[cfg(feature = "flock")]
    pub(in crate::store) const FLAG: u64 = 0;
    pub(in crate::store) const TAIL: u64 = 8;
    pub(in crate::store) const RECOVERED: u64 = 16;
    pub(in crate::store) const OFFERED: u64 = 24;
    pub(in crate::store) const FENCE_BASE: u64 = 32;
    pub(in crate::store) const TAG: u64 = 40;
    pub(in crate::store) const NAMING: u64 = 48;
    pub(in crate::store) const HEAD: u64 = 56;
    // of a record's words for people
    pub(in crate::store) const TOKEN: u64 = 0;
    pub(in crate::store) const SINCE: u64 = 16;
    pub(in crate::store) const FENCE: u64 = 24;
    pub(in crate::store) const LABEL_LENGTH: u64 = 32;
    pub(in crate::store) const LABEL: u64 = 64;
    // of a name
    pub(in crate::store) const NAME_LENGTH: u64 = 0;
    pub(in crate::store) const NAME: u64 = 64;
}

/// The words of a record, each kind in an array of its own.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) enum Word {
    Place,
    Life,
    Mode,
    Late,
    Rung,
}

impl Geometry {
    pub(in crate::store) fn check(self) -> Result<Self> {
        let fits = (1..=65_536).contains(&self.slots)
            && (1..=65_535).contains(&self.processes)
            && (u32::from(GROUP)..=u32::from(super::words::MOST_RECORDS)).contains(&self.records)
            && self.records.is_multiple_of(u32::from(GROUP));
        if fits {
            Ok(self)
        } else {
            Err(Error::new(
                Code::Protocol,
                "the segment's header has impossible numbers",
            ))
        }
    }

    fn up(offset: u64) -> u64 {
        offset.next_multiple_of(PAGE)
    }

    pub(in crate::store) fn process(self, process: u16) -> u64 {
        process_at(process)
    }

    fn groups_at(self) -> u64 {
        Self::up(PAGE + u64::from(self.processes) * PROCESS_ENTRY)
    }

    pub(in crate::store) fn groups(self) -> u16 {
        (self.records / u32::from(GROUP)) as u16
    }

    /// The word that names a group's process.
    pub(in crate::store) fn group(self, group: u16) -> u64 {
        self.groups_at() + u64::from(group) * 8
    }

    fn words_at(self) -> u64 {
        Self::up(self.groups_at() + u64::from(self.records / u32::from(GROUP)) * 8)
    }

    pub(in crate::store) fn word(self, word: Word, record: u16) -> u64 {
        let array = Self::up(u64::from(self.records) * 8);
        self.words_at() + word as u64 * array + u64::from(record) * 8
    }

    fn infos_at(self) -> u64 {
        self.words_at() + 5 * Self::up(u64::from(self.records) * 8)
    }

    pub(in crate::store) fn info(self, record: u16) -> u64 {
        self.infos_at() + u64::from(record) * self.kind.info_entry()
    }

    fn slots_at(self) -> u64 {
        Self::up(self.infos_at() + u64::from(self.records) * self.kind.info_entry())
    }

    pub(in crate::store) fn slot(self, slot: u16) -> u64 {
        self.slots_at() + u64::from(slot) * SLOT_ENTRY
    }

    fn names_at(self) -> u64 {
        Self::up(self.slots_at() + u64::from(self.slots) * SLOT_ENTRY)
    }

    pub(in crate::store) fn name(self, slot: u16) -> u64 {
        self.names_at() + u64::from(slot) * self.kind.name_entry()
    }

    pub(in crate::store) fn size(self) -> u64 {
        Self::up(self.names_at() + u64::from(self.slots) * self.kind.name_entry())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overlaps() {
        let geometry = Geometry {
            kind: Kind::Locks,
            slots: 7,
            processes: 3,
            records: 24,
        };
        let mut spans = vec![(0, PAGE)];
        spans.extend((0..3).map(|n| (geometry.process(n), PROCESS_ENTRY)));
        spans.extend((0..3).map(|n| (geometry.group(n), 8)));
        for word in [Word::Place, Word::Life, Word::Mode, Word::Late, Word::Rung] {
            spans.extend((0..24).map(|n| (geometry.word(word, n), 8)));
        }
        spans.extend((0..24).map(|n| (geometry.info(n), INFO_ENTRY)));
        spans.extend((0..7).map(|n| (geometry.slot(n), SLOT_ENTRY)));
        spans.extend((0..7).map(|n| (geometry.name(n), NAME_ENTRY)));
        spans.sort_unstable();
        for pair in spans.windows(2) {
            assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:?}");
        }
        let last = spans.last().unwrap();
        assert!(last.0 + last.1 <= geometry.size());
    }
}
