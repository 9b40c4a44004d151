//! The C ABI of synlock.
//!
//! Converts, checks and forwards; takes no decision. The header made from it is the reference for
//! its users; `README.md` beside this says how to add a function.

#![expect(non_camel_case_types, reason = "the names are C's")]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

#[cfg(not(target_pointer_width = "64"))]
compile_error!("handles need 64-bit pointers");

pub mod cancel;
pub mod custom;
pub mod dispatch;
pub mod error;
pub mod events;
pub mod fencing;
mod guard;
pub mod guard_request;
pub mod handle;
pub mod hold;
pub mod list;
pub mod lock;
pub mod manager;
pub mod metrics;
#[cfg(all(any(loom, shuttle), test))]
mod model;
pub mod options;
pub mod scope;
pub mod session;
pub mod set;
pub mod status;
pub mod store;
mod sync;
mod table;
mod text;
pub mod version;

/// Canary of row 46: an export that nobody agreed to.
#[cfg(canary = "extra_symbol")]
#[unsafe(no_mangle)]
pub extern "C" fn synlock_extra() {}
