//! One open lock file: the only place that asks the kernel for locks.
//!
//! fs2 is called in full: `lock_shared` and `unlock` written with a dot are the standard library's
//! methods since Rust 1.89, not fs2's.

use crate::fork::ProcessFd;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::store::files::{again, again_nix, check_file_limit};
use nix::sys::stat::FileStat;
use std::ffi::CString;
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Byte whose open-file-description lock means: a hold of this file is changing its mode.
pub(super) const GATE: i64 = 1 << 40;
/// Byte whose open-file-description lock protects the counter among shared holders.
pub(super) const COUNTER: i64 = GATE + 1;

/// For how long a look at the path counts, as long as the file's change time stands still.
const LOOK_COUNTS: Duration = Duration::from_millis(10);
/// A change time older than this when it was read would not be given to a later change: the kernel
/// stamps by a clock that may stand still for up to 10 ms.
const SETTLED: Duration = Duration::from_millis(100);

/// A file as its path leads to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) links: u64,
    pub(super) has_content: bool,
}

/// An open file description of its own, at most one hold.
#[derive(Debug)]
pub(super) struct LockFile {
    fd: ProcessFd,
    path: CString,
    dev: u64,
    ino: u64,
    /// A byte's lock could not be let go: only closing does, so it is not to be used again.
    spoilt: AtomicBool,
    /// Change time of the file when its path was last looked at, 0 if that proves nothing.
    settled: AtomicU64,
    /// When that was.
    looked: AtomicU64,
}

#[inline]
fn seen(stat: &FileStat) -> Seen {
    Seen {
        links: stat.st_nlink,
        has_content: stat.st_size > 0,
    }
}

/// In nanoseconds; 0 for what cannot be told so.
#[inline]
fn change_time(stat: &FileStat) -> u64 {
    let (seconds, nanos) = (
        u64::try_from(stat.st_ctime).unwrap_or(0),
        u64::try_from(stat.st_ctime_nsec).unwrap_or(0),
    );
    seconds
        .checked_mul(1_000_000_000)
        .and_then(|ns| ns.checked_add(nanos))
        .unwrap_or(0)
}

impl LockFile {
    pub(super) fn new(fd: OwnedFd, path: CString, stat: &FileStat) -> Self {
        LockFile {
            fd: ProcessFd::new(fd),
            path,
            dev: stat.st_dev,
            ino: stat.st_ino,
            spoilt: AtomicBool::new(false),
            settled: AtomicU64::new(0),
            looked: AtomicU64::new(0),
        }
    }

    pub(super) fn is_spoilt(&self) -> bool {
        self.spoilt.load(Ordering::Relaxed)
    }

    fn file(&self) -> ManuallyDrop<File> {
        // SAFETY: the descriptor is open for as long as `self` lives in the process that opened it
        // (a child has no way to reach it), and `ManuallyDrop` leaves it open.
        ManuallyDrop::new(unsafe { File::from_raw_fd(self.fd.as_raw_fd()) })
    }

    pub(super) fn inode(&self) -> (u64, u64) {
        (self.dev, self.ino)
    }

    /// Takes the lock in this mode if nobody is in the way. On a description that holds it already
    /// this is a conversion, *which lets go of the old mode first*.
    #[inline]
    pub(super) fn try_lock(&self, mode: Mode) -> Result<bool> {
        let file = self.file();
        let done = again(|| match mode {
            Mode::Shared => fs2::FileExt::try_lock_shared(&*file),
            Mode::Exclusive | Mode::Permits { .. } => fs2::FileExt::try_lock_exclusive(&*file),
        });
        match done {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(_) if cfg!(canary = "trouble_is_a_grant") => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Lets go, also of copies of the descriptor that a forked child may not have closed yet.
    #[inline]
    pub(super) fn unlock(&self) -> Result<()> {
        let file = self.file();
        again(|| fs2::FileExt::unlock(&*file))
    }

    /// What the file is if its path still leads to it: it may have been removed, renamed, replaced.
    #[cold]
    pub(super) fn current(&self) -> Result<Option<Seen>> {
        let looked = BootTime::coarse_nanos();
        let stat = match again_nix(|| nix::sys::stat::lstat(self.path.as_c_str())) {
            Ok(stat) if (stat.st_dev, stat.st_ino) == (self.dev, self.ino) => stat,
            Ok(_) | Err(nix::Error::ENOENT | nix::Error::ENOTDIR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let changed = change_time(&stat);
        let age = SystemTime::now()
            .duration_since(UNIX_EPOCH + Duration::from_nanos(changed))
            .unwrap_or_default();
        let settled = if age > SETTLED { changed } else { 0 };
        self.settled.store(settled, Ordering::Relaxed);
        self.looked.store(looked, Ordering::Relaxed);
        Ok(Some(seen(&stat)))
    }

    /// As `current`, at a third of the cost if the path was looked at a moment ago: whatever
    /// removes, renames or replaces a file gives it a new change time. Only a directory that was
    /// swapped in these few milliseconds goes unseen. `now` is the coarse clock's, just read.
    #[inline]
    pub(super) fn glance(&self, now: u64) -> Result<Option<Seen>> {
        let settled = self.settled.load(Ordering::Relaxed);
        let since = now.saturating_sub(self.looked.load(Ordering::Relaxed));
        if settled != 0 && since < LOOK_COUNTS.as_nanos() as u64 {
            let stat = again_nix(|| self.state())?;
            if stat.st_nlink == 1 && change_time(&stat) == settled {
                return Ok(Some(seen(&stat)));
            }
        }
        self.current()
    }

    /// By the bare call: the C library's `fstat` asks by an empty path, which takes longer. On these
    /// machines the kernel's structure is the library's.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[inline]
    fn state(&self) -> nix::Result<FileStat> {
        let mut stat = std::mem::MaybeUninit::<FileStat>::uninit();
        let fd = self.fd.as_raw_fd();
        // SAFETY: the kernel writes one structure of this kind into `stat`.
        let done = unsafe { libc::syscall(libc::SYS_fstat, fd, stat.as_mut_ptr()) };
        nix::errno::Errno::result(done)?;
        // SAFETY: the call succeeded.
        Ok(unsafe { stat.assume_init() })
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn state(&self) -> nix::Result<FileStat> {
        // SAFETY: open for as long as `self` lives in the process that opened it.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(self.fd.as_raw_fd()) };
        nix::sys::stat::fstat(fd)
    }

    /// Takes one byte's open-file-description lock; false if another description has it.
    pub(super) fn try_lock_byte(&self, byte: i64) -> Result<bool> {
        match self.byte_lock(libc::F_OFD_SETLK, byte, libc::F_WRLCK) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn unlock_byte(&self, byte: i64) {
        if self
            .byte_lock(libc::F_OFD_SETLK, byte, libc::F_UNLCK)
            .is_err()
        {
            self.spoilt.store(true, Ordering::Relaxed);
        }
    }

    /// Whether another description has the byte.
    pub(super) fn is_byte_locked(&self, byte: i64) -> Result<bool> {
        self.byte_lock(libc::F_OFD_GETLK, byte, libc::F_WRLCK)
            .map(|kind| kind != libc::F_UNLCK)
    }

    fn byte_lock(&self, command: i32, byte: i64, kind: i32) -> Result<i32> {
        let mut wish = libc::flock {
            l_type: kind as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: byte,
            l_len: 1,
            l_pid: 0,
        };
        again(|| {
            // SAFETY: an open descriptor and a structure that is valid for the call.
            let done = unsafe { libc::fcntl(self.fd.as_raw_fd(), command, &raw mut wish) };
            if done < 0 {
                Err(Error::last_os_error())
            } else {
                Ok(i32::from(wish.l_type))
            }
        })
    }

    /// Reads from the beginning, as much as there is.
    pub(super) fn read(&self, buffer: &mut [u8]) -> Result<usize> {
        let file = self.file();
        let mut filled = 0;
        while filled < buffer.len() {
            match again(|| file.read_at(&mut buffer[filled..], filled as u64))? {
                0 => break,
                got => filled += got,
            }
        }
        Ok(filled)
    }

    /// Writes, unless that would be beyond the host's limit on file sizes.
    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        check_file_limit(offset + bytes.len() as u64)?;
        self.file().write_all_at(bytes, offset)
    }
}

/// The directory's own lock. Let go when dropped: closing the descriptor does not do that while a forked child has
/// a copy of it.
pub(super) struct DirectoryLock(File);

impl DirectoryLock {
    /// Takes it, unless somebody has it.
    pub(super) fn try_take(directory: File) -> Result<Option<Self>> {
        match again(|| fs2::FileExt::try_lock_exclusive(&directory)) {
            Ok(()) => Ok(Some(DirectoryLock(directory))),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl std::ops::Deref for DirectoryLock {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        let _ = fs2::FileExt::unlock(&self.0);
    }
}
