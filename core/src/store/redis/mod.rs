//! `redis:`: locks on a Redis or Valkey server, on the master that sentinels name, or on a Cluster.
//!
//! Every verb is one script, so that it is one step on the server and one round trip. Waiters queue
//! on the server and are handed the lock by its releaser; the offer stands for a second and is taken
//! up by one more script. A release may leave its reply to whoever asks next (`owed.rs`). Leases follow the
//! server's wall clock. The formats are in `core/FORMATS.md`.

mod answers;
mod client;
mod commands;
mod config;
mod connection;
mod exchange;
mod frame;
mod keys;
mod left;
mod listing;
mod lives;
mod nodes;
#[cfg(feature = "fuzz")]
mod noise;
mod owed;
mod owing;
mod pipe;
mod pipeline;
mod polls;
mod scripts;
mod subscription;
mod together;
mod unended;
mod verbs;
mod watch;

#[cfg(feature = "fuzz")]
pub use noise::read_noise;
pub use verbs::open;
