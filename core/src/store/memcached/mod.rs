//! `memcached:`: locks on one memcached server (1.6 or later).
//!
//! A lock is one item whose value names its owner. It is added, and changed only by compare-and-swap,
//! so that each step is one step on the server. The server forgets: on a restart, on a flush, and, unless
//! it runs with `-M`, whenever it is short of memory. It counts whole seconds and wakes nobody, so waiters
//! poll. The format is in `core/FORMATS.md`.

mod client;
mod config;
mod keys;
#[cfg(feature = "fuzz")]
mod noise;
mod record;
mod verbs;
mod wire;

#[cfg(feature = "fuzz")]
pub use noise::read_noise;
pub use verbs::open;
