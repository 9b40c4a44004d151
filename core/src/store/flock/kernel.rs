//! Who holds which file, as the kernel shows it: `/proc/locks`, which changes nothing by looking.
//!
//! It leaves out holders in other PID namespaces, so an absence proves nothing.

use crate::store::files::again;
use std::collections::HashSet;
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
/// The kernel gives out a page at a time and finds its place again by counting, so locks that go
/// between two reads make it skip others. A list of several pages is therefore read several times;
/// what was seen once counts.
pub(super) fn locks() -> Result<Vec<KernelLock>> {
    let (text, pages) = read_list()?;
    let mut found: Vec<KernelLock> = text.lines().filter_map(parse).collect();
    if pages > 1 {
        let mut seen: HashSet<KernelLock> = found.iter().copied().collect();
        for _ in 1..PASSES {
            let (text, _) = read_list()?;
            let more = text.lines().filter_map(parse);
            found.extend(more.filter(|lock| seen.insert(*lock)));
        }
    }
    Ok(found)
}

/// The list, and in how many pieces it came.
fn read_list() -> Result<(String, u32)> {
    let mut file = again(|| File::open("/proc/locks"))?;
    let mut bytes = Vec::new();
    let mut page = vec![0; 64 * 1024];
    let mut reads = 0;
    loop {
        let got = again(|| file.read(&mut page))?;
        if got == 0 {
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), reads));
        }
        reads += 1;
        bytes.extend_from_slice(&page[..got]);
    }
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
}
