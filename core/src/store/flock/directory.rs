//! The directory of lock files: opened once, trusted only if nobody else can play tricks in it.

use super::config::Config;
use super::dialect::Dialect;
use super::file::LockFile;
use crate::codes::Code;
use crate::fork::{ForkWatch, ProcessFd};
use crate::store::files::{again, again_nix, check_file_system, finish, io, refuse};
use crate::{Error, Result};
use nix::fcntl::{AtFlags, OFlag, RenameFlags};
use nix::sys::stat::{FileStat, Mode as Bits, SFlag};
use nix::unistd::UnlinkatFlags;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

/// How often a file may vanish between two looks before that is called trouble.
const MOST_TRIES: u32 = 100;
/// Beginning of the names of files that are not in place yet. Lock names never begin with a dot.
pub(super) const UNFINISHED: &str = ".synlock-new-";

/// An open directory that has passed the checks.
#[derive(Debug)]
pub(super) struct Directory {
    fd: ProcessFd,
    dev: u64,
    ino: u64,
    owner: u32,
}

fn is(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == kind
}

/// Gives a directory that was just made its permissions, before it can be opened for reading.
fn unmask(config: &Config, bits: u32) -> Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let failed = |error| Error::from_io(error, "the permissions cannot be set");
    let fd = again(|| Ok(nix::fcntl::open(&config.dir, flags, Bits::empty())?)).map_err(failed)?;
    let stat = again_nix(|| nix::sys::stat::fstat(&fd))
        .map_err(|error| io(error, "the directory has no state"))?;
    if stat.st_uid != nix::unistd::geteuid().as_raw() {
        return Err(refuse("somebody else put a directory in the way"));
    }
    // Not by its path, which may lead elsewhere by now.
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    again(|| std::fs::set_permissions(&path, PermissionsExt::from_mode(bits))).map_err(failed)
}

impl Directory {
    /// Opens the directory, making it if only it is missing.
    pub(super) fn open(config: &Config) -> Result<Self> {
        let mut flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        if config.dialect.is_native() {
            flags |= OFlag::O_NOFOLLOW;
        }
        let bits = if config.mode & 0o060 != 0 {
            0o770
        } else {
            0o700
        };
        let open = || again(|| Ok(nix::fcntl::open(&config.dir, flags, Bits::empty())?));
        let mut made = false;
        let fd = match open() {
            Err(error)
                if error.raw_os_error() == Some(libc::ENOENT)
                    && config.dialect == Dialect::Symfony =>
            {
                // As Symfony does, for all whom the umask leaves it to.
                again(|| std::fs::create_dir_all(&config.dir))
                    .map_err(|error| Error::from_io(error, "the directory cannot be made"))?;
                open()
            }
            Err(error)
                if error.raw_os_error() == Some(libc::ENOENT) && config.dialect.is_native() =>
            {
                match again_nix(|| nix::unistd::mkdir(&config.dir, Bits::from_bits_truncate(bits)))
                {
                    Ok(()) => made = true,
                    Err(nix::Error::EEXIST) => {}
                    Err(nix::Error::ENOENT) => {
                        return Err(Error::new(
                            Code::Storage,
                            "neither the directory nor its parent exists",
                        ));
                    }
                    Err(error) => return Err(io(error, "the directory cannot be made")),
                }
                match open() {
                    // The umask may have taken the owner's bits.
                    Err(error) if made && error.raw_os_error() == Some(libc::EACCES) => {
                        unmask(config, bits)?;
                        open()
                    }
                    done => done,
                }
            }
            done => done,
        };
        let fd = fd.map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP | libc::ENOTDIR) => {
                refuse("the path leads to a symbolic link or to something that is no directory")
            }
            _ => Error::from_io(error, "the directory cannot be opened"),
        })?;
        let stat = again_nix(|| nix::sys::stat::fstat(&fd))
            .map_err(|error| io(error, "the directory has no state"))?;
        Self::check(&stat, config)?;
        if made {
            finish(&fd, config.group, bits)?;
        }
        if !config.allow_network_fs {
            check_file_system(&fd, "the directory").map_err(|error| {
                if error.code() != Code::Unsupported {
                    return error;
                }
                Error::unsupported(format!(
                    "{}, where file locks may not reach other machines; `allow_network_fs=1` uses it all the same",
                    error.message()
                ))
            })?;
        }
        Ok(Directory {
            fd: ProcessFd::new(fd),
            dev: stat.st_dev,
            ino: stat.st_ino,
            owner: stat.st_uid,
        })
    }

    fn check(stat: &FileStat, config: &Config) -> Result<()> {
        let me = nix::unistd::geteuid().as_raw();
        if !is(stat, SFlag::S_IFDIR) {
            return Err(refuse("the path leads to something that is no directory"));
        }
        if !config.dialect.is_native() {
            return Ok(());
        }
        if ![me, 0].contains(&stat.st_uid) && config.group != Some(stat.st_gid) {
            return Err(refuse(format!(
                "the directory belongs to user {}: whoever owns it can take any lock away",
                stat.st_uid
            )));
        }
        if stat.st_mode & 0o002 != 0 && stat.st_mode & libc::S_ISVTX == 0 {
            return Err(refuse(
                "everybody may write to the directory, and it is not sticky",
            ));
        }
        Ok(())
    }

    fn borrow(&self) -> BorrowedFd<'_> {
        // SAFETY: open for as long as `self` lives in the process that opened it; a child cannot
        // reach it.
        unsafe { BorrowedFd::borrow_raw(self.fd.as_raw_fd()) }
    }

    /// Whether the configured path still leads here.
    pub(super) fn is_in_place(&self, config: &Config) -> bool {
        let look = if config.dialect.is_native() {
            nix::sys::stat::lstat
        } else {
            nix::sys::stat::stat
        };
        again_nix(|| look(config.dir.as_path()))
            .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (self.dev, self.ino))
    }

    /// A second description of the directory, for its own lock and for listing.
    pub(super) fn reopen(&self) -> Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        again(|| {
            Ok(nix::fcntl::openat(
                self.borrow(),
                ".",
                flags,
                Bits::empty(),
            )?)
        })
        .map_err(|error| Error::from_io(error, "the directory cannot be opened again"))
    }

    /// Opens a lock file with a description of its own; `Ok(None)` if there is none and `create` is
    /// off.
    ///
    /// An existing one is opened without `O_CREAT`, which `fs.protected_regular` would refuse in a
    /// sticky directory; a new one is made by nobody but us (`O_EXCL`).
    pub(super) fn file(
        &self,
        config: &Config,
        name: &OsStr,
        create: bool,
    ) -> Result<Option<LockFile>> {
        let mut disturbed = 0;
        for _ in 0..MOST_TRIES {
            let watch = ForkWatch::start();
            let opened = match self.existing(config, name)? {
                Some(fd) => Some((fd, false)),
                None if !create => return Ok(None),
                None => self.create(config, name)?.map(|fd| (fd, true)),
            };
            let Some((fd, made)) = opened else { continue };
            let stat = again_nix(|| nix::sys::stat::fstat(&fd))
                .map_err(|error| io(error, "the lock file has no state"))?;
            if self.check_file(&stat, config)? {
                if made && config.exact_mode && stat.st_mode & 0o7777 != config.mode {
                    finish(&fd, config.group, config.mode)?;
                }
                let file = LockFile::new(fd, path_of(config, name)?, &stat);
                // Where forks never end, a child's copy that keeps a dead parent's lock is the
                // lesser evil.
                if watch.is_quiet() || disturbed == MOST_TRIES / 2 {
                    return Ok(Some(file));
                }
                disturbed += 1;
            }
        }
        Err(Error::new(
            Code::Unavailable,
            "the lock file is removed as fast as it is made",
        ))
    }

    fn existing(&self, config: &Config, name: &OsStr) -> Result<Option<OwnedFd>> {
        // Opening a device can have effects of its own, so look first.
        match again(|| {
            Ok(nix::sys::stat::fstatat(
                self.borrow(),
                name,
                AtFlags::AT_SYMLINK_NOFOLLOW,
            )?)
        }) {
            Ok(stat) if is(&stat, SFlag::S_IFREG) || cfg!(canary = "follow_links") => {}
            Ok(_) => return Err(not_regular()),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
            Err(error) => return Err(Error::from_io(error, "the lock file cannot be looked at")),
        }
        let opened = match self.open_at(name, OFlag::O_RDWR, 0) {
            // Locking needs no more; a peer may have made the file for its own user to write.
            Err(error)
                if !config.dialect.is_native()
                    && matches!(error.raw_os_error(), Some(libc::EACCES | libc::EROFS)) =>
            {
                self.open_at(name, OFlag::O_RDONLY, 0)
            }
            opened => opened,
        };
        match opened {
            Ok(fd) => Ok(Some(fd)),
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT) => Ok(None),
                Some(libc::ELOOP | libc::ENXIO | libc::EISDIR | libc::ENODEV) => Err(not_regular()),
                _ => Err(Error::from_io(error, "the lock file cannot be opened")),
            },
        }
    }

    /// Makes the file; `None` if somebody else was faster.
    fn create(&self, config: &Config, name: &OsStr) -> Result<Option<OwnedFd>> {
        if config.exact_mode && (config.group.is_some() || config.mode != 0o600) {
            // Others of the group must never meet it half made.
            let (fd, unfinished) = self.unfinished(config)?;
            let flags = RenameFlags::RENAME_NOREPLACE;
            let to = self.borrow();
            let placed =
                again_nix(|| nix::fcntl::renameat2(to, unfinished.as_str(), to, name, flags));
            if placed.is_err() {
                self.discard(&unfinished);
            }
            return match placed {
                Ok(()) => Ok(Some(fd)),
                Err(nix::Error::EEXIST) => Ok(None),
                Err(error) => Err(io(error, "the lock file cannot be put in place")),
            };
        }
        match self.open_at(
            name,
            OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL,
            config.mode,
        ) {
            Ok(fd) => Ok(Some(fd)),
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(None),
            Err(error) => Err(Error::from_io(error, "the lock file cannot be made")),
        }
    }

    fn open_at(&self, name: &OsStr, access: OFlag, bits: u32) -> std::io::Result<OwnedFd> {
        let mut flags = access | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        if !cfg!(canary = "follow_links") {
            flags |= OFlag::O_NOFOLLOW;
        }
        let bits = Bits::from_bits_truncate(bits);
        again(|| Ok(nix::fcntl::openat(self.borrow(), name, flags, bits)?))
    }

    /// A new file under a name that no lock has, with its permissions and group.
    pub(super) fn unfinished(&self, config: &Config) -> Result<(OwnedFd, String)> {
        let token = crate::OwnerToken::draw()?.to_hex();
        let name = format!("{UNFINISHED}{}", &token[..16]);
        let fd = self
            .open_at(
                name.as_ref(),
                OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL,
                config.mode,
            )
            .map_err(|error| Error::from_io(error, "a new lock file cannot be made"))?;
        match finish(&fd, config.group, config.mode) {
            Ok(()) => Ok((fd, name)),
            Err(error) => {
                self.discard(&name);
                Err(error)
            }
        }
    }

    /// Puts an unfinished file in the place of a lock file.
    pub(super) fn replace(&self, unfinished: &str, name: &OsStr) -> Result<()> {
        let to = self.borrow();
        again_nix(|| nix::fcntl::renameat(to, unfinished, to, name))
            .map_err(|error| io(error, "the lock file cannot be replaced"))
    }

    /// Removes a file.
    pub(super) fn remove(&self, name: &OsStr) -> Result<()> {
        again_nix(|| nix::unistd::unlinkat(self.borrow(), name, UnlinkatFlags::NoRemoveDir))
            .map_err(|error| io(error, "the file cannot be removed"))
    }

    /// Removes a file that never got its name.
    pub(super) fn discard(&self, unfinished: &str) {
        let _ = self.remove(unfinished.as_ref());
    }

    /// True if the file may be used, false if it has just been removed.
    fn check_file(&self, stat: &FileStat, config: &Config) -> Result<bool> {
        if cfg!(canary = "follow_links") {
            return Ok(true);
        }
        if !is(stat, SFlag::S_IFREG) {
            return Err(not_regular());
        }
        let me = nix::unistd::geteuid().as_raw();
        if config.dialect.is_native()
            && ![me, 0, self.owner].contains(&stat.st_uid)
            && config.group != Some(stat.st_gid)
        {
            return Err(refuse(format!(
                "the lock file belongs to user {}, who may have planted it",
                stat.st_uid
            )));
        }
        match stat.st_nlink {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(has_links()),
        }
    }
}

impl AsRawFd for Directory {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.fd.as_raw_fd()
    }
}

pub(super) fn has_links() -> Error {
    refuse("the lock file has a second name (hard link), which may be somebody's trick")
}

fn not_regular() -> Error {
    refuse("something that is no regular file is in the lock file's place")
}

fn path_of(config: &Config, name: &OsStr) -> Result<CString> {
    let path = config.dir.join(name);
    CString::new(path.as_os_str().as_bytes())
        .map_err(|_| Error::new(Code::Internal, "a path with a NUL"))
}
