//! A native set: what stands in which of its semaphores. Normative in `core/FORMATS.md`.

use super::kernel::MAX;
use crate::codes::Code;
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::time::{SystemTime, UNIX_EPOCH};

/// The layout that this build knows best. Newer ones are refused.
pub const LAYOUT: u16 = if cfg!(feature = "next-layout") { 2 } else { 1 };
/// The layout that it writes: the one before, which the release before can read.
const WRITTEN: u16 = if LAYOUT > 1 { LAYOUT - 1 } else { 1 };

/// "Sy" and "nl", the high bits left out.
const MAGIC: [u16; 2] = [0x5379, 0x6e6c];
const VERSION: usize = 2;
const FLAGS: usize = 3;
const LENGTH: usize = 4;
/// Counts what is free, of [`MAX`].
pub(super) const FREE: u16 = 5;
/// How many permits those who use permits agree on.
pub(super) const OF: u16 = 6;
/// The fencing counter, 15 bits each, the lowest first.
pub(super) const FENCE: u16 = 7;
const FENCE_WORDS: u16 = 4;
/// The label of the exclusive holder: its length, then its bytes.
pub(super) const LABEL: u16 = 11;
const LABEL_WORDS: u16 = 35;
/// How much of a label is kept.
const LONGEST_LABEL: usize = 63;
/// What each holder of permits took.
pub(super) const TAKEN: u16 = 46;
pub(super) const TAKERS: u16 = 16;
/// Raised by who ends a wait of its own process.
pub(super) const KICK: u16 = 62;
pub(super) const KICKS: u16 = 8;
/// Which space the set is in: 30 bits of a hash.
const SPACE: usize = 70;
const NAME: usize = 72;
/// How much of a name is kept.
const LONGEST_KEPT: usize = 1024;
/// Flag: the name is cut, and its SHA-256 follows.
const CUT: u16 = 1;
/// What a semaphore holds.
const BITS: u32 = 15;

/// Packs bytes into words of 15 bits, the first bits highest.
fn pack(bytes: &[u8], words: &mut Vec<u16>) {
    let (mut bits, mut count) = (0u32, 0);
    for byte in bytes {
        bits = bits << 8 | u32::from(*byte);
        count += 8;
        if count >= BITS {
            count -= BITS;
            words.push((bits >> count) as u16 & MAX as u16);
        }
    }
    if count > 0 {
        words.push((bits << (BITS - count)) as u16 & MAX as u16);
    }
}

fn unpack(words: &[u16], length: usize) -> Vec<u8> {
    let (mut bits, mut count) = (0u32, 0);
    let mut bytes = Vec::with_capacity(length);
    for word in words {
        bits = bits << BITS | u32::from(*word);
        count += BITS;
        while count >= 8 && bytes.len() < length {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}

/// A name as it stands in its set.
#[derive(Clone, Debug)]
pub(super) struct Words {
    space: [u16; 2],
    flags: u16,
    length: u16,
    name: Vec<u16>,
}

impl Words {
    pub(super) fn of(space: [u16; 2], name: &[u8]) -> Self {
        let kept = &name[..name.len().min(LONGEST_KEPT)];
        let cut = kept.len() < name.len();
        let mut words = Vec::new();
        if cut {
            let whole = [kept, &Sha256::digest(name)].concat();
            pack(&whole, &mut words);
        } else {
            pack(kept, &mut words);
        }
        Words {
            space,
            flags: if cut { CUT } else { 0 },
            length: kept.len() as u16,
            name: words,
        }
    }

    /// How many semaphores the name's set has.
    pub(super) fn semaphores(&self) -> usize {
        NAME + self.name.len()
    }

    /// The values of a set in which nobody holds anything.
    pub(super) fn fresh(&self, fence: u64) -> Vec<u16> {
        let mut values = vec![0; NAME];
        values[..2].copy_from_slice(&MAGIC);
        values[VERSION] = WRITTEN;
        values[FLAGS] = self.flags;
        values[LENGTH] = self.length;
        values[usize::from(FREE)] = MAX as u16;
        values[usize::from(FENCE)..][..usize::from(FENCE_WORDS)]
            .copy_from_slice(&fence_words(fence));
        values[SPACE..NAME].copy_from_slice(&self.space);
        values.extend(&self.name);
        values
    }

    /// Whether these are the values of this name's set. A set that was made and not filled in yet has
    /// nothing in it.
    pub(super) fn are_in(&self, values: &[u16]) -> Result<Whose> {
        if values.iter().all(|value| *value == 0) {
            return Ok(Whose::Nobodys);
        }
        let same = values.len() == self.semaphores()
            && values[..2] == MAGIC
            && values[FLAGS] == self.flags
            && values[LENGTH] == self.length
            && values[SPACE..NAME] == self.space
            && values[NAME..] == self.name;
        if !same {
            return Ok(Whose::Anothers);
        }
        check_version(values)?;
        Ok(Whose::Ours)
    }
}

/// Whom a set belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Whose {
    Ours,
    Anothers,
    Nobodys,
}

fn check_version(values: &[u16]) -> Result<()> {
    let layout = values[VERSION];
    if layout > LAYOUT {
        return Err(Error::new(
            Code::Protocol,
            format!("the semaphore set has layout {layout}, this build knows up to {LAYOUT}"),
        ));
    }
    Ok(())
}

/// The name that the values of a native set of the space say; its beginning, if it was too long to keep.
pub(super) fn name_in(space: [u16; 2], values: &[u16]) -> Option<Vec<u8>> {
    let ours = values.len() > NAME
        && values[..2] == MAGIC
        && values[VERSION] <= LAYOUT
        && values[SPACE..NAME] == space;
    if !ours {
        return None;
    }
    let length = usize::from(values[LENGTH]);
    let bytes = unpack(&values[NAME..], length);
    (bytes.len() == length && length > 0).then_some(bytes)
}

pub(super) fn fence_words(fence: u64) -> [u16; FENCE_WORDS as usize] {
    std::array::from_fn(|place| (fence >> (BITS as usize * place)) as u16 & MAX as u16)
}

pub(super) fn fence_in(values: &[u16]) -> u64 {
    let words = &values[usize::from(FENCE)..][..usize::from(FENCE_WORDS)];
    words
        .iter()
        .rev()
        .fold(0, |fence, word| fence << BITS | u64::from(*word))
}

/// Where a new counter begins: above all that an earlier set of the name can have given, unless the clock
/// was set back.
pub(super) fn first_fence() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |time| time.as_micros() as u64)
}

/// What a label adds to the semaphores of a free set: a place and a value each.
pub(super) fn label_words(label: &str) -> Vec<(u16, i16)> {
    let mut end = label.len().min(LONGEST_LABEL);
    while !label.is_char_boundary(end) {
        end -= 1;
    }
    let mut words = vec![end as u16];
    pack(&label.as_bytes()[..end], &mut words);
    (LABEL..)
        .zip(words)
        .filter(|(_, word)| *word != 0)
        .map(|(place, word)| (place, word as i16))
        .collect()
}

pub(super) fn label_in(values: &[u16]) -> Option<String> {
    let words = &values[usize::from(LABEL)..][..usize::from(LABEL_WORDS)];
    let length = usize::from(words[0]).min(LONGEST_LABEL);
    let text = String::from_utf8(unpack(&words[1..], length)).ok()?;
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: [u16; 2] = [1, 2];

    #[test]
    fn names_come_back() {
        for name in [&b"a"[..], b"ab", &[0xff; 15], b"\0\0", &[b'x'; 1024]] {
            let words = Words::of(HERE, name);
            let values = words.fresh(1);
            assert_eq!(values.len(), words.semaphores());
            assert!(values.iter().all(|value| *value <= MAX as u16));
            assert_eq!(name_in(HERE, &values), Some(name.to_vec()));
            assert_eq!(name_in([2, 1], &values), None);
            assert_eq!(words.are_in(&values).unwrap(), Whose::Ours);
        }
        assert_eq!(
            Words::of(HERE, b"a")
                .are_in(&Words::of(HERE, b"b").fresh(1))
                .unwrap(),
            Whose::Anothers
        );
        assert_eq!(
            Words::of(HERE, b"a").are_in(&[0; 73]).unwrap(),
            Whose::Nobodys
        );
        assert_eq!(name_in(HERE, &[0; 73]), None);
    }

    #[test]
    fn long_names_are_cut_and_told_apart() {
        let (a, b) = (
            Words::of(HERE, &[b'y'; 60_000]),
            Words::of(HERE, &[b'y'; 60_001]),
        );
        assert_eq!(a.semaphores(), b.semaphores());
        assert_eq!(a.are_in(&b.fresh(1)).unwrap(), Whose::Anothers);
        assert_eq!(name_in(HERE, &a.fresh(1)), Some(vec![b'y'; 1024]));
    }

    #[test]
    fn a_newer_layout_is_an_error() {
        let words = Words::of(HERE, b"a");
        let mut values = words.fresh(1);
        values[VERSION] = LAYOUT + 1;
        assert_eq!(words.are_in(&values).unwrap_err().code(), Code::Protocol);
        assert_eq!(name_in(HERE, &values), None);
    }

    #[test]
    fn counters_and_labels_come_back() {
        for fence in [1, 0x7fff, 0x8000, (1 << 60) - 1, first_fence()] {
            assert_eq!(fence_in(&Words::of(HERE, b"a").fresh(fence)), fence);
        }
        for (label, kept) in [
            ("x", "x"),
            ("nightly import | café", "nightly import | café"),
            (&"é".repeat(100), &"é".repeat(31)),
        ] {
            let mut values = Words::of(HERE, b"a").fresh(1);
            for (place, add) in label_words(label) {
                values[usize::from(place)] = add as u16;
            }
            assert_eq!(label_in(&values).as_deref(), Some(kept));
        }
        assert_eq!(label_in(&Words::of(HERE, b"a").fresh(1)), None);
    }
}
