//! `flock:DIR`: locks of this host, one file per name, held by `flock(2)`.
//!
//! The kernel's lock is the truth: it ends with its holder, whatever kills it, and keeps out every
//! program that calls `flock(2)` on the same file. A hold is a descriptor of its own, so two handles
//! of one process keep each other out too. Descriptors stay open between holds.
//!
//! A lock is the file that the *path* leads to. Files are never removed or emptied by acquire and
//! release; if somebody else removes, renames or replaces one, its holder is told at its next check,
//! and whoever takes the lock afterwards looks again before it believes. (If the whole directory is
//! swapped under a process that took and released the same lock within the last 10 ms, that process
//! may be granted it once more in the old one; its next check tells.)
//!
//! Waiters queue in `DIR/.synlock`, a mapped file, first come, first served, and are woken when the lock
//! comes free; the first of them polls, at most 50 ms apart, for strangers and deaths. That file says
//! nothing about who holds: without it waiters poll and newcomers may overtake them, which the store
//! tells in a warning, and locks are as safe as before.
//!
//! The directory is made if only it is missing (0700). It must belong to the caller or to root, or to
//! the group that `group=` names; it is refused if its path ends in a link, if everybody may write to
//! it without the sticky bit, and on network file systems. A lock file must be a regular file with
//! one link, of the caller, root or the directory's owner, and empty or written by synlock.
//!
//! In a forked child every descriptor of the parent is closed, never unlocked. A child made by a raw
//! `clone` does so when it first uses synlock; until then, and if it outlives its parent, it keeps
//! the parent's locks.
//!
//! With `dialect=symfony` the files are those of Symfony's `FlockStore`, with `dialect=file` each name is
//! a file of DIR that some other program locks (`flock(1)`, Python's filelock, Rust, Go). Nothing is
//! written to such files, they and the directory may belong to anybody, and the path may lead over links:
//! whoever shares files with a peer trusts those whom the peer trusts. First come, first served holds
//! among synlock's waiters; a peer may come between.
//!
//! `flock:` alone (and Symfony's `flock://`) means `$XDG_RUNTIME_DIR/synlock`, for root
//! `/run/lock/synlock`. The format of names and files is in `core/FORMATS.md`.

#[cfg(not(loom))]
mod admin;
#[cfg(not(loom))]
mod berth;
#[cfg(not(loom))]
mod books;
#[cfg(not(loom))]
mod companion;
#[cfg(not(loom))]
mod config;
#[cfg(not(loom))]
mod convert;
#[cfg(not(loom))]
mod dialect;
#[cfg(not(loom))]
mod directory;
#[cfg(not(loom))]
mod file;
#[cfg(not(loom))]
mod header;
#[cfg(not(loom))]
mod kept;
#[cfg(not(loom))]
mod kernel;
mod names;
#[cfg(not(loom))]
mod process;
pub mod queue;
#[cfg(loom)]
mod queue_model;
#[cfg(not(loom))]
mod release;
#[cfg(not(loom))]
mod store;
#[cfg(not(loom))]
mod take;
#[cfg(not(loom))]
mod wait;

#[cfg(not(loom))]
pub use admin::clean_up;
#[cfg(not(loom))]
pub use dialect::symfony_file_name;
#[cfg(not(loom))]
pub use header::LAYOUT;
#[cfg(feature = "fuzz")]
pub use header::read_noise;
pub use names::file_name;

use crate::Result;
use crate::store::Backend;
use crate::url::Url;
use std::sync::Arc;

/// Opens `flock:DIR`; touches the directory with the first operation only.
///
/// Options: `mode=0600` (default) or `0660`, `group=NAME` (implies 0660 and trusts the group's
/// members with the directory), `fencing=1` (a counter in every lock file), `allow_network_fs=1`;
/// `dialect=symfony` or `file`, with `mode=` (by default 0666, with `file` less the umask) and, for
/// Symfony's, `remove=1`.
///
/// # Errors
/// `InvalidUrl` for a host, a relative path or `..` in it, or when there is no default directory;
/// `InvalidArgument` for a bad option.
#[cfg(not(loom))]
pub fn open(url: &mut Url) -> Result<Arc<dyn Backend>> {
    let config = config::Config::take(url)?;
    Ok(Arc::new(store::Flock::new(config)))
}

/// The model checker has no files.
///
/// # Errors
/// Always.
#[cfg(loom)]
pub fn open(_url: &mut Url) -> Result<Arc<dyn Backend>> {
    Err(crate::Error::unsupported("no files in the model checker"))
}
