//! `etcd:`: locks on an etcd cluster, 3.4 or newer, in the layout of its own `concurrency.Mutex`.
//!
//! A claim is a key with a lease of its own; the keys of a lock stand in line in the order of their
//! create revisions, and the first hold. Whoever waits watches the one before, so that a release wakes
//! one. What is spoken is etcd's JSON gateway, HTTP/1.1 on its client port. The format is in
//! `core/FORMATS.md`; why so is in `core/decisions/0080` and `0081`.

mod client;
mod config;
mod hang;
mod http;
mod leases;
mod listing;
mod names;
#[cfg(feature = "fuzz")]
mod noise;
mod record;
mod stand;
mod verbs;
mod watch;
mod wire;

#[cfg(feature = "fuzz")]
pub use noise::read_noise;
pub use verbs::open;
