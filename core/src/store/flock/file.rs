//! One open lock file: the only place that asks the kernel for locks.
//!
//! fs2 is called in full: `lock_shared` and `unlock` written with a dot are the standard library's
//! methods since Rust 1.89, not fs2's.

use crate::fork::ProcessFd;
use crate::mode::Mode;
use nix::sys::stat::FileStat;
use std::ffi::CString;
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

/// Byte whose open-file-description lock means: a hold of this file is changing its mode.
pub(super) const GATE: i64 = 1 << 40;
/// Byte whose open-file-description lock protects the counter among shared holders.
pub(super) const COUNTER: i64 = GATE + 1;

/// An open file description of its own, at most one hold.
#[derive(Debug)]
pub(super) struct LockFile {
    fd: ProcessFd,
    path: CString,
    dev: u64,
    ino: u64,
    /// A byte's lock could not be let go: only closing does, so it is not to be used again.
    spoilt: AtomicBool,
}

/// Repeats a call that a signal cut short.
pub(super) fn again<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

impl LockFile {
    pub(super) fn new(fd: OwnedFd, path: CString, stat: &FileStat) -> Self {
        LockFile {
            fd: ProcessFd::new(fd),
            path,
            dev: stat.st_dev,
            ino: stat.st_ino,
            spoilt: AtomicBool::new(false),
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
    pub(super) fn try_lock(&self, mode: Mode) -> Result<bool> {
        let file = self.file();
        let done = again(|| match mode {
            Mode::Shared => fs2::FileExt::try_lock_shared(&*file),
            Mode::Exclusive | Mode::Permits { .. } => fs2::FileExt::try_lock_exclusive(&*file),
        });
        match done {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Lets go, also of copies of the descriptor that a forked child may not have closed yet.
    pub(super) fn unlock(&self) -> Result<()> {
        let file = self.file();
        again(|| fs2::FileExt::unlock(&*file))
    }

    /// The file's state if its path still leads to it: it may have been removed, renamed, replaced.
    pub(super) fn current(&self) -> Result<Option<FileStat>> {
        match nix::sys::stat::lstat(self.path.as_c_str()) {
            Ok(stat) if (stat.st_dev, stat.st_ino) == (self.dev, self.ino) => Ok(Some(stat)),
            Ok(_) | Err(nix::Error::ENOENT | nix::Error::ENOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
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

    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file().write_all_at(bytes, offset)
    }
}

/// Takes the directory's own lock, which the descriptor's owner drops by closing it.
pub(super) fn try_lock_directory(directory: &File) -> Result<bool> {
    match again(|| fs2::FileExt::try_lock_exclusive(directory)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}
