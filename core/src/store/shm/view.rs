//! The state machine's table, in a segment.

use super::layout::{GROUP, Word, entry};
use super::member::Member;
use super::names::{self, Key};
use super::protocol::Table;
use crate::lease::BootTime;
use std::sync::atomic::AtomicU64;

/// A member's view of the segment, on behalf of one name.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) member: &'a Member,
    pub(super) key: Option<&'a Key>,
}

impl View<'_> {
    fn slot_word(&self, slot: u16, at: u64) -> &AtomicU64 {
        let segment = &self.member.segment;
        segment.word(segment.geometry.slot(slot) + at)
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
    fn is_named(&self, slot: u16) -> bool {
        self.key
            .is_none_or(|key| names::is_named(&self.member.segment, slot, key))
    }
}
