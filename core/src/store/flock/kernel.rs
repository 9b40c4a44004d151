//! Who holds which file, as the kernel shows it: `/proc/locks`, which changes nothing by looking.
//!
//! It leaves out holders in other PID namespaces, so an absence proves nothing.

use crate::store::files::again;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Result};
use std::os::fd::RawFd;

/// A line about one `flock(2)`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct KernelLock {
    pub(super) device: (u32, u32),
    pub(super) inode: u64,
    pub(super) pid: u32,
    pub(super) exclusive: bool,
    /// A caller of the blocking call that does not have it yet.
    pub(super) waits: bool,
}

/// How often a list that does not fit into one read is read.
const PASSES: u32 = 4;

/// Every `flock(2)` lock that this process may see.
///
/// The kernel gives out a page at a time and finds its place again by counting, so locks that come or go
/// between two reads make it repeat or skip others. A list of several pages is therefore read several
/// times; what was seen once counts, and what is seen again counts once.
pub(super) fn locks() -> Result<Vec<KernelLock>> {
    let mut pages = read_list()?;
    if pages.len() > 1 {
        for _ in 1..PASSES {
            pages.extend(read_list()?);
        }
    }
    Ok(merge(&pages))
}

/// The list, as it came. A line never lies across two reads.
fn read_list() -> Result<Vec<String>> {
    let mut file = again(|| File::open("/proc/locks"))?;
    let mut page = vec![0; 64 * 1024];
    let mut pages = Vec::new();
    loop {
        let got = again(|| file.read(&mut page))?;
        if got == 0 {
            return Ok(pages);
        }
        pages.push(String::from_utf8_lossy(&page[..got]).into_owned());
    }
}

/// One page is true to one moment: if it has two equal lines, a process has two shared holds. The same
/// line in two pages is one hold, seen twice.
fn merge(pages: &[String]) -> Vec<KernelLock> {
    let mut found = Vec::new();
    let mut most: HashMap<KernelLock, usize> = HashMap::new();
    for page in pages {
        let mut here: HashMap<KernelLock, usize> = HashMap::new();
        for lock in page.lines().filter_map(parse) {
            let count = here.entry(lock).or_default();
            *count += 1;
            let known = most.entry(lock).or_default();
            if *count > *known {
                *known = *count;
                found.push(lock);
            }
        }
    }
    found
}

fn parse(line: &str) -> Option<KernelLock> {
    let mut words = line.split_ascii_whitespace().skip(1).peekable();
    let waits = words.next_if_eq(&"->").is_some();
    if words.next()? != "FLOCK" {
        return None;
    }
    let exclusive = words.nth(1)? == "WRITE";
    let pid = words.next()?.parse().ok()?;
    let mut file = words.next()?.split(':');
    let mut hex = || u32::from_str_radix(file.next()?, 16).ok();
    let device = (hex()?, hex()?);
    Some(KernelLock {
        device,
        inode: file.next()?.parse().ok()?,
        pid,
        exclusive,
        waits,
    })
}

/// The device number under which `/proc/locks` shows files of the directory `fd`. On Btrfs and
/// overlay it is not the one that `stat` gives, so it is taken from the mount; `otherwise` if that
/// cannot be read.
pub(super) fn device(fd: RawFd, otherwise: u64) -> (u32, u32) {
    let from_mount = || {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
        let mount = info
            .lines()
            .find_map(|line| line.strip_prefix("mnt_id:"))?
            .trim()
            .to_owned();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
        mounts.lines().find_map(|line| {
            let mut words = line.split_ascii_whitespace();
            if words.next()? != mount {
                return None;
            }
            let (major, minor) = words.nth(1)?.split_once(':')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        })
    };
    from_mount().unwrap_or_else(|| (libc::major(otherwise), libc::minor(otherwise)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kernel_are_read() {
        let held = parse("12: FLOCK  ADVISORY  WRITE 1234 fd:0a:987654321 0 EOF").unwrap();
        assert_eq!(
            held,
            KernelLock {
                device: (0xfd, 0x0a),
                inode: 987_654_321,
                pid: 1234,
                exclusive: true,
                waits: false
            }
        );
        let waiting = parse("12: -> FLOCK  ADVISORY  READ 7 00:1b:2 0 EOF").unwrap();
        assert!(waiting.waits && !waiting.exclusive);
        assert_eq!(parse("1: OFDLCK ADVISORY  WRITE -1 fd:0a:9 0 EOF"), None);
        assert_eq!(parse(""), None);
        assert_eq!(parse("1: FLOCK ADVISORY"), None);
    }

    #[test]
    fn a_hold_that_the_kernel_shows_in_two_pages_is_one() {
        let line = |number: u32, mode: &str, pid: u32| {
            format!("{number}: FLOCK  ADVISORY  {mode} {pid} fd:0a:9 0 EOF\n")
        };
        let pages = [
            line(1, "WRITE", 1) + &line(2, "READ ", 2) + &line(3, "READ ", 2),
            line(4, "READ ", 2) + &line(5, "READ ", 3),
            // The next pass, which skips one and repeats another.
            line(1, "WRITE", 1) + &line(2, "READ ", 2),
            line(3, "READ ", 3) + &line(4, "READ ", 4),
        ];
        let pids: Vec<u32> = merge(&pages).iter().map(|lock| lock.pid).collect();
        assert_eq!(pids, [1, 2, 2, 3, 4]);
    }
}
