//! What a lock file may contain; normative in `core/FORMATS.md`.
//!
//! Most lock files are empty. The first hold that needs more (a name that the file's name does not
//! say, a fencing counter, a label, a change of mode) writes a header. All numbers are little-endian.
//!
//! ```text
//!   0  magic "synlock\0"      8  layout u32       12  length of the kept name u32
//!  16  flags u64 (1: cut)    24  check of bytes 0..24 and the kept name
//!  32  counter, its check    48  counter, its check          (the greater valid one counts)
//!  64  pid u32, length u32, check, label (255 bytes at most)
//! 336  the same of whoever broke the lock that was kept in the file before (160 bytes at most)
//! 512  the kept name (1024 bytes at most)
//! ```
//! A check is the first 8 bytes of the SHA-256 of what it covers.

use super::file::LockFile;
use super::names;
use crate::codes::Code;
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::time::{SystemTime, UNIX_EPOCH};

const MAGIC: &[u8; 8] = b"synlock\0";
/// The newest layout of lock files that this build understands; it understands the one before too.
pub const LAYOUT: u32 = if cfg!(feature = "next-layout") { 2 } else { 1 };
/// The layout of headers that this build writes: the previous one, so that builds of the previous
/// release, which may run beside this one, can read them. The next release writes this one's.
pub(super) const WRITTEN: u32 = if LAYOUT > 1 { LAYOUT - 1 } else { 1 };
/// Longer names are kept by their beginning; the hash in the file's name tells them apart.
const LONGEST_KEPT: usize = 1024;
const CUT: u64 = 1;
const COUNTERS: [usize; 2] = [32, 48];
/// Where a process and its label stand, and how much of the label is kept.
#[derive(Clone, Copy)]
struct Signature {
    at: usize,
    longest: usize,
}

const HOLDER: Signature = Signature {
    at: 64,
    longest: 255,
};
const BREAKER: Signature = Signature {
    at: 336,
    longest: 160,
};
/// What precedes the text of a signature.
const SIGNATURE: usize = 16;
const NAME: usize = 512;
pub(super) const SIZE: usize = NAME + LONGEST_KEPT;

fn check(parts: &[&[u8]]) -> u64 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    u64_at(&hash.finalize(), 0)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

/// The header of a file, as far as it has one.
#[derive(Clone, Debug)]
pub(super) struct Header {
    bytes: [u8; SIZE],
    /// Whether the fixed part is whole; a file that is empty, or was being written when the power
    /// went, has none.
    pub(super) is_whole: bool,
}

impl Header {
    /// Reads a file's header.
    ///
    /// # Errors
    /// `Protocol` if the content is not ours or of a later layout: it is left as it is.
    pub(super) fn read(file: &LockFile) -> Result<Self> {
        let mut bytes = [0; SIZE];
        let length = file
            .read(&mut bytes)
            .map_err(|error| Error::from_io(error, "the lock file cannot be read"))?;
        Self::parse(bytes, length)
    }

    fn parse(bytes: [u8; SIZE], length: usize) -> Result<Self> {
        let begun = length.min(MAGIC.len());
        let nothing = bytes[..length.min(SIZE)].iter().all(|byte| *byte == 0);
        if bytes[..begun] != MAGIC[..begun] && !nothing {
            return Err(Error::new(
                Code::Protocol,
                "the lock file holds something that synlock has not written; it is left alone",
            ));
        }
        let layout = u32_at(&bytes, 8);
        if layout > LAYOUT {
            return Err(Error::new(
                Code::Protocol,
                format!("the lock file has layout {layout}, this build knows up to {LAYOUT}"),
            ));
        }
        let mut header = Header {
            bytes,
            is_whole: false,
        };
        header.is_whole = layout >= 1
            && (u32_at(&bytes, 12) as usize <= LONGEST_KEPT || cfg!(canary = "trusts_lengths"))
            && u64_at(&bytes, 24) == check(&[&bytes[..24], header.kept_name()]);
        Ok(header)
    }

    fn kept_name(&self) -> &[u8] {
        let length = u32_at(&self.bytes, 12) as usize;
        // Canary of row 36.
        let length = if cfg!(canary = "trusts_lengths") {
            length
        } else {
            length.min(LONGEST_KEPT)
        };
        &self.bytes[NAME..NAME + length]
    }

    /// The name that the file keeps because its own name does not say it; true if it is cut.
    pub(super) fn name(&self) -> Option<(&[u8], bool)> {
        (self.is_whole && !self.kept_name().is_empty())
            .then(|| (self.kept_name(), u64_at(&self.bytes, 16) & CUT != 0))
    }

    /// Writes the part that never changes again. Shared holders may do so at the same time: they
    /// write the same bytes.
    pub(super) fn write_fixed(&mut self, file: &LockFile, name: &[u8]) -> Result<()> {
        let kept = if names::is_plain(name) {
            &[]
        } else {
            &name[..name.len().min(LONGEST_KEPT)]
        };
        let flags = if kept.len() < name.len() && !kept.is_empty() {
            CUT
        } else {
            0
        };
        let fixed = &mut self.bytes[..32];
        fixed[..8].copy_from_slice(MAGIC);
        fixed[8..12].copy_from_slice(&WRITTEN.to_le_bytes());
        fixed[12..16].copy_from_slice(&(kept.len() as u32).to_le_bytes());
        fixed[16..24].copy_from_slice(&flags.to_le_bytes());
        let sum = check(&[&fixed[..24], kept]);
        fixed[24..32].copy_from_slice(&sum.to_le_bytes());
        self.bytes[NAME..NAME + kept.len()].copy_from_slice(kept);
        // The magic comes first, so that whatever happens the file is known as ours; until the name
        // is there the check does not fit, and both are written again.
        put(file, &self.bytes[..32], 0)?;
        put(file, kept, NAME)?;
        self.is_whole = true;
        Ok(())
    }

    /// The greatest token given so far, and the place of the other counter.
    fn counter(&self) -> (u64, usize) {
        let value = |at: usize| {
            let valid = u64_at(&self.bytes, at + 8) == check(&[&self.bytes[at..at + 8]]);
            valid.then(|| u64_at(&self.bytes, at))
        };
        match COUNTERS.map(value) {
            [Some(a), Some(b)] if b > a => (b, COUNTERS[0]),
            [Some(a), _] => (a, COUNTERS[1]),
            [None, Some(b)] => (b, COUNTERS[0]),
            [None, None] => (0, COUNTERS[0]),
        }
    }

    /// The fencing token of the last grant, if there was one.
    pub(super) fn last_fence(&self) -> Option<u64> {
        Some(self.counter().0).filter(|last| *last > 0)
    }

    /// Reserves `block` tokens above all that were given before, and above the wall clock in µs, so
    /// that they grow even if the counter was lost. The first of them.
    pub(super) fn draw_fence(&mut self, file: &LockFile, block: u32) -> Result<u64> {
        let (last, place) = self.counter();
        let first = last.saturating_add(1).max(if cfg!(canary = "no_counter") {
            0
        } else {
            wall_micros()
        });
        let end = first.saturating_add(u64::from(block.max(1)) - 1);
        if end > i64::MAX as u64 {
            return Err(Error::new(
                Code::Protocol,
                "the fencing counter of the lock file has reached its end",
            ));
        }
        self.set_counter(file, end, place)?;
        Ok(first)
    }

    /// Makes the next token greater than any that a holder of a broken file may still draw there.
    pub(super) fn leap(&mut self, file: &LockFile, over: &Header) -> Result<()> {
        match over.counter().0 {
            0 => Ok(()),
            last => self.set_counter(
                file,
                last.saturating_add(64).max(wall_micros()),
                COUNTERS[0],
            ),
        }
    }

    fn set_counter(&mut self, file: &LockFile, value: u64, place: usize) -> Result<()> {
        let record = &mut self.bytes[place..place + 16];
        record[..8].copy_from_slice(&value.to_le_bytes());
        let sum = check(&[&record[..8]]);
        record[8..].copy_from_slice(&sum.to_le_bytes());
        if cfg!(canary = "no_counter") {
            return Ok(());
        }
        put(file, record, place)
    }

    /// The label of the last exclusive holder that gave one, and its process.
    pub(super) fn label(&self) -> Option<(u32, &str)> {
        self.signature(HOLDER)
    }

    /// Writes the label, or takes the one before it away.
    pub(super) fn set_label(&mut self, file: &LockFile, label: &str) -> Result<()> {
        self.sign(HOLDER, file, label)
    }

    /// The process and the label of who put this file in the place of one that was held.
    pub(super) fn breaker(&self) -> Option<(u32, &str)> {
        self.signature(BREAKER)
    }

    pub(super) fn set_breaker(&mut self, file: &LockFile, label: &str) -> Result<()> {
        self.sign(BREAKER, file, label)
    }

    fn signature(&self, of: Signature) -> Option<(u32, &str)> {
        let length = u32_at(&self.bytes, of.at + 4) as usize;
        if length == 0 || length > of.longest {
            return None;
        }
        let text = &self.bytes[of.at + SIGNATURE..][..length];
        if u64_at(&self.bytes, of.at + 8) != check(&[&self.bytes[of.at..of.at + 8], text]) {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        Some((u32_at(&self.bytes, of.at), text))
    }

    fn sign(&mut self, of: Signature, file: &LockFile, label: &str) -> Result<()> {
        let mut length = label.len().min(of.longest);
        while !label.is_char_boundary(length) {
            length -= 1;
        }
        let record = &mut self.bytes[of.at..][..SIGNATURE + length];
        record[..4].copy_from_slice(&std::process::id().to_le_bytes());
        record[4..8].copy_from_slice(&(length as u32).to_le_bytes());
        record[16..].copy_from_slice(&label.as_bytes()[..length]);
        let sum = check(&[&record[..8], &record[16..]]);
        record[8..16].copy_from_slice(&sum.to_le_bytes());
        put(file, record, of.at)
    }
}

/// Reads a lock file's content as the store does, for programs that feed it noise; whether it has a
/// header.
#[cfg(feature = "fuzz")]
pub fn read_noise(content: &[u8]) -> bool {
    let mut bytes = [0; SIZE];
    let length = content.len().min(SIZE);
    bytes[..length].copy_from_slice(&content[..length]);
    Header::parse(bytes, length).is_ok_and(|header| {
        let _ = (
            header.name(),
            header.last_fence(),
            header.label(),
            header.breaker(),
        );
        header.is_whole
    })
}

fn put(file: &LockFile, bytes: &[u8], at: usize) -> Result<()> {
    file.write(bytes, at as u64)
        .map_err(|error| Error::from_io(error, "the lock file cannot be written"))
}

fn wall_micros() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(1, |time| u64::try_from(time.as_micros()).unwrap_or(1))
}
