//! `shm:NAME` and `shm:/path`: locks of this host in shared memory, without a server.
//!
//! An uncontended acquire or release makes no system call. A holder's death frees its locks: each
//! process keeps the kernel's lock on one byte of the file, and whoever finds a holder in the way
//! asks the kernel about that byte. Waiters queue and are woken through a futex.
//!
//! `protocol.rs`, `queue.rs` and `holding.rs` are the state machine, in terms of single words, and
//! `view.rs` where it finds them; `names.rs` says which slot a name has; `store.rs` is the contract
//! on top, `kept.rs` its short way for a handle that comes again, `records.rs` the holds of this process,
//! `look.rs` what people are shown, `check.rs` what cannot be. The mapped file, and a process' part
//! in it, are in `store/segment`. `core/FORMATS.md` describes the file.
//!
//! The file belongs to its maker alone (0600) unless `mode=` or `group=` share it. Whoever may open
//! it may break every lock in it, and whoever may cut it short can crash those who use it (SIGBUS);
//! a removed file is noticed within a second, and its locks count as lost then.

#[cfg(not(loom))]
mod check;
#[cfg(not(loom))]
mod config;
mod holding;
#[cfg(not(loom))]
mod kept;
#[cfg(not(loom))]
mod look;
#[cfg(all(loom, test))]
mod model;
#[cfg(not(loom))]
mod names;
pub mod protocol;
mod queue;
#[cfg(not(loom))]
mod records;
#[cfg(not(loom))]
mod store;
#[cfg(not(loom))]
mod view;

#[cfg(not(loom))]
pub use layout::LAYOUT;

use crate::Result;
use crate::store::Backend;
pub use crate::store::segment::words;
#[cfg(not(loom))]
use crate::store::segment::{bytes, file, guard, layout, member, waits};
use crate::url::Url;
use std::sync::Arc;

/// Opens `shm:NAME` or `shm:/path`; touches the file with the first operation only.
///
/// Options: `mode=0600` (default) or `0660`, `group=NAME` (implies 0660 and trusts the group's
/// members), `slots=4096` (how many names a new segment has room for).
///
/// # Errors
/// `InvalidUrl` for a host, no name, or `..` in the path; `InvalidArgument` for a bad option.
#[cfg(not(loom))]
pub fn open(url: &mut Url) -> Result<Arc<dyn Backend>> {
    let config = config::Config::take(url)?;
    Ok(Arc::new(store::Shm::new(config)))
}

/// The model checker has no segments.
///
/// # Errors
/// Always.
#[cfg(loom)]
pub fn open(_url: &mut Url) -> Result<Arc<dyn Backend>> {
    Err(crate::Error::unsupported(
        "no segments in the model checker",
    ))
}
