//! Requests whose callers had no time left for the reply.
//!
//! Their connection stands, owes the reply, and goes back among the idle ones. Were it ended, as one that broke is,
//! a server that is slow for a moment would have to greet a new connection and end an old one for each request
//! that it is late with, and would be slower still. Whatever the same token asks for next goes over the
//! connection that owes, so that it cannot overtake what is late. Decision 0290.

use super::client::{Process, Redis, Turn};
use super::connection::Connection;
use super::nodes::Node;
use super::owed::Releasing;
use super::owing::Due;
use super::scripts::Verb;
use super::unended::Unended;
use crate::lease::BootTime;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::store::Claim;
use crate::sync::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// A connection whose reply is late by more is ended.
const PATIENCE: Duration = Duration::from_millis(500);
/// What a release costs that nobody waits for, where the socket has no room.
const MOMENT: Duration = Duration::from_millis(10);
/// What it costs where it is waited for.
const STRAY: Duration = Duration::from_millis(200);

/// The tokens for which something is late.
#[derive(Debug, Default)]
pub(super) struct Late {
    count: AtomicUsize,
    tokens: Mutex<Vec<OwnerToken>>,
}

impl Late {
    pub fn has(&self, token: OwnerToken) -> bool {
        // Canary of row 16.
        !cfg!(canary = "overtake")
            && self.count.load(Ordering::SeqCst) > 0
            && self.tokens.lock().contains(&token)
    }

    fn add(&self, token: OwnerToken) {
        self.tokens.lock().push(token);
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    fn remove(&self, token: OwnerToken) {
        let mut tokens = self.tokens.lock();
        if let Some(at) = tokens.iter().position(|known| *known == token) {
            tokens.swap_remove(at);
        }
        drop(tokens);
        self.count.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A reply that nobody waits for.
#[derive(Debug)]
pub(super) struct Left {
    pub token: OwnerToken,
    pub limit: BootTime,
    late: Arc<Late>,
    unended: Arc<Unended>,
    node: Node,
    id: Option<i64>,
    has_come: bool,
}

impl Left {
    pub fn has_come(mut self) {
        self.has_come = true;
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        // Before the token is forgotten: whoever does not find it ends the connection.
        if !self.has_come {
            self.unended.add(&self.node, self.id);
        }
        self.late.remove(self.token);
    }
}

impl Redis {
    /// After an exchange that failed at `limit`: keeps the connection, if its reply is late and nothing worse.
    pub fn leave_reply(
        &self,
        process: &Process,
        mut connection: Connection,
        token: OwnerToken,
    ) -> bool {
        // Canary of row 16.
        if !connection.awaits_reply() || cfg!(canary = "end_late") {
            return false;
        }
        process.late.add(token);
        let left = Left {
            token,
            limit: BootTime::now().after(PATIENCE.min(self.config.io_timeout)),
            late: process.late.clone(),
            unended: process.unended.clone(),
            node: connection.node.clone(),
            id: connection.id,
            has_come: false,
        };
        connection.owing.add(Due::Left(left));
        let stands = connection.is_sound();
        if stands {
            self.keep(process, connection);
        }
        stands
    }

    /// Sends the release of what may be granted yet right behind the request that is late; false if that does not
    /// go without waiting.
    pub fn release_behind(&self, claim: &Claim) -> bool {
        let Some(process) = self.known_process() else {
            return false;
        };
        if !process.late.has(claim.token) || self.is_scriptless() {
            return false;
        }
        let Some(mut found) = self.owing_to(process, |owing| owing.has_left(claim.token)) else {
            return false;
        };
        if !found.is_sound() {
            return false;
        }
        let mut release = Releasing::of(claim, self.limit(None), None);
        release.written = BootTime::now().after(MOMENT);
        self.write_release(process, found, release).is_ok()
    }

    /// Gives back what was handed to a waiter that has left. Whoever reads wake-ups finds out, for all of its
    /// process, and must not wait for the answer.
    pub fn release_stray(&self, name: &Name, token: OwnerToken) {
        let release = Releasing {
            name,
            token,
            ttl: Duration::ZERO,
            written: BootTime::now().after(MOMENT),
            limit: self.limit(None),
            told: None,
        };
        if !self.goes_at_once(release) {
            // If this is lost, the offer lapses after a second.
            let soon = BootTime::now().after(STRAY);
            let _ = self.run(
                Verb::Release,
                name,
                &[token.to_hex().as_bytes()],
                Some(soon),
            );
        }
    }

    fn goes_at_once(&self, release: Releasing<'_>) -> bool {
        let Some(process) = self.known_process().filter(|_| !self.is_scriptless()) else {
            return false;
        };
        // What is late goes first.
        if process.late.has(release.token) {
            return false;
        }
        let kept = self
            .only_node()
            .and_then(|node| self.kept(process, node, Turn::Any));
        kept.is_some_and(|kept| self.write_release(process, kept, release).is_ok())
    }
}
