//! What the suites share: services, random names, child processes.

pub mod apart;
pub mod claims;
pub mod history;
pub mod ipc;
pub mod late;
pub mod load;
pub mod names;
pub mod page;
pub mod places;
pub mod process;
pub mod room;
pub mod scene;
pub mod segment;
#[path = "../services/mod.rs"]
pub mod services;
#[cfg(target_arch = "x86_64")]
pub mod step;
pub mod taker;
pub mod torture;

pub use services::{memcached, redis};
