//! One process' part in a segment: its byte, its records, its bell.
//!
//! A process lives for the others as long as the kernel holds its lock on one byte of the file: a
//! lock of a description of its own, which no mapping and no forked child keeps alive.

use super::bytes::{is_byte_locked, lock_byte, open_quietly};
use super::config::Config;
use super::file::Segment;
use super::groups::{Groups, Table};
use super::idle::Idle;
use super::layout::{GROUP, Word, entry, header};
use super::words::Place;
use crate::codes::Code;
use crate::fork::ProcessFd;
use crate::lease::BootTime;
use crate::sync::Mutex;
use crate::{Error, Result};
use std::ops::Range;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

/// How long a look at the file's place counts, in ns.
const LOOK_EVERY: u64 = 1_000_000_000;
/// How long word that was left for a record may stay unheard before it is rung for again, in ns.
const RING_AGAIN: u64 = 10_000_000;
/// How a group's word names its process: slot 16 | generation 48.
pub(in crate::store) const GENERATION: u64 = (1 << 48) - 1;
/// The bit of a bell's waiters that serves event loops.
const BRIDGE: u32 = 1 << 31;

/// This process, attached to a segment.
#[derive(Debug)]
pub(in crate::store) struct Member {
    pub(in crate::store) segment: Segment,
    process: u16,
    me: u64,
    byte: ProcessFd,
    idle_records: Mutex<Idle>,
    /// Idle records that handles keep for their next hold.
    pub(in crate::store) idle: AtomicU32,
    looked: AtomicU64,
    /// The same moment by the clock that leases count by.
    looked_at: AtomicU64,
    gone: AtomicBool,
}

impl Member {
    pub(in crate::store) fn attach(config: &Config) -> Result<Self> {
        let segment = Segment::open(config)?;
        let byte = open_quietly(&segment)?;
        let processes = segment.geometry.processes as u16;
        let Some(process) = (0..processes).find(|process| lock_byte(&byte, *process)) else {
            return Err(Error::new(
                Code::Exhausted,
                format!("{processes} processes use the segment already"),
            ));
        };
        let at = segment.geometry.process(process);
        // From here on, whatever an earlier process of this number left is a dead one's.
        let generation = segment
            .word(at + entry::GENERATION)
            .fetch_add(1, AcqRel)
            .wrapping_add(1)
            & GENERATION;
        segment
            .half(at + entry::PID)
            .store(std::process::id(), Relaxed);
        let member = Member {
            me: u64::from(process) << 48 | generation,
            process,
            byte,
            idle_records: Mutex::default(),
            idle: AtomicU32::new(0),
            looked: AtomicU64::new(BootTime::coarse_nanos()),
            looked_at: AtomicU64::new(BootTime::now().as_nanos()),
            gone: AtomicBool::new(false),
            segment,
        };
        member.take_over_left_records();
        Ok(member)
    }

    /// Whether the file still stands in its place; looked at once a second at most.
    #[inline]
    pub(in crate::store) fn is_in_place(&self, config: &Config) -> bool {
        if self.gone.load(Relaxed) {
            return false;
        }
        let since = BootTime::coarse_nanos().saturating_sub(self.looked.load(Relaxed));
        since <= LOOK_EVERY || self.look_at_place(config)
    }

    /// As `is_in_place`, for those who have read the clock.
    #[inline]
    #[cfg(feature = "shm")]
    pub(in crate::store) fn is_in_place_at(&self, config: &Config, now: BootTime) -> bool {
        if self.gone.load(Relaxed) {
            return false;
        }
        let looked_at = self.looked_at.load(Relaxed);
        now.as_nanos().saturating_sub(looked_at) <= LOOK_EVERY || self.look_at_place(config)
    }

    #[cold]
    fn look_at_place(&self, config: &Config) -> bool {
        self.looked.store(BootTime::coarse_nanos(), Relaxed);
        self.looked_at.store(BootTime::now().as_nanos(), Relaxed);
        let stands = self.segment.is_in_place(config);
        if !stands {
            self.gone.store(true, Relaxed);
        }
        stands
    }

    // ---- records

    /// A record of this process that is in no place and lives no life.
    pub(in crate::store) fn take_record(&self) -> Result<u16> {
        let mut idle = self.idle_records.lock();
        if let Some(record) = idle.take() {
            return Ok(record);
        }
        idle.add(self.take_group()?);
        idle.take()
            .ok_or_else(|| Error::new(Code::Internal, "an empty group of records"))
    }

    /// A record that nobody in this process can touch any more.
    pub(in crate::store) fn give_record(&self, record: u16) {
        if !self.byte.is_ours() {
            return; // a child's copy of the parent's
        }
        self.word(Word::Place, record).swap(Place::NONE.0, AcqRel);
        let mut idle = self.idle_records.lock();
        if let Some(group) = idle.give(record) {
            // Others may want it.
            Groups(self).give(group);
        }
    }

    pub(in crate::store) fn word(&self, word: Word, record: u16) -> &AtomicU64 {
        // A damaged segment may name records that there are not.
        let last = self.segment.geometry.records as u16 - 1;
        let base = self.segment.words_at[word as usize];
        self.segment.word(base + u64::from(record.min(last)) * 8)
    }

    pub(in crate::store) fn groups_used(&self) -> u16 {
        let used = self.segment.word(header::GROUPS_USED).load(Acquire);
        u16::try_from(used)
            .unwrap_or(u16::MAX)
            .min(self.segment.geometry.groups())
    }

    /// A group for this process: one that was given back, one of a dead process, or a new one.
    fn take_group(&self) -> Result<u16> {
        let used = self.groups_used();
        let renewed = |owner: u64| owner != 0 && !self.is_newest(owner);
        for wanted in [&|owner: u64| owner == 0, &renewed] as [&dyn Fn(u64) -> bool; 2] {
            if let Some(group) = (0..used).find(|group| self.try_group(*group, wanted)) {
                return Ok(group);
            }
        }
        let most = self.segment.geometry.groups();
        let counter = self.segment.word(header::GROUPS_USED);
        while self.groups_used() < most {
            let group = self.groups_used();
            // Whoever counts first; a group counted by a process that then died is found above.
            let next = u64::from(group) + 1;
            let _ = counter.compare_exchange(u64::from(group), next, AcqRel, Acquire);
            if self.try_group(group, &|owner| owner == 0) {
                return Ok(group);
            }
        }
        let dead = |owner: u64| owner != 0 && !self.lives(owner);
        (0..most)
            .find(|group| self.try_group(*group, &dead))
            .ok_or_else(|| {
                Error::new(
                    Code::Exhausted,
                    "all records of the segment are in use; make it with more `slots`",
                )
            })
    }

    fn try_group(&self, group: u16, wanted: &dyn Fn(u64) -> bool) -> bool {
        Groups(self).take(group, self.me, wanted)
    }

    fn take_over_left_records(&self) {
        let mine = |owner: u64| owner != 0 && owner >> 48 == u64::from(self.process);
        for group in 0..self.groups_used() {
            if self.try_group(group, &mine) && !self.idle_records.lock().add(group) {
                Groups(self).give(group);
            }
        }
    }

    // ---- who lives

    fn generation_of(&self, process: u16) -> u64 {
        let last = self.segment.geometry.processes as u16 - 1;
        let at = self.segment.geometry.process(process.min(last));
        self.segment.word(at + entry::GENERATION).load(Acquire) & GENERATION
    }

    /// Whether nobody has taken the process' number since.
    fn is_newest(&self, owner: u64) -> bool {
        self.generation_of((owner >> 48) as u16) == owner & GENERATION
    }

    pub(in crate::store) fn lives(&self, owner: u64) -> bool {
        // Canary of row 5: it is somebody else's number too.
        if cfg!(canary = "number_is_owner") && owner != self.me {
            let at = self.segment.geometry.process((owner >> 48) as u16) + entry::PID;
            return self.segment.half(at).load(Relaxed) != std::process::id();
        }
        owner == self.me
            || (owner != 0
                && self.is_newest(owner)
                && is_byte_locked(&self.byte, (owner >> 48) as u16))
    }

    pub(in crate::store) fn owner_of(&self, record: u16) -> u64 {
        Groups(self).owner_of(record)
    }

    pub(in crate::store) fn pid_of(&self, record: u16) -> Option<u32> {
        let process = (self.owner_of(record) >> 48) as u16;
        let last = self.segment.geometry.processes as u16 - 1;
        let at = self.segment.geometry.process(process.min(last));
        let pid = self.segment.half(at + entry::PID).load(Relaxed);
        (pid != 0).then_some(pid)
    }

    // ---- bells

    fn bell_of(&self, process: u16) -> &std::sync::atomic::AtomicU32 {
        let last = self.segment.geometry.processes as u16 - 1;
        let at = self.segment.geometry.process(process.min(last));
        self.segment.half(at + entry::BELL)
    }

    fn ring(&self, process: u16, bits: u32) {
        let bell = self.bell_of(process);
        bell.fetch_add(1, AcqRel);
        if cfg!(canary = "no_bell") {
            return;
        }
        // SAFETY: wakes sleepers on a word of the mapping; no pointers but that.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                bell.as_ptr(),
                libc::FUTEX_WAKE_BITSET,
                i32::MAX,
                std::ptr::null::<libc::timespec>(),
                std::ptr::null::<u32>(),
                bits,
            )
        };
    }

    /// Leaves word for a record, of whatever process. Word that it has not taken yet is enough, unless
    /// whoever left it may have died before it could ring.
    pub(in crate::store) fn wake(&self, record: u16) {
        let now = BootTime::now().as_nanos().max(1);
        let Some(owner) = Groups(self).tell(record, now, RING_AGAIN) else {
            return;
        };
        self.ring((owner >> 48) as u16, bit(record) | BRIDGE);
    }

    /// Whether word was left for a record a moment ago and has not been taken. Whoever takes it later
    /// sees what was done before this.
    #[cfg(feature = "shm")]
    pub(in crate::store) fn is_woken(&self, record: u16) -> bool {
        // Not a plain load: that could be answered by what stood there before it was taken.
        let last = self.word(Word::Rung, record).fetch_or(0, AcqRel);
        last != 0 && BootTime::now().as_nanos().saturating_sub(last) < RING_AGAIN
    }

    /// Makes the waiter with this record of this process look at its own bell; the others sleep on.
    pub(in crate::store) fn ring_for(&self, record: u16) {
        self.ring(self.process, bit(record));
    }

    /// What to compare with when going to sleep.
    pub(in crate::store) fn bell_now(&self) -> u32 {
        self.bell_of(self.process).load(Acquire)
    }

    /// Takes the word that was left for a record of this process.
    pub(in crate::store) fn take_rung(&self, record: u16) -> bool {
        Groups(self).hear(record)
    }

    /// Sleeps while the bell is as it was; for one record, or for the event loops' thread.
    /// `Some(errno)` if that ended early.
    pub(in crate::store) fn sleep(
        &self,
        bell: u32,
        record: Option<u16>,
        left: std::time::Duration,
    ) -> Option<i32> {
        let mut until = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `until` is valid for writes.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut until) };
        until.tv_sec += left.as_secs() as libc::time_t;
        until.tv_nsec += libc::c_long::from(left.subsec_nanos());
        if until.tv_nsec >= 1_000_000_000 {
            until.tv_sec += 1;
            until.tv_nsec -= 1_000_000_000;
        }
        // SAFETY: the word lies in the mapping, `until` outlives the call.
        let done = unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.bell_of(self.process).as_ptr(),
                libc::FUTEX_WAIT_BITSET,
                bell,
                &raw const until,
                std::ptr::null::<u32>(),
                record.map_or(BRIDGE, bit),
            )
        };
        (done < 0).then(|| std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if !self.byte.is_ours() {
            return;
        }
        // Given back in order, so that the next process need not ask who died.
        for group in 0..self.groups_used() {
            if Table::owner(self, group).load(Acquire) == self.me {
                Groups(self).give(group);
            }
        }
    }
}

impl Table for Member {
    fn owner(&self, group: u16) -> &AtomicU64 {
        let last = self.segment.geometry.groups() - 1;
        let at = self.segment.groups_at + u64::from(group.min(last)) * 8;
        self.segment.word(at)
    }
    fn life(&self, record: u16) -> &AtomicU64 {
        self.word(Word::Life, record)
    }
    fn place(&self, record: u16) -> &AtomicU64 {
        self.word(Word::Place, record)
    }
    fn late(&self, record: u16) -> &AtomicU64 {
        self.word(Word::Late, record)
    }
    fn rung(&self, record: u16) -> &AtomicU64 {
        self.word(Word::Rung, record)
    }
    fn records_of(&self, group: u16) -> Range<u16> {
        group * GROUP..(group + 1) * GROUP
    }
    fn group_of(&self, record: u16) -> u16 {
        record / GROUP
    }
}

fn bit(record: u16) -> u32 {
    1 << (record % 31)
}
