//! Request guards: what a web request must have before its handler runs.
//!
//! One [`Policy`] says how (*block*, *check*, *queue* or *force*), one [`Request`] says of what, and
//! [`Guards`] knows the stores. The answer is an [`Entry`]: admitted, perhaps with a lock to release
//! at the policy's release point, or refused, with what an HTTP answer needs.
//!
//! ```
//! use synlock_core::Store;
//! use synlock_core::guard_request::{Guards, Policy, Request};
//!
//! # fn main() -> synlock_core::Result<()> {
//! let mut guards = Guards::new();
//! guards.add("default", Store::open("memory:")?)?;
//! let policy = Policy { name: Some("order_{id}".into()), ..Policy::default() };
//! let request = Request { params: &[(b"id", b"17")], ..Request::default() };
//! let first = guards.plan(&policy, &request)?.enter(None)?;
//! assert!(first.is_admitted());
//! let second = guards.plan(&policy, &request)?.enter(None)?;
//! assert!(!second.is_admitted()); // 423
//! first.release()?;
//! # Ok(())
//! # }
//! ```

mod entry;
mod naming;
mod policy;
mod services;

pub use entry::{Entering, Entry, Step};
pub use naming::{Request, User};
pub use policy::{Anonymous, Dialect, GuardMode, Policy, ReleasePoint};
pub use services::{Guards, Plan};

/// What a refusal says unless the policy says otherwise.
pub const MESSAGE: &str = "Resource is not available at this moment.";
/// The HTTP status of a refusal unless the policy says otherwise: Locked.
pub const STATUS: u16 = 423;
