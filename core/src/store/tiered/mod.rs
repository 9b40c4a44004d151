//! `tiered:`: a store of the host in front of a remote one. A host's waiters queue in the local store and cost
//! the remote one a single waiter; a remote hold is handed on among them, up to a budget, without asking
//! again.
//!
//! Whoever holds locally has the remote hold's *baton*, a small file that says what the remote hold is. It
//! changes hands by being renamed, so that exactly one gets it, and whoever was frozen meanwhile finds that
//! its own is gone. Why so is in `core/decisions/0082`.

mod baton;
mod config;
mod leave;
mod looks;
#[cfg(all(test, feature = "memory"))]
mod tests;
mod verbs;

pub use config::open;
