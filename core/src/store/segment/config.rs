//! Where a segment is, who may share it, and how large a new one is.

use super::layout::{GROUP, Geometry, Kind};
use super::words::MOST_RECORDS;
use std::path::PathBuf;

const PROCESSES: u32 = 1024;
const SLOTS: u32 = 4096;
/// Queues that share a slot only look at more records than they must.
pub(in crate::store) const QUEUE_SLOTS: u32 = 256;
const QUEUE_RECORDS: u32 = 4096;

/// Which file, and what a new one is like.
#[derive(Clone, Debug)]
pub(in crate::store) struct Config {
    pub(in crate::store) kind: Kind,
    pub(in crate::store) path: PathBuf,
    /// Permissions of a new segment: 0600 or 0660.
    pub(in crate::store) mode: u32,
    /// Group of a new segment, whose members are trusted with it.
    pub(in crate::store) group: Option<u32>,
    /// How many names a new segment has room for, if that was said.
    pub(in crate::store) slots: Option<u32>,
}

impl Config {
    /// Of a segment that is made now. As many records as names and processes may want at once.
    pub(in crate::store) fn geometry(&self) -> Geometry {
        if self.kind == Kind::Queues {
            return Geometry {
                kind: self.kind,
                slots: QUEUE_SLOTS,
                processes: PROCESSES,
                records: QUEUE_RECORDS,
            };
        }
        let slots = self.slots.unwrap_or(SLOTS);
        let most = u32::from(MOST_RECORDS) / u32::from(GROUP) * u32::from(GROUP);
        Geometry {
            kind: self.kind,
            slots,
            processes: PROCESSES,
            records: (slots * 2 + PROCESSES * u32::from(GROUP))
                .next_multiple_of(u32::from(GROUP))
                .min(most),
        }
    }
}
