//! `postgres+advisory:` and `mysql+advisory:`: locks of a database's own, which live as long as the session
//! that was granted them.
//!
//! Tries and releases go over one session that a process shares between its threads. Whoever must wait
//! borrows a session of its own, on which the server lets it wait in its own queue; one waiter per name
//! and process, the others queue behind it. A lock that was waited for stays on the session that
//! waited. These locks are re-entrant on a session, so a table of our own refuses what the server would
//! grant twice. When a session ends, its locks are lost.
//!
//! The formats are in `core/FORMATS.md`.

mod alarms;
mod config;
mod keys;
mod look;
mod process;
mod session;
mod sql;
mod store;
mod table;
#[cfg(all(test, feature = "postgres"))]
mod tests;
mod waits;

#[cfg(feature = "mysql")]
pub use store::open_mysql;
#[cfg(feature = "postgres")]
pub use store::open_postgres;
