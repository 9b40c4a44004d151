//! The table of names: which slot a name has.
//!
//! Reading it needs no lock. A name is put in, and an idle one taken out, by one process at a time,
//! under a kernel lock on the file, which ends with its owner whatever kills it; a slot stays sealed
//! meanwhile, so what a dead process left half done is seen by the seal.

use super::file::Segment;
use super::guard::{self, PATIENCE};
use super::layout::{NAME_BYTES, entry, header};
use super::member::Member;
use super::protocol::Protocol;
use super::view::View;
use super::words::{Grant, Kind};
use crate::codes::Code;
use crate::name::Name;
use crate::{Error, Result};
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::fence;

/// No name was ever here; a search ends.
const NEVER: u64 = 0;
/// A name was here; a search goes on.
const RETIRED: u64 = 1;
const HASH_BYTES: usize = 32;

/// A name as the table keeps it.
#[derive(Debug)]
pub(super) struct Key {
    tag: u64,
    length: u64,
    kept: Vec<u8>,
}

impl Key {
    pub(super) fn new(name: &Name) -> Self {
        let bytes = name.as_bytes();
        let mut kept = bytes.to_vec();
        if bytes.len() > NAME_BYTES {
            kept.truncate(NAME_BYTES - HASH_BYTES);
            kept.extend_from_slice(&Sha256::digest(bytes));
        }
        Key {
            tag: tag_of(bytes),
            length: bytes.len() as u64,
            kept,
        }
    }

    fn start(&self, segment: &Segment) -> u64 {
        (self.tag >> 2) % u64::from(segment.geometry.slots)
    }
}

/// FNV-1a: only to spread names over the table, so not chosen to withstand an attacker.
pub(super) fn tag_of(name: &[u8]) -> u64 {
    let hash = name.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash ^ hash >> 32) | 2
}

fn tag(segment: &Segment, slot: u16) -> &std::sync::atomic::AtomicU64 {
    segment.word(segment.slot(slot) + entry::TAG)
}

/// The tag of a slot that has, or had, a name in its entry.
pub(super) fn tag_at(segment: &Segment, slot: u16) -> Option<u64> {
    let tag = tag(segment, slot).load(Acquire);
    (tag != NEVER && tag != RETIRED).then_some(tag)
}

/// How long the name in a slot's entry is, as far as that can be believed.
pub(super) fn length_at(segment: &Segment, slot: u16) -> u64 {
    let at = segment.geometry.name(slot) + entry::NAME_LENGTH;
    segment.word(at).load(Relaxed)
}

/// What is kept of the name in a slot's entry.
pub(super) fn kept_at(segment: &Segment, slot: u16) -> Vec<u8> {
    let kept = length_at(segment, slot).min(NAME_BYTES as u64) as usize;
    segment.read_bytes(segment.geometry.name(slot) + entry::NAME, kept)
}

/// Whether a search for a name of this tag comes to the slot.
pub(super) fn is_reachable(segment: &Segment, slot: u16, wanted: u64) -> bool {
    let slots = u64::from(segment.geometry.slots);
    let start = (wanted >> 2) % slots;
    (0..slots)
        .map(|step| ((start + step) % slots) as u16)
        .take_while(|at| tag(segment, *at).load(Acquire) != NEVER)
        .any(|at| at == slot)
}

/// Whether a slot has this name. The grant word, read before and compared after, tells whether the
/// name could have changed meanwhile.
pub(super) fn is_named(segment: &Segment, slot: u16, key: &Key) -> bool {
    let at = segment.geometry.name(slot);
    tag(segment, slot).load(Acquire) == key.tag
        && segment.word(at + entry::NAME_LENGTH).load(Relaxed) == key.length
        && segment.has_bytes(at + entry::NAME, &key.kept)
}

/// How often a slot has lost its name: as long as this stands, so does the name that was found.
pub(super) fn naming(segment: &Segment, slot: u16) -> u64 {
    segment
        .word(segment.slot(slot) + entry::NAMING)
        .load(Acquire)
}

/// The name of a slot, if it has one; of a long one, its beginning.
pub(super) fn name_of(segment: &Segment, slot: u16) -> Option<Vec<u8>> {
    let before = tag(segment, slot).load(Acquire);
    if before == NEVER || before == RETIRED || is_sealed(segment, slot) {
        return None;
    }
    let is_whole = length_at(segment, slot) <= NAME_BYTES as u64;
    let mut name = kept_at(segment, slot);
    if !is_whole {
        name.truncate(NAME_BYTES - HASH_BYTES);
    }
    fence(Acquire);
    // It may have been changed meanwhile: a whole name proves itself by its tag.
    let holds =
        tag(segment, slot).load(Acquire) == before && (!is_whole || tag_of(&name) == before);
    holds.then_some(name)
}

fn probe(segment: &Segment, key: &Key) -> impl Iterator<Item = u16> + use<> {
    let slots = u64::from(segment.geometry.slots);
    let start = key.start(segment);
    (0..slots).map(move |step| ((start + step) % slots) as u16)
}

/// The slot of a name, if it has one.
pub(super) fn find(segment: &Segment, key: &Key) -> Option<u16> {
    for slot in probe(segment, key) {
        match tag(segment, slot).load(Acquire) {
            NEVER => return None,
            other if other == key.tag && is_named(segment, slot, key) => return Some(slot),
            _ => {}
        }
    }
    None
}

/// The slot of a name, which gets one if need be.
pub(super) fn find_or_put(member: &Member, key: &Key) -> Result<u16> {
    let segment = &member.segment;
    if let Some(slot) = find(segment, key)
        && !is_sealed(segment, slot)
    {
        return Ok(slot);
    }
    let _lock = lock(segment)?;
    let view = View::any(member);
    let protocol = Protocol(&view);
    let mut first = None;
    for slot in probe(segment, key) {
        // We have the lock, so whoever sealed it died at it.
        if is_sealed(segment, slot) {
            retire(segment, slot);
            protocol.unseal(slot);
        }
        match tag(segment, slot).load(Acquire) {
            other if other == key.tag && is_named(segment, slot, key) => return Ok(slot),
            NEVER => {
                first = first.or(Some(slot));
                break;
            }
            RETIRED => first = first.or(Some(slot)),
            _ => {}
        }
    }
    let sealed = first
        .filter(|slot| protocol.seal(*slot))
        .or_else(|| probe(segment, key).find(|slot| protocol.seal(*slot)));
    let Some(slot) = sealed else {
        return Err(Error::new(
            Code::Exhausted,
            "all slots of the segment are in use; make it with more `slots`",
        ));
    };
    retire(segment, slot);
    put(segment, slot, key);
    protocol.unseal(slot);
    Ok(slot)
}

fn is_sealed(segment: &Segment, slot: u16) -> bool {
    let at = segment.slot(slot) + entry::GRANT;
    Grant(segment.word(at).load(Acquire)).kind() == Kind::Sealed
}

/// Takes the name out of a sealed slot; its fencing tokens must not come back to another's.
fn retire(segment: &Segment, slot: u16) {
    let tag = tag(segment, slot);
    if tag.load(Acquire) != NEVER {
        let last = fence_at(segment, slot, epoch(segment, slot));
        segment.word(header::FENCE_FLOOR).fetch_max(last, AcqRel);
        let naming = segment.slot(slot) + entry::NAMING;
        segment.word(naming).fetch_add(1, AcqRel);
        tag.store(RETIRED, Release);
    }
    // The seal and the tag before the name, for readers that check afterwards.
    fence(AcqRel);
}

fn put(segment: &Segment, slot: u16, key: &Key) {
    let at = segment.geometry.name(slot);
    segment
        .word(at + entry::NAME_LENGTH)
        .store(key.length, Relaxed);
    segment.write_bytes(at + entry::NAME, &key.kept);
    let floor = segment.word(header::FENCE_FLOOR).load(Acquire);
    let base = segment.word(segment.slot(slot) + entry::FENCE_BASE);
    base.fetch_max(floor.saturating_sub(epoch(segment, slot)), AcqRel);
    tag(segment, slot).store(key.tag, Release);
}

fn epoch(segment: &Segment, slot: u16) -> u64 {
    let at = segment.slot(slot) + entry::GRANT;
    Grant(segment.word(at).load(Acquire)).epoch()
}

/// The fencing token of a grant: grows with the slot's epoch, and past every slot that the name
/// had before.
pub(super) fn fence_at(segment: &Segment, slot: u16, epoch: u64) -> u64 {
    let at = segment.slot(slot) + entry::FENCE_BASE;
    // Of a damaged segment: any number, but one that is a token in every language.
    let base = segment.word(at).load(Acquire);
    if cfg!(canary = "plain_sum") {
        return base + epoch;
    }
    if cfg!(canary = "no_epoch") {
        return base;
    }
    let token = base.saturating_add(epoch);
    token.min(i64::MAX as u64)
}

/// The kernel's lock on the table.
fn lock(segment: &Segment) -> Result<Flock<OwnedFd>> {
    lock_as(segment, FlockArg::LockExclusiveNonblock)
}

/// Keeps names as they are, for readers.
pub(super) fn lock_shared(segment: &Segment) -> Result<Flock<OwnedFd>> {
    lock_as(segment, FlockArg::LockSharedNonblock)
}

fn lock_as(segment: &Segment, how: FlockArg) -> Result<Flock<OwnedFd>> {
    let stuck = "has been putting a name into the segment for 2 s";
    guard::lock(segment.reopen()?, how, PATIENCE, stuck)
}
