//! A mapped file that processes of one host share, and what keeps it sound whoever dies: `shm:` keeps
//! its locks in one, `flock:` its queues.
//!
//! `file.rs` makes, checks and maps the file, in a folder that `folder.rs` trusts; `layout.rs` says
//! where everything lies in it, `words.rs` how single words are packed; `member.rs` is one process'
//! part: its records, which it has in groups (`groups.rs`; the `idle.rs` ones), its bell; `bytes.rs` are the bytes
//! whose locks say who lives, `guard.rs` is the lock on the whole file, `waits.rs` are the sleepers.

#![cfg_attr(
    not(feature = "shm"),
    expect(dead_code, reason = "a queue needs less of it than locks do")
)]

#[cfg(not(loom))]
pub mod bytes;
#[cfg(not(loom))]
pub mod config;
#[cfg(not(loom))]
pub mod file;
#[cfg(not(loom))]
pub mod folder;
pub mod groups;
#[cfg(not(loom))]
pub mod guard;
#[cfg(not(loom))]
mod idle;
#[cfg(not(loom))]
pub mod layout;
#[cfg(not(loom))]
pub mod member;
#[cfg(loom)]
pub mod mortal;
#[cfg(not(loom))]
pub mod waits;
pub mod words;
