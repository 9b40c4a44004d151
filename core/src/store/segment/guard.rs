//! The kernel's lock on the whole file, which dies with its owner. Waited for, but not for ever: its
//! owner may be stopped, or mean no good.

use crate::codes::Code;
use crate::lease::BootTime;
use crate::store::files::io;
use crate::{Error, Result};
use nix::fcntl::{Flock, FlockArg};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How long to wait for another process that does something to the file.
pub(in crate::store) const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_micros(200);

/// Locks the file; `stuck` says what somebody else has been at for too long. `how` does not block.
pub(in crate::store) fn lock(
    mut fd: OwnedFd,
    how: FlockArg,
    patience: Duration,
    stuck: &str,
) -> Result<Flock<OwnedFd>> {
    let until = BootTime::now().after(patience);
    loop {
        match Flock::lock(fd, how) {
            Ok(lock) => return Ok(lock),
            Err((back, nix::Error::EAGAIN | nix::Error::EINTR)) if !until.has_passed() => {
                fd = back;
                std::thread::sleep(PAUSE);
            }
            Err((_, nix::Error::EAGAIN | nix::Error::EINTR)) => {
                let words = format!("another process {stuck}: is it stopped?");
                return Err(Error::new(Code::Unavailable, words));
            }
            Err((_, error)) => return Err(io(error, "the segment's file cannot be locked")),
        }
    }
}
