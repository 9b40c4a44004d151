//! What stores that keep files have in common: calls that signals cut short, permissions, and file
//! systems on which locks do not reach.

use crate::codes::Code;
use crate::url::Url;
use crate::{Error, Result};
use nix::sys::stat::Mode as Bits;
use nix::unistd::Gid;
use std::os::fd::AsFd;

/// `statfs` types on which locks and shared memory may be local to one machine, or emulated.
const NETWORK: [(i64, &str); 9] = [
    (0x6969, "NFS"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB2"),
    (0x517B, "SMB"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE"),
    (0x00C3_6400, "Ceph"),
    (0x5346_414F, "AFS"),
    (0x0BD0_0BD0, "Lustre"),
];

/// Repeats a call that a signal cut short.
#[cfg(feature = "flock")]
#[inline]
pub fn again<T>(mut call: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    loop {
        match call() {
            Err(error)
                if error.kind() == std::io::ErrorKind::Interrupted
                    && !cfg!(canary = "no_retry") => {}
            done => return done,
        }
    }
}

/// As `again`, for calls made through nix.
#[inline]
pub fn again_nix<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(nix::Error::EINTR) if !cfg!(canary = "no_retry") => {}
            done => return done,
        }
    }
}

/// Refuses to make a file longer than the host may: the kernel would send it a deadly signal.
pub fn check_file_limit(size: u64) -> std::io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a structure that is valid for the call.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) } == 0;
    if known && limit.rlim_cur < size {
        return Err(std::io::Error::from_raw_os_error(libc::EDQUOT));
    }
    Ok(())
}

/// A refusal to use what others may have tampered with.
pub fn refuse(why: impl Into<String>) -> Error {
    Error::new(Code::Permission, why)
}

/// An error of a call made through nix.
pub fn io(error: nix::Error, what: &str) -> Error {
    Error::from_io(error.into(), what)
}

/// Sets group and permissions whatever the umask is; the group first, since changing it clears bits.
pub fn finish(fd: impl AsFd, group: Option<u32>, bits: u32) -> Result<()> {
    if let Some(group) = group {
        again_nix(|| nix::unistd::fchown(&fd, None, Some(Gid::from_raw(group))))
            .map_err(|error| io(error, "the group cannot be set"))?;
    }
    again_nix(|| nix::sys::stat::fchmod(&fd, Bits::from_bits_truncate(bits)))
        .map_err(|error| io(error, "the permissions cannot be set"))
}

/// Refuses network file systems.
pub fn check_file_system(fd: impl AsFd, what: &str) -> Result<()> {
    let stat = again_nix(|| nix::sys::statfs::fstatfs(&fd))
        .map_err(|error| io(error, "the file system cannot be asked"))?;
    let kind = stat.filesystem_type().0;
    match NETWORK.iter().find(|(magic, _)| *magic == kind as i64) {
        Some((_, name)) => Err(Error::unsupported(format!("{what} is on {name}"))),
        None => Ok(()),
    }
}

/// The option `group`, a name or a number.
pub fn take_group(url: &mut Url) -> Result<Option<u32>> {
    let Some(name) = url.take("group") else {
        return Ok(None);
    };
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    match nix::unistd::Group::from_name(&name) {
        Ok(Some(group)) => Ok(Some(group.gid.as_raw())),
        Ok(None) => Err(Error::invalid(
            "the group of the option `group` does not exist",
        )),
        Err(error) => Err(Error::from_io(
            error.into(),
            "the group of the option `group` cannot be looked up",
        )),
    }
}

/// The option `mode`: 0600, or 0660, which a group implies.
pub fn take_mode(url: &mut Url, group: Option<u32>) -> Result<u32> {
    match url.take("mode").as_deref() {
        None if group.is_some() => Ok(0o660),
        None | Some("0600" | "600") => Ok(0o600),
        Some("0660" | "660") => Ok(0o660),
        Some(_) => Err(Error::invalid(
            "the option `mode` is 0600 or 0660: whoever else may open a lock file may hold it for ever",
        )),
    }
}
