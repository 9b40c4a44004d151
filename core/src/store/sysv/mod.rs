//! `sysv:`: locks of this host in System V semaphores, which the kernel keeps and hands over.
//!
//! Every step is undone by the kernel when its process ends, whatever kills it, and a lock that is let go
//! belongs to the first that waits before anybody else can ask. Permits are counted up to 32 766. Nothing
//! lies in files; `ipcs -s` shows the sets, and they stay until the machine (or the container: each IPC
//! namespace has its own) is started anew, or `clean_up` is called.
//!
//! The kernel undoes at the end of the *process*: a program that holds a lock and calls `exec` holds it on.
//! Waiters queue in the kernel, first come, first served, for a second at a time (for a host that waits in
//! turns, as Python, PHP and Node do, for one turn), after which they queue anew; of those who wait for
//! permits, whoever asks for fewer may come first. Event loops wait by up to eight threads of the process,
//! one for each name.
//!
//! With `dialect=php` the sets are those of PHP's `sem_get`, with `dialect=symfony` those of Symfony's
//! `SemaphoreStore`, which removes a set to let go of it.

mod admin;
mod config;
mod hold;
mod kernel;
mod keys;
mod layout;
mod native;
mod peer;
mod store;
mod waits;

pub use admin::clean_up;
pub use keys::{Generation, symfony_key};
pub use layout::LAYOUT;

use crate::Result;
use crate::store::Backend;
use crate::url::Url;
use std::sync::Arc;

/// Opens `sysv:` or `sysv:SPACE`; asks the kernel for nothing before the first operation.
///
/// Options: `mode=0600` (default) or `0660`, `group=NAME` (implies 0660); `dialect=php` or `symfony` (with
/// `keys=xxh128`, `md5` or `crc32`, as Symfony's release makes them), with `mode=` (by default 0666).
///
/// # Errors
/// `InvalidUrl` for a host, or a space on a dialect; `InvalidArgument` for a bad option.
pub fn open(url: &mut Url) -> Result<Arc<dyn Backend>> {
    let config = config::Config::take(url)?;
    Ok(Arc::new(store::Sysv::new(config)))
}
