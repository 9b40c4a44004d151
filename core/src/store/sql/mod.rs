//! Locks in a table of a database. `native.rs` is the store contract over `engine.rs`, which each
//! database answers in its own SQL; `book.rs` is what a row says, and what becomes of it.

mod book;
mod config;
mod engine;
mod native;
#[cfg(feature = "sqlite")]
pub mod sqlite;
