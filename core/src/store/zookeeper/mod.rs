//! `zookeeper:`: locks on a ZooKeeper ensemble, 3.5 or newer.
//!
//! A claim is a node of this process' session, numbered by the server; the lowest numbers hold. Each
//! waiter watches the one before it, so that a release wakes one. A hold has no lease: it ends with its
//! release or with the session, which this process keeps alive and judges by its own clock, earlier than
//! the server. The formats are in `core/FORMATS.md`; why the protocol is spoken here and not by a crate
//! is in `core/decisions/0070`.

mod client;
mod config;
mod life;
mod link;
mod listing;
mod names;
#[cfg(feature = "fuzz")]
mod noise;
mod queue;
mod record;
mod session;
mod single;
mod verbs;
mod wire;

#[cfg(feature = "fuzz")]
pub use noise::read_noise;
pub use verbs::open;
