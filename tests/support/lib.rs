//! What the suites share: services, random names, child processes.

pub mod names;
pub mod redis;
