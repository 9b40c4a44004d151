//! What a handle's seat keeps between its holds: its name's slot and a record of its own, so that a
//! pair looks up nothing and allocates nothing.

use super::config::Config;
use super::layout::{LABEL_BYTES, entry};
use super::names;
use super::protocol::{Answer as Reply, Protocol};
use super::records::{Entries, Entry};
use super::store::{busy, mismatch, want};
use super::view::View;
use crate::Result;
use crate::lease::BootTime;
use crate::owner::OwnerToken;
use crate::store::{Attempt, Claim, Grant};
use crate::sync::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// How many idle records the handles of one process may keep: the others give theirs back, since
/// records are shared by the host, and every search for waiters reads them all.
const MOST_IDLE: u32 = 32;

#[derive(Debug)]
pub(super) struct Kept {
    entry: Entry,
    free: bool,
    /// Whether the record stays with the handle when nothing is held.
    stays: bool,
    left: Arc<Mutex<Entries>>,
}

impl Kept {
    pub(super) fn new(entry: Entry, left: Arc<Mutex<Entries>>) -> Self {
        Kept {
            stays: entry.member.idle.fetch_add(1, Relaxed) < MOST_IDLE,
            entry,
            free: false,
            left,
        }
    }

    /// The entry, while it is held or asked for with.
    pub(super) fn in_use(&self) -> Option<&Entry> {
        (!self.free).then_some(&self.entry)
    }

    /// The entry, if nothing is done with it and it is still good for something.
    pub(super) fn spare(&mut self, config: &Config) -> Option<&Entry> {
        let good = self.free && self.entry.member.is_in_place(config) && self.is_named();
        good.then_some(&self.entry)
    }

    fn is_named(&self) -> bool {
        names::naming(&self.entry.member.segment, self.entry.slot) == self.entry.naming
    }

    pub(super) fn name_owner(&mut self, token: OwnerToken) {
        self.entry.name_owner(token);
    }

    /// Takes the entry back, changed; false if it is another one.
    pub(super) fn put(&mut self, entry: Entry) -> bool {
        if !Arc::ptr_eq(&self.entry.owned, &entry.owned) {
            return false;
        }
        self.entry = entry;
        self.free = false;
        true
    }

    /// Nothing is held or asked for any more; false if the record should go too.
    pub(super) fn free(&mut self, config: &Config) -> bool {
        self.free = true;
        self.entry.fence = None;
        self.entry.looks = 0;
        self.stays && self.entry.member.is_in_place(config)
    }

    /// Acquires with what is known; nothing if that does not suffice.
    #[inline]
    pub(super) fn try_now(&mut self, config: &Config, claim: &Claim) -> Option<Result<Attempt>> {
        let entry = &mut self.entry;
        if !self.free || !entry.member.is_in_place_at(config, claim.asked) {
            return None;
        }
        // Before it holds: nobody must take it for the last hold, whose token may be known.
        entry.name_owner(claim.token);
        let want = want(&entry.owned, claim, claim.asked);
        let view = View::at(&entry.member, entry.naming);
        match Protocol(&view).try_now(entry.slot, entry.record, &want) {
            Reply::Granted { epoch, recovered } => {
                entry.note_grant(claim, epoch, claim.asked);
                self.free = false;
                Some(Ok(Attempt::Granted(Grant {
                    lease: want.life.until().map(BootTime::from_nanos),
                    fence: entry.fence,
                    recovered,
                })))
            }
            Reply::Busy(until) => Some(Ok(busy(until))),
            Reply::Mismatch(of) => Some(Err(mismatch(of, claim))),
            Reply::Moved => None,
        }
    }

    /// Lets a hold go; says whether it was ours. Nothing if it is no hold, or the last of this record.
    #[inline]
    pub(super) fn release(&mut self, config: &Config, fair: bool) -> Option<bool> {
        let entry = &mut self.entry;
        if self.free {
            return Some(false);
        }
        if entry.is_waiting() || !self.stays || !entry.member.is_in_place(config) {
            return None;
        }
        let view = View::any(&entry.member);
        let ours = Protocol(&view).release(entry.slot, entry.record, fair);
        entry.fence = None;
        self.free = true;
        Some(ours)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.entry.member.idle.fetch_sub(1, Relaxed);
        if !self.free {
            // The hold goes on without its handle.
            self.left.lock().leave(self.entry.clone());
        }
    }
}

impl Entry {
    /// Writes down for people whose record it is.
    pub(super) fn describe(&mut self, claim: &Claim) {
        let segment = &self.member.segment;
        let label = claim.label.as_deref().unwrap_or("").as_bytes();
        let label = &label[..label.len().min(LABEL_BYTES)];
        segment
            .word(self.info + entry::LABEL_LENGTH)
            .store(label.len() as u64, Relaxed);
        segment.write_bytes(self.info + entry::LABEL, label);
        // Another handle's may stand there.
        self.named = true;
        self.name_owner(claim.token);
    }

    #[inline]
    pub(super) fn name_owner(&mut self, token: OwnerToken) {
        let named = token != OwnerToken::NONE;
        if named || self.named {
            let at = self.info + entry::TOKEN;
            self.member.segment.write_bytes(at, token.as_bytes());
            self.named = named;
        }
    }

    /// Writes down what a grant brought.
    #[inline]
    pub(super) fn note_grant(&mut self, claim: &Claim, epoch: u64, now: BootTime) {
        let segment = &self.member.segment;
        let first = epoch + 1 - u64::from(claim.fence_block.max(1));
        let fence = names::fence_at(segment, self.slot, first);
        segment.word(self.info + entry::FENCE).store(fence, Relaxed);
        segment
            .word(self.info + entry::SINCE)
            .store(now.as_nanos(), Relaxed);
        self.fence = Some(fence);
    }
}
