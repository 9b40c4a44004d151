//! The bytes whose locks say who lives: one for each process, far behind the file's end, in the same place
//! in every layout.

use super::file::Segment;
use super::layout::{entry, process_at};
use crate::Result;
use crate::fork::{ForkWatch, ProcessFd};
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// Where they begin.
const BYTES_AT: i64 = 1 << 40;
const MOST_TRIES: u32 = 100;

/// Opens the description whose locks say that we live, when no thread forks: a child's copy would
/// speak for us after our death.
pub(super) fn open_quietly(segment: &Segment) -> Result<ProcessFd> {
    let mut tries = 0;
    loop {
        let watch = ForkWatch::start();
        let fd: OwnedFd = segment.reopen()?;
        let fd = ProcessFd::new(fd);
        tries += 1;
        // Where forks never end, a child's copy that outlives us is the lesser evil.
        if watch.is_quiet() || tries == MOST_TRIES {
            return Ok(fd);
        }
    }
}

fn byte_lock(process: u16, count: u16) -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: BYTES_AT + i64::from(process),
        l_len: i64::from(count),
        l_pid: 0,
    }
}

pub(super) fn lock_byte(fd: &ProcessFd, process: u16) -> bool {
    let lock = byte_lock(process, 1);
    // SAFETY: `lock` is a valid description of a byte range.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) == 0 }
}

/// Whether another description has the byte; in doubt, yes.
pub(in crate::store) fn is_byte_locked(fd: &ProcessFd, process: u16) -> bool {
    let mut lock = byte_lock(process, 1);
    // SAFETY: `lock` is valid for reads and writes.
    let asked = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    asked != 0 || i32::from(lock.l_type) != libc::F_UNLCK
}

/// The ids of the processes that are attached to a file of whatever layout, as far as they can be read.
pub(super) fn attached(fd: &OwnedFd, processes: u16) -> Vec<u32> {
    let mut pids = Vec::new();
    let Ok(file) = fd.try_clone().map(File::from) else {
        return pids;
    };
    let mut ranges = vec![(0, processes)];
    while let Some((first, count)) = ranges.pop() {
        let Some(process) = locked_in(&file, first, count) else {
            continue;
        };
        let mut pid = [0; 4];
        if file
            .read_exact_at(&mut pid, process_at(process) + entry::PID)
            .is_ok()
        {
            pids.push(u32::from_ne_bytes(pid));
        }
        // Which one of several is told of is the kernel's choice.
        ranges.push((first, process - first));
        ranges.push((process + 1, first + count - process - 1));
    }
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// A byte of the range that another description has.
fn locked_in(file: &File, first: u16, count: u16) -> Option<u16> {
    if count == 0 {
        return None; // to the kernel, that would mean all that follow
    }
    let mut lock = byte_lock(first, count);
    // SAFETY: `lock` is valid for reads and writes.
    let asked = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    let is_locked = asked == 0 && i32::from(lock.l_type) != libc::F_UNLCK;
    let process = lock.l_start.max(BYTES_AT + i64::from(first)) - BYTES_AT;
    is_locked
        .then(|| u16::try_from(process).unwrap_or(u16::MAX))
        .filter(|process| (first..first + count).contains(process))
}
