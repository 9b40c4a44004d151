//! The file of `shm:` as `core/FORMATS.md` describes it, for tests that look into it or damage it.

use std::os::unix::fs::FileExt;
use std::path::Path;

/// A segment's file and where its parts lie.
#[derive(Debug)]
pub struct Segment {
    file: std::fs::File,
    slots: u64,
    processes: u64,
    records: u64,
}

/// The arrays that have a word for each record.
#[derive(Clone, Copy, Debug)]
pub enum Array {
    /// What the record has to do with a slot.
    Places,
    /// Until when.
    Lives,
    /// In which way.
    Modes,
}

/// Nobody's record, open, no waiters, in the upper 18 bits of a grant.
pub const NOBODY: u64 = 0x7fff;

fn up(offset: u64) -> u64 {
    offset.next_multiple_of(4096)
}

impl Segment {
    /// Opens it; panics if there is none.
    pub fn open(path: &Path) -> Self {
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .open(path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let number = |at| {
            let mut bytes = [0; 4];
            file.read_exact_at(&mut bytes, at).expect("a whole header");
            u64::from(u32::from_ne_bytes(bytes))
        };
        Segment {
            slots: number(16),
            processes: number(20),
            records: number(24),
            file,
        }
    }

    /// How many slots it has.
    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// How many records.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Where each section begins, and the end.
    pub fn sections(&self) -> [u64; 8] {
        let groups = up(4096 + self.processes * 64);
        let words = up(groups + self.records / 8 * 8);
        let infos = words + 5 * up(self.records * 8);
        let slots = up(infos + self.records * 320);
        let names = up(slots + self.slots * 64);
        let end = up(names + self.slots * 1088);
        [0, 4096, groups, words, infos, slots, names, end]
    }

    /// Where the word of a group of records lies.
    pub fn group(&self, group: u64) -> u64 {
        self.sections()[2] + group * 8
    }

    /// Where a record's word lies.
    pub fn word_of(&self, array: Array, record: u64) -> u64 {
        self.sections()[3] + array as u64 * up(self.records * 8) + record * 8
    }

    /// Where a slot's entry lies: grant, tail, …
    pub fn slot(&self, slot: u64) -> u64 {
        self.sections()[5] + slot * 64
    }

    /// Where a slot's name lies: length, then at 64 the name.
    pub fn name(&self, slot: u64) -> u64 {
        self.sections()[6] + slot * 1088
    }

    /// The word at an offset.
    pub fn read(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.file.read_exact_at(&mut bytes, at).expect("a word");
        u64::from_ne_bytes(bytes)
    }

    /// Writes a word.
    pub fn write(&self, at: u64, word: u64) {
        let written = self.file.write_all_at(&word.to_ne_bytes(), at);
        written.expect("the segment can be written");
    }

    /// The slot that has this name, by looking at all.
    pub fn slot_named(&self, name: &str) -> Option<u64> {
        (0..self.slots).find(|slot| {
            let at = self.name(*slot);
            let mut bytes = vec![0; name.len()];
            self.read(self.slot(*slot) + 40) > 1
                && self.read(at) == name.len() as u64
                && self.file.read_exact_at(&mut bytes, at + 64).is_ok()
                && bytes == name.as_bytes()
        })
    }
}
