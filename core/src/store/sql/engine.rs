//! What the table stores ask of a database. Each call is one exchange where the engine can.

use super::book::{Note, Row};
use super::limit::Limit;
use crate::Result;
use crate::capability::Scope;
use crate::lease::BootTime;
use crate::signal::{Signal, Wake};
use std::fmt::Debug;
use std::os::fd::RawFd;
use std::sync::Arc;

/// The key of a row: the SHA-256 of the lock's name.
pub(super) type Id = [u8; 32];

/// What a claim of a free row writes.
#[derive(Debug)]
pub(super) struct Grab<'a> {
    pub id: &'a Id,
    pub name: &'a [u8],
    /// Fencing tokens drawn.
    pub block: i64,
    /// Until when from the server's now, in µs.
    pub ttl: i64,
    pub state: &'a str,
    /// The handle was refused a moment ago.
    #[cfg_attr(
        not(feature = "mysql"),
        expect(dead_code, reason = "others look in the same statement")
    )]
    pub asked_before: bool,
}

/// What a changed row has.
#[derive(Debug)]
pub(super) struct Swap<'a> {
    pub id: &'a Id,
    /// The version and fence that were read; with any other nothing is written. A row that was dropped and made anew
    /// begins again with its version, never with its fence.
    pub version: i64,
    pub seen_fence: i64,
    pub fence: i64,
    pub since: i64,
    pub until: i64,
    pub state: &'a str,
    #[cfg_attr(
        not(feature = "postgres"),
        expect(dead_code, reason = "others cannot tell")
    )]
    pub notes: &'a [Note],
}

/// Whether a row was written, or what stands in it: nothing if it is not there, or if another
/// writer was faster and it must be read again.
#[derive(Debug)]
pub(super) enum Wrote<T> {
    Done(T),
    Found(Option<Row>),
}

/// A row as `list` reads it.
#[derive(Debug)]
pub(super) struct Listed {
    pub id: Vec<u8>,
    pub name: Vec<u8>,
    pub row: Row,
}

/// Where an engine's locks reach, and how it judges time and wakes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Traits {
    pub store: &'static str,
    pub scope: Scope,
    pub clock: &'static str,
    pub wakes: bool,
}

/// A database with a table of locks.
pub(super) trait Engine: Send + Sync + Debug {
    fn traits(&self) -> Traits;

    /// Until when an exchange may take.
    fn limit(&self, deadline: Option<BootTime>) -> Limit;

    fn ping(&self, limit: Limit) -> Result<()>;

    /// What the clock shows by which its leases end, in µs since 1970.
    fn clock(&self, limit: Limit) -> Result<i64>;

    /// Makes the table if it is not there.
    fn create_table(&self, limit: Limit) -> Result<()>;

    /// Takes a row that is free or not there; the last fencing token drawn.
    fn grab(&self, grab: &Grab<'_>, limit: Limit) -> Result<Wrote<i64>>;

    /// Empties a row whose state is exactly `state`.
    fn free(&self, id: &Id, state: &str, limit: Limit) -> Result<Wrote<()>>;

    /// Lengthens the only hold of a row whose state is exactly `state`, unless it has ended.
    fn touch(&self, id: &Id, state: &str, ttl: i64, limit: Limit) -> Result<Wrote<()>>;

    fn read(&self, id: &Id, limit: Limit) -> Result<Option<Row>>;

    /// Writes a row if it has not changed since it was read, and sends the notes.
    fn swap(&self, swap: &Swap<'_>, limit: Limit) -> Result<bool>;

    /// Rows that are not free, in the order of their keys after `after`.
    fn list(&self, after: &[u8], prefix: &[u8], limit: usize, until: Limit) -> Result<Vec<Listed>>;

    /// Drops rows that have been free for longer than `idle` µs, among some after `after`; their
    /// fencing tokens stay below those of rows to come.
    fn purge(&self, after: &Id, idle: i64, limit: Limit) -> Result<()>;

    /// Whether this process is being told of hand-overs.
    fn listens(&self) -> bool {
        false
    }

    /// The channel on which this process is told, once it is sure that it is; nothing where waiters
    /// poll.
    fn channel(&self, limit: Limit) -> Result<Option<&str>> {
        let _ = limit;
        Ok(None)
    }

    fn register(&self, token: crate::OwnerToken, bell: &Arc<Signal>) {
        let _ = (token, bell);
    }

    fn unregister(&self, token: crate::OwnerToken) {
        let _ = token;
    }

    fn park(&self, bell: &Arc<Signal>, until: BootTime) -> Result<Wake> {
        Ok(bell.sleep(until))
    }

    fn pump_fd(&self) -> Option<RawFd> {
        None
    }

    fn pump(&self) {}

    fn take_caution(&self) -> Option<String> {
        None
    }
}
