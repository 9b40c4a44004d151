//! For whoever looks after the locks: inspect, list, break, clean up.

use super::companion::Watch;
use super::config::Config;
use super::dialect::Dialect;
use super::directory::{Directory, UNFINISHED};
use super::file::{DirectoryLock, GATE, LockFile};
use super::header::Header;
use super::kernel::{self, KernelLock};
use super::names;
use super::store::{Flock, cannot_lock, cannot_look};
use crate::codes::Code;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::store::files::{again, again_nix};
use crate::store::{Holder, Inspection, Page, this_host};
use crate::url::Url;
use crate::{Error, Result};
use std::collections::HashSet;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::sync::Arc;
use std::time::Duration;

/// How long breaking and cleaning wait for each other without a deadline.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(1);
const LONGEST_POLL: Duration = Duration::from_millis(50);
/// How often the kernel is asked about a lock that somebody holds and it does not show: the holder may
/// be in another PID namespace.
const LOOKS: u32 = 3;
/// A file that never got its name is left over after this.
const LEFT_OVER: Duration = Duration::from_secs(60);

/// Removes the files of locks that nobody holds, and what crashed makers of files left behind; how
/// many were removed. Safe at any time: a file goes only while its lock is ours and its path still
/// leads to it, and whoever had it open notices. Files with a fencing counter stay.
///
/// # Errors
/// As [`super::open`], and trouble with the directory.
pub fn clean_up(url: &str) -> Result<u64> {
    let mut url = Url::parse(url, &[])?;
    let config = Config::take(&mut url)?;
    url.finish()?;
    if !config.dialect.is_native() {
        return Err(Error::unsupported(
            "the peers of a dialect may have its files open and would not notice",
        ));
    }
    let store = Flock::new(config);
    store
        .clean()
        .map_err(|error| error.with_operation("clean up").with_store(&url_of(&store)))
}

fn url_of(store: &Flock) -> String {
    crate::store::Backend::url(store).to_owned()
}

/// Entries of a directory: inode and name.
fn entries(directory: &File) -> Result<Vec<(u64, String)>> {
    // By its descriptor, since the path may lead elsewhere by now.
    let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let listed = again(|| std::fs::read_dir(&path))
        .map_err(|error| Error::from_io(error, "the directory cannot be listed"))?;
    let mut found = Vec::new();
    for entry in listed {
        let entry =
            entry.map_err(|error| Error::from_io(error, "the directory cannot be listed"))?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((entry.ino(), name));
        }
    }
    Ok(found)
}

impl Flock {
    pub(super) fn ping_directory(&self) -> Result<()> {
        let directory = File::from(self.directory()?.reopen()?);
        if !self.config.dialect.is_native() {
            // A peer may lock the directory itself.
            return Ok(());
        }
        // Whether this file system has flock at all; busy is an answer too.
        let taken = DirectoryLock::try_take(directory);
        taken.map(drop).map_err(cannot_lock)
    }

    /// Breaking and cleaning take turns, by a lock on the directory itself.
    fn turn(&self, directory: &Directory, deadline: Option<BootTime>) -> Result<DirectoryLock> {
        let until = deadline.unwrap_or_else(|| BootTime::now().after(PATIENCE));
        loop {
            let file = File::from(directory.reopen()?);
            if let Some(turn) = DirectoryLock::try_take(file).map_err(cannot_lock)? {
                return Ok(turn);
            }
            if until.has_passed() {
                return Err(Error::new(
                    Code::Unavailable,
                    "somebody else is breaking locks or cleaning up",
                ));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The kernel's lines about one file, if it may be asked.
    fn lines_about(&self, file: &LockFile) -> Result<Vec<KernelLock>> {
        let device = kernel::device(self.directory()?.as_raw_fd(), file.inode().0);
        let all = kernel::locks().unwrap_or_default();
        Ok(all
            .into_iter()
            .filter(|lock| (lock.device, lock.inode) == (device, file.inode().1))
            .collect())
    }

    /// Whether somebody holds the file. `file` must be a description that holds nothing.
    fn is_locked(&self, file: &LockFile) -> Result<bool> {
        if self.lines_about(file)?.iter().any(|lock| !lock.waits) {
            return Ok(true);
        }
        // A holder in another PID namespace is not shown. Trying disturbs: for an instant the lock
        // is ours.
        if !file.try_lock(Mode::Exclusive).map_err(cannot_lock)? {
            return Ok(true);
        }
        file.unlock().map_err(cannot_lock)?;
        Ok(false)
    }

    pub(super) fn inspect_name(&self, name: &Name) -> Result<Inspection> {
        let mut found = Inspection {
            name: name.as_bytes().to_vec(),
            holders: Vec::new(),
            waiters: self.waiters(name),
        };
        // Its own description, so that trying it says something.
        if let Some(file) = self.open_file(name, false)? {
            found.holders = self.holders(&file)?;
        }
        Ok(found)
    }

    fn waiters(&self, name: &Name) -> Option<u32> {
        let companion = &self.process().companion;
        companion.waiters(self.line(name))
    }

    fn holders(&self, file: &LockFile) -> Result<Vec<Holder>> {
        let mut lines = self.lines_about(file)?;
        let native = self.config.dialect.is_native();
        let header = native.then(|| Header::read(file).ok()).flatten();
        let me = std::process::id();
        let mut holders = self.own_holders(file);
        // Where many locks come and go the kernel may skip a line: asked again, if somebody is there.
        for _ in 0..LOOKS {
            let seen = lines.iter().any(|line| !line.waits);
            if seen || !holders.is_empty() || !self.is_locked(file)? {
                break;
            }
            lines = self.lines_about(file)?;
        }
        for line in lines.iter().filter(|line| !line.waits && line.pid != me) {
            let label = header.as_ref().and_then(Header::label);
            holders.push(Holder {
                owner: format!("pid {}", line.pid),
                mode: if line.exclusive {
                    "exclusive"
                } else {
                    "shared"
                },
                permits: 1,
                host: this_host(),
                pid: Some(line.pid),
                label: label
                    .filter(|(pid, text)| *pid == line.pid && !text.is_empty() && line.exclusive)
                    .map(|(_, text)| text.to_owned()),
                remaining: None,
                held: None,
                fence: header
                    .as_ref()
                    .and_then(Header::last_fence)
                    .filter(|_| line.exclusive),
                brand: None,
            });
        }
        if holders.is_empty() && self.is_locked(file)? {
            holders.push(Holder {
                owner: "unknown".to_owned(),
                mode: "exclusive",
                permits: 1,
                host: this_host(),
                ..Holder::default()
            });
        }
        Ok(holders)
    }

    /// Holds of this process, about which more is known.
    fn own_holders(&self, file: &LockFile) -> Vec<Holder> {
        let now = BootTime::now();
        let own = self.process().all_held().into_iter();
        let own = own.filter(|(_, held)| held.file.inode() == file.inode());
        own.map(|(token, held)| Holder {
            owner: token.to_hex()[..8].to_owned(),
            mode: held.mode.kind(),
            permits: 1,
            host: this_host(),
            pid: Some(std::process::id()),
            label: held.label.as_deref().map(str::to_owned),
            remaining: None,
            held: Some(now.since(held.since)),
            fence: held.fence,
            brand: token.brand(),
        })
        .collect()
    }

    /// Held locks in the order of their file names; the cursor is the last file name looked at.
    pub(super) fn list_page(
        &self,
        prefix: &[u8],
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page> {
        if self.config.dialect == Dialect::Symfony {
            return Err(Error::unsupported(
                "Symfony's file names do not say the whole name of a lock",
            ));
        }
        if cursor.is_some_and(|cursor| cursor.is_empty() || cursor.contains(['/', '\0'])) {
            return Err(Error::invalid("this is no cursor of ours"));
        }
        let directory = self.directory()?;
        let listing = File::from(directory.reopen()?);
        let stat = listing
            .metadata()
            .map_err(|error| Error::from_io(error, "the directory has no state"))?;
        let device = kernel::device(listing.as_raw_fd(), stat.dev());
        let mut held: HashSet<u64> = kernel::locks()
            .map_err(|error| Error::from_io(error, "the kernel does not show its locks"))?
            .into_iter()
            .filter(|lock| lock.device == device && !lock.waits)
            .map(|lock| lock.inode)
            .collect();
        let own = self.process().all_held().into_iter();
        held.extend(own.map(|(_, held)| held.file.inode().1));
        let mut files: Vec<String> = entries(&listing)?
            .into_iter()
            .filter(|(inode, name)| held.contains(inode) && self.may_be_lock(name))
            .map(|(_, name)| name)
            .filter(|name| cursor.is_none_or(|cursor| name.as_str() > cursor))
            .collect();
        files.sort_unstable();
        let mut page = Page::default();
        for name in files {
            if page.locks.len() >= limit {
                break;
            }
            page.cursor = Some(name.clone());
            // What is not a lock file of ours is not listed.
            let Ok(Some(file)) = directory.file(&self.config, name.as_ref(), false) else {
                continue;
            };
            let Some(lock_name) = self.name_of(&name, &file) else {
                continue;
            };
            if !lock_name.starts_with(prefix) {
                continue;
            }
            let holders = self.holders(&file)?;
            if !holders.is_empty() {
                page.locks.push(Inspection {
                    name: lock_name,
                    holders,
                    waiters: None,
                });
            }
        }
        if page.locks.len() < limit {
            page.cursor = None;
        }
        Ok(page)
    }

    /// Whether a file of this name may be a lock's.
    fn may_be_lock(&self, file_name: &str) -> bool {
        match self.config.dialect {
            Dialect::File => !file_name.starts_with(".synlock"),
            _ => !file_name.starts_with('.'),
        }
    }

    fn name_of(&self, file_name: &str, file: &LockFile) -> Option<Vec<u8>> {
        if !self.config.dialect.is_native() || names::is_plain(file_name.as_bytes()) {
            return Some(file_name.as_bytes().to_vec());
        }
        let header = Header::read(file).ok()?;
        header.name().map(|(name, _)| name.to_vec())
    }

    pub(super) fn wait_until_free(&self, name: &Name, until: BootTime) -> Result<bool> {
        let mut pause = PAUSE;
        let mut known: Option<Arc<LockFile>> = None;
        let mut watch: Option<Watch> = None;
        loop {
            if let Some(file) = &known
                && file.current().map_err(cannot_look)?.is_none()
            {
                known = None;
            }
            if known.is_none() {
                known = self.open_file(name, false)?;
            }
            match &known {
                Some(file) if self.is_locked(file)? => {}
                _ => return Ok(true),
            }
            let left = until.left();
            if left.is_zero() {
                return Ok(false);
            }
            // Holders that die and strangers that let go tell nobody.
            let next = BootTime::now().after(pause).min(until);
            if watch.is_none() {
                watch = self.process().companion.watch(self.line(name));
                if watch.is_some() {
                    // It may have come free before it was watched.
                    continue;
                }
            }
            match &watch {
                Some(watch) => {
                    watch.sleep(next);
                }
                None => std::thread::sleep(next.left()),
            }
            pause = (pause * 2).min(LONGEST_POLL);
        }
    }

    /// Puts a new file in the place of one that somebody holds. The holder's path leads elsewhere
    /// from then on, which its next check finds out.
    pub(super) fn break_name(&self, name: &Name, deadline: Option<BootTime>) -> Result<bool> {
        if !self.config.dialect.is_native() {
            return Err(Error::unsupported(
                "a peer that waits for the old file would hold it beside whoever has the new one",
            ));
        }
        let directory = self.directory()?;
        let _turn = self.turn(&directory, deadline)?;
        let Some(file) = self.open_file(name, false)? else {
            return Ok(false);
        };
        if !self.is_locked(&file)? {
            return Ok(false);
        }
        let (fd, unfinished) = directory.unfinished(&self.config)?;
        let placed = self.fill(fd, &file, name).and_then(|()| {
            directory.replace(&unfinished, names::file_name(name.as_bytes()).as_ref())
        });
        if placed.is_err() {
            directory.discard(&unfinished);
        }
        placed.map(|()| true)
    }

    /// In the file that has taken the broken one's place, where whoever held that one looks.
    pub(super) fn note_in_file(&self, name: &Name, label: &str) -> Result<()> {
        let Some(file) = self.open_file(name, false)? else {
            return Ok(());
        };
        let mut header = Header::read(&file)?;
        if !header.is_whole {
            header.write_fixed(&file, name.as_bytes())?;
        }
        header.set_breaker(&file, label)
    }

    pub(super) fn breaker_in_file(&self, name: &Name) -> Result<Option<Holder>> {
        let Some(file) = self.open_file(name, false)? else {
            return Ok(None);
        };
        let header = Header::read(&file)?;
        Ok(header.breaker().map(|(pid, label)| Holder {
            label: Some(label.to_owned()),
            pid: Some(pid),
            host: this_host(),
            ..Holder::default()
        }))
    }

    /// Carries the header over, with a counter that the broken file cannot reach any more.
    fn fill(&self, fd: std::os::fd::OwnedFd, old: &LockFile, name: &Name) -> Result<()> {
        let old = Header::read(old)?;
        if !old.is_whole {
            return Ok(());
        }
        let stat = again_nix(|| nix::sys::stat::fstat(&fd))
            .map_err(|error| Error::from_io(error.into(), "a new lock file has no state"))?;
        let file = LockFile::new(fd, std::ffi::CString::default(), &stat);
        let mut header = Header::read(&file)?;
        header.write_fixed(&file, name.as_bytes())?;
        header.leap(&file, &old)
    }

    fn clean(&self) -> Result<u64> {
        let directory = self.directory()?;
        let turn = self.turn(&directory, None)?;
        let mut removed = 0;
        for (_, name) in entries(&turn)? {
            let done = if name.starts_with(UNFINISHED) {
                self.clean_left_over(&directory, &turn, &name)
            } else if name.starts_with('.') {
                Ok(false)
            } else {
                self.clean_file(&directory, &name)
            };
            // Files that are not ours to judge stay.
            removed += u64::from(done.unwrap_or(false));
        }
        Ok(removed)
    }

    fn clean_file(&self, directory: &Directory, name: &str) -> Result<bool> {
        let Some(file) = directory.file(&self.config, name.as_ref(), false)? else {
            return Ok(false);
        };
        if !file.try_lock(Mode::Exclusive).map_err(cannot_lock)? {
            return Ok(false);
        }
        let remove = || {
            let Some(seen) = file.current().map_err(cannot_look)? else {
                return Ok(false);
            };
            // Somebody may have let go for an instant, to change its mode.
            if file.is_byte_locked(GATE).map_err(cannot_lock)? {
                return Ok(false);
            }
            if seen.has_content && Header::read(&file)?.last_fence().is_some() {
                return Ok(false);
            }
            directory.remove(name.as_ref()).map(|()| true)
        };
        let removed = remove();
        let _ = file.unlock();
        removed
    }

    fn clean_left_over(&self, directory: &Directory, turn: &File, name: &str) -> Result<bool> {
        let path = format!("/proc/self/fd/{}/{name}", turn.as_raw_fd());
        let made = std::fs::symlink_metadata(path)
            .and_then(|data| data.modified())
            .map_err(cannot_look)?;
        if made.elapsed().is_ok_and(|age| age > LEFT_OVER) {
            return directory.remove(name.as_ref()).map(|()| true);
        }
        Ok(false)
    }
}
