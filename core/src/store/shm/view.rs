//! The state machine's table, in a segment.

use super::layout::{GROUP, Word, entry};
use super::member::Member;
use super::names::{self, Key};
use super::protocol::Table;
use crate::lease::BootTime;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Acquire;

/// A member's view of the segment, on behalf of one name.
#[derive(Debug)]
pub(super) struct View<'a> {
    member: &'a Member,
    named: Named<'a>,
}

/// Which name a slot must have.
#[derive(Debug)]
enum Named<'a> {
    Any,
    By(&'a Key),
    /// The one that it had when it had been named so often.
    Since(u64),
}

impl<'a> View<'a> {
    /// Whatever the name.
    pub(super) fn any(member: &'a Member) -> Self {
        let named = Named::Any;
        View { member, named }
    }

    /// Of slots that have this name.
    pub(super) fn of(member: &'a Member, key: &'a Key) -> Self {
        let named = Named::By(key);
        View { member, named }
    }

    /// Of a slot whose name has not changed since.
    pub(super) fn at(member: &'a Member, naming: u64) -> Self {
        let named = Named::Since(naming);
        View { member, named }
    }

    fn slot_word(&self, slot: u16, at: u64) -> &AtomicU64 {
        let segment = &self.member.segment;
        segment.word(segment.slot(slot) + at)
    }
}

impl Table for View<'_> {
    fn grant(&self, slot: u16) -> &AtomicU64 {
        self.slot_word(slot, entry::GRANT)
    }
    fn tail(&self, slot: u16) -> &AtomicU64 {
        self.slot_word(slot, entry::TAIL)
    }
    fn recovered(&self, slot: u16) -> &AtomicU64 {
        self.slot_word(slot, entry::RECOVERED)
    }
    fn offered(&self, slot: u16) -> &AtomicU64 {
        self.slot_word(slot, entry::OFFERED)
    }
    fn seen_head(&self, slot: u16) -> &AtomicU64 {
        self.slot_word(slot, entry::HEAD)
    }
    fn place(&self, record: u16) -> &AtomicU64 {
        self.member.word(Word::Place, record)
    }
    fn life(&self, record: u16) -> &AtomicU64 {
        self.member.word(Word::Life, record)
    }
    fn mode(&self, record: u16) -> &AtomicU64 {
        self.member.word(Word::Mode, record)
    }
    fn late(&self, record: u16) -> &AtomicU64 {
        self.member.word(Word::Late, record)
    }
    fn records(&self) -> u16 {
        self.member.groups_used() * GROUP
    }
    fn is_alive(&self, record: u16) -> bool {
        self.member.lives(self.member.owner_of(record))
    }
    fn now(&self) -> u64 {
        BootTime::now().as_nanos()
    }
    fn wake(&self, record: u16) {
        self.member.wake(record);
    }
    fn is_woken(&self, record: u16) -> bool {
        self.member.is_woken(record)
    }
    fn is_named(&self, slot: u16) -> bool {
        let segment = &self.member.segment;
        match self.named {
            Named::Any => true,
            Named::By(key) => names::is_named(segment, slot, key),
            Named::Since(naming) => self.slot_word(slot, entry::NAMING).load(Acquire) == naming,
        }
    }
}
