//! The folder of a segment: opened once for each look, trusted only if nobody else can play tricks in
//! it. What is done in it is done through its descriptor: its path may lead elsewhere by now.

use super::config::Config;
use super::guard::{self, PATIENCE};
use super::layout::Kind;
use crate::store::files::{again_nix, check_file_system, io, refuse};
use crate::{Error, Result};
use nix::fcntl::{AT_FDCWD, AtFlags, FlockArg, OFlag, RenameFlags};
use nix::sys::stat::{FileStat, Mode as Bits, SFlag};
use nix::unistd::UnlinkatFlags;
use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the host keeps shared memory: the system's, whoever owns it and wherever it is linked to.
pub(in crate::store) const HOST_DIR: &str = "/dev/shm";

const OWNER_ONLY: Bits = Bits::S_IRUSR.union(Bits::S_IWUSR);

/// An open folder that has passed the checks, and the segment's name in it.
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
    name: OsString,
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn not_regular() -> Error {
    refuse("something that is no regular file is in the segment's place")
}

impl Folder {
    pub(super) fn open(config: &Config) -> Result<Self> {
        let path = config.path.parent().unwrap_or(Path::new("/"));
        let is_hosts = path == Path::new(HOST_DIR);
        let mut flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        if !is_hosts && !cfg!(canary = "follow_links") {
            flags |= OFlag::O_NOFOLLOW;
        }
        let fd =
            again_nix(|| nix::fcntl::open(path, flags, Bits::empty())).map_err(
                |error| match error {
                    nix::Error::ELOOP | nix::Error::ENOTDIR => refuse(
                        "the segment's folder is a symbolic link or something that is no directory",
                    ),
                    _ => io(error, "the segment's folder cannot be opened"),
                },
            )?;
        let stat = again_nix(|| nix::sys::stat::fstat(&fd))
            .map_err(|error| io(error, "the segment's folder has no state"))?;
        let me = nix::unistd::geteuid().as_raw();
        let is_trusted = [me, 0].contains(&stat.st_uid) || config.group == Some(stat.st_gid);
        if !is_trusted && !is_hosts {
            return Err(refuse(format!(
                "the segment's folder belongs to user {}: whoever owns it can take any lock away",
                stat.st_uid
            )));
        }
        if stat.st_mode & 0o002 != 0 && stat.st_mode & libc::S_ISVTX == 0 {
            return Err(refuse(
                "everybody may write to the segment's folder, and it is not sticky",
            ));
        }
        check_file_system(&fd, "the segment's folder")?;
        Ok(Folder {
            fd,
            name: config.path.file_name().unwrap_or_default().to_owned(),
        })
    }

    /// The file that stands in the segment's place.
    pub(super) fn existing(&self) -> Result<Option<OwnedFd>> {
        // Opening a device can have effects of its own, so look first.
        match self.state() {
            _ if cfg!(canary = "follow_links") => {}
            Ok(stat) if kind(&stat) == SFlag::S_IFREG => {}
            Ok(stat) if kind(&stat) == SFlag::S_IFLNK => {
                return Err(refuse("the segment's path leads to a symbolic link"));
            }
            Ok(_) => return Err(not_regular()),
            Err(nix::Error::ENOENT) => return Ok(None),
            Err(error) => return Err(io(error, "the segment cannot be looked at")),
        }
        let mut flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        if !cfg!(canary = "follow_links") {
            flags |= OFlag::O_NOFOLLOW;
        }
        match self.open_at(Path::new(&self.name), flags) {
            Ok(fd) => Ok(Some(fd)),
            Err(nix::Error::ENOENT) => Ok(None),
            Err(nix::Error::ELOOP) => Err(refuse("the segment's path leads to a symbolic link")),
            Err(nix::Error::EACCES | nix::Error::EPERM) => Err(refuse(
                "the segment belongs to another user, who has not shared it (`mode=`, `group=`)",
            )),
            Err(nix::Error::EISDIR | nix::Error::ENXIO | nix::Error::ENODEV) => Err(not_regular()),
            Err(error) => Err(io(error, "the segment cannot be opened")),
        }
    }

    pub(super) fn open_at(&self, name: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        again_nix(|| nix::fcntl::openat(&self.fd, name, flags, OWNER_ONLY))
    }

    fn state(&self) -> nix::Result<FileStat> {
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        again_nix(|| nix::sys::stat::fstatat(&self.fd, self.name.as_os_str(), flags))
    }

    /// Gives a file without a name the segment's.
    pub(super) fn link(&self, file: &OwnedFd) -> Result<()> {
        let itself = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        let (name, follow) = (self.name.as_os_str(), AtFlags::AT_SYMLINK_FOLLOW);
        placed(again_nix(|| {
            nix::unistd::linkat(AT_FDCWD, &itself, &self.fd, name, follow)
        }))
    }

    /// Gives a file of another name the segment's.
    pub(super) fn rename(&self, unfinished: &Path) -> Result<()> {
        let (name, flags) = (self.name.as_os_str(), RenameFlags::RENAME_NOREPLACE);
        placed(again_nix(|| {
            nix::fcntl::renameat2(&self.fd, unfinished, &self.fd, name, flags)
        }))
    }

    pub(super) fn remove(&self, name: &Path) -> nix::Result<()> {
        again_nix(|| nix::unistd::unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir))
    }

    /// Takes away a segment of before the last start of the host: all its holders are gone.
    pub(super) fn remove_old(&self, fd: OwnedFd, stat: &FileStat, kind: Kind) -> Result<()> {
        let patience = match kind {
            Kind::Locks => PATIENCE,
            // Who has no queue polls meanwhile.
            Kind::Queues => Duration::from_millis(20),
        };
        let stuck = "has locked the segment of before the host's last start";
        let lock = guard::lock(fd, FlockArg::LockExclusiveNonblock, patience, stuck)?;
        // Still the one that we looked at: nobody else takes it away while we have its lock.
        let is_same = |now: FileStat| (now.st_dev, now.st_ino) == (stat.st_dev, stat.st_ino);
        if self.state().is_ok_and(is_same) {
            self.remove(Path::new(&self.name))
                .map_err(|error| io(error, "the old segment cannot be removed"))?;
        }
        drop(lock);
        Ok(())
    }
}

fn placed(result: nix::Result<()>) -> Result<()> {
    match result {
        Ok(()) | Err(nix::Error::EEXIST) => Ok(()),
        Err(error) => Err(io(error, "the new segment cannot be put in place")),
    }
}
