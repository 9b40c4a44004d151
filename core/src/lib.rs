//! The core of synlock: stores and locks.
//!
//! A *store* keeps locks; a *lock* is one claim by one owner on one resource in one store.
//!
//! ```
//! use std::time::Duration;
//! use synlock_core::{Store, Wait};
//!
//! # fn main() -> synlock_core::Result<()> {
//! let store = Store::open("memory:")?;
//! let guard = store.lock("invoice 42")?.into_guard(Wait::For(Duration::from_secs(5)))?;
//! assert!(store.lock("invoice 42")?.try_guard()?.is_none());
//! guard.release()?;
//! # Ok(())
//! # }
//! ```

mod acquire;
mod broken;
pub mod cancel;
pub mod capability;
pub mod codes;
pub mod dispatch;
pub mod error;
pub mod event;
pub mod fencing;
pub mod fork;
pub mod guard;
pub mod guard_request;
pub mod hash;
mod hex;
mod hold;
pub mod lease;
pub mod lock;
pub mod manager;
pub mod metrics;
pub mod mode;
pub mod name;
pub mod options;
pub mod owner;
mod parting;
mod phase;
mod reentry;
pub mod registry;
pub mod require;
pub mod secret;
mod service;
pub mod session;
pub mod set;
mod shared;
pub mod signal;
mod state;
pub mod store;
pub mod sync;
pub mod url;
mod watchdog;

pub use cancel::Cancel;
pub use capability::{Capabilities, Fence, Scope};
pub use codes::Code;
pub use dispatch::{Completion, Dispatch, Op, Outcome};
pub use error::{Error, Result};
pub use guard::Guard;
pub use lease::{BootTime, Wait};
pub use lock::{Acquired, LAST_CALLS, Lock, Released, State};
pub use manager::Manager;
pub use mode::Mode;
pub use name::Name;
pub use options::{LockOptions, Reentry};
pub use owner::OwnerToken;
pub use registry::{Store, collect_releases};
pub use require::Require;
pub use session::Session;
pub use set::LockSet;
