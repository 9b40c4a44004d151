//! Releases whose replies nobody has read yet: those of `release=async`, and of what a request that is late or a
//! wake-up for nobody may have left behind.
//!
//! Such a release is written on a kept connection, which *owes* its reply from then on and lies among the idle
//! ones like any other. Whatever is asked on it next is written at once, and what it owes is read first. A reply
//! that says that nothing was done, or that does not come, leaves a release that must be sent again: by whoever
//! asks for its lock next, or by the service thread, which looks until nothing is owed. Decision 0275.

use super::client::{Process, Redis, Turn};
use super::connection::Connection;
use super::owing::Owing;
use super::pipe::{released, unknown};
use super::scripts::Verb;
use crate::codes::Code;
use crate::lease::BootTime;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::service;
use crate::store::{Answer, Claim, Told};
use crate::sync::{AtomicBool, Mutex};
use crate::{Error, Result};
use std::sync::Weak;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How often the service thread looks while something is owed.
const LOOK: Duration = Duration::from_millis(50);
/// Releases are sent again for at least so long.
const SHORTEST: Duration = Duration::from_secs(15);
/// Between two such attempts, first and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(1)];
/// Between two looks for a connection that another thread has.
const MOMENT: Duration = Duration::from_micros(100);

/// A release that has not been heard of yet.
pub(super) struct Debt {
    pub name: Name,
    token: OwnerToken,
    /// Its reply is late then.
    pub limit: BootTime,
    /// So long it is sent again.
    until: BootTime,
    /// When it is sent again, and how much later after that.
    due: BootTime,
    pause: Duration,
    /// It may have been carried out, or not.
    pub in_doubt: bool,
    told: Option<Told>,
}

impl Debt {
    /// Whether it was not sent again so far.
    fn is_fresh(&self) -> bool {
        self.pause == PAUSES[0]
    }
}

impl std::fmt::Debug for Debt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Debt")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A release that is to be written.
pub(super) struct Releasing<'a> {
    pub name: &'a Name,
    pub token: OwnerToken,
    pub ttl: Duration,
    /// It has gone out by then, or never does.
    pub written: BootTime,
    /// Its reply is late then.
    pub limit: BootTime,
    pub told: Option<Told>,
}

impl<'a> Releasing<'a> {
    pub fn of(claim: &'a Claim, limit: BootTime, told: Option<Told>) -> Self {
        Releasing {
            name: &claim.name,
            token: claim.token,
            ttl: claim.ttl.unwrap_or(SHORTEST),
            written: limit,
            limit,
            told,
        }
    }
}

/// What a process has not heard of yet.
#[derive(Debug)]
pub(super) struct Owed {
    redis: Weak<Redis>,
    count: AtomicUsize,
    /// The service thread looks.
    is_watched: AtomicBool,
    /// The server has answered a release since the last connection was made: it knows the script.
    is_known: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The lock of each debt.
    names: Vec<Name>,
    /// Those to be sent again.
    lost: Vec<Debt>,
}

impl Owed {
    pub fn new(redis: &Weak<Redis>) -> Self {
        Owed {
            redis: redis.clone(),
            count: AtomicUsize::new(0),
            is_watched: AtomicBool::new(false),
            is_known: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// Whether the server knows the script, as far as can be told.
    pub fn learn(&self, knows: bool) {
        if self.is_known.load(Ordering::Relaxed) != knows {
            self.is_known.store(knows, Ordering::Relaxed);
        }
    }

    /// Whether a release of this lock has not been heard of.
    pub fn has(&self, name: &Name) -> bool {
        !self.is_empty() && self.state.lock().names.contains(name)
    }

    /// Whether it is to be sent again.
    fn has_lost(&self, name: &Name) -> bool {
        let lost = &self.state.lock().lost;
        lost.iter().any(|debt| debt.name == *name)
    }

    /// Before a release is sent; false if nobody would look for its reply.
    fn begin(&self, name: &Name) -> bool {
        self.state.lock().names.push(name.clone());
        // In this order: whoever stops looking counts once more afterwards.
        self.count.fetch_add(1, Ordering::SeqCst);
        if self.is_watched.swap(true, Ordering::SeqCst) {
            return true;
        }
        let redis = self.redis.upgrade();
        let at = BootTime::now().after(LOOK);
        if redis.is_some_and(|redis| service::collect(redis, at).is_ok()) {
            return true;
        }
        self.is_watched.store(false, Ordering::SeqCst);
        self.end(name);
        false
    }

    fn end(&self, name: &Name) {
        let mut state = self.state.lock();
        if let Some(at) = state.names.iter().position(|known| known == name) {
            state.names.swap_remove(at);
        }
        drop(state);
        self.count.fetch_sub(1, Ordering::SeqCst);
    }

    /// To be sent again.
    pub fn lose(&self, debt: Debt) {
        self.state.lock().lost.push(debt);
    }

    /// Whether all that there is was sent again in vain: of several who end, one has waited for it.
    fn is_left_to_time(&self) -> bool {
        let state = self.state.lock();
        state.lost.len() == state.names.len() && !state.lost.iter().any(Debt::is_fresh)
    }

    /// One of those: of this lock, or that is due.
    fn take_lost(&self, is_it: impl Fn(&Debt) -> bool) -> Option<Debt> {
        let lost = &mut self.state.lock().lost;
        let at = lost.iter().position(is_it)?;
        Some(lost.swap_remove(at))
    }

    /// It has been heard of.
    pub fn settle(&self, debt: Debt, answer: Result<Answer>) {
        let redis = self.redis.upgrade();
        if let Some(redis) = &redis {
            redis.forget_token(debt.token);
        }
        self.end(&debt.name);
        let answer = match answer {
            Ok(Answer::Done(_)) => return,
            Ok(Answer::NotOurs) if debt.in_doubt && !cfg!(canary = "no_resent") => Err(unknown()),
            answer => answer,
        };
        // Not here: whoever reads may keep from going on whom an observer waits for.
        if let (Some(redis), Some(told)) = (redis, debt.told) {
            let _ = service::run_for(redis, move || told(answer));
        }
    }

    /// When the service thread looks again; not at all while nothing is owed.
    fn next_look(&self) -> Option<BootTime> {
        if self.is_empty() {
            self.is_watched.store(false, Ordering::SeqCst);
            // Something may have been sent between the two.
            if self.is_empty() || self.is_watched.swap(true, Ordering::SeqCst) {
                return None;
            }
        }
        Some(BootTime::now().after(LOOK))
    }
}

impl Redis {
    /// Sends a release and leaves its reply to whoever comes next.
    pub fn release_unanswered(&self, claim: &Claim, told: Told) -> Option<Told> {
        let (Some(process), Some(node)) = (self.known_process(), self.only_node()) else {
            return Some(told);
        };
        // A short program may have ended before the script could be sent after it.
        let is_known = process.owed.is_known.load(Ordering::Relaxed);
        if !self.config.leaves_releases || self.is_scriptless() || !is_known {
            return Some(told);
        }
        // To connect takes longer than to wait for the answer.
        let Some(connection) = self.kept(process, node, Turn::Any) else {
            return Some(told);
        };
        let release = Releasing::of(claim, self.limit(claim.deadline), Some(told));
        self.write_release(process, connection, release)
            .err()
            .flatten()
    }

    /// Writes a release on a connection, which owes its reply from then on.
    ///
    /// # Errors
    /// Who was to be told, if it does not go so.
    pub fn write_release(
        &self,
        process: &Process,
        mut connection: Connection,
        release: Releasing<'_>,
    ) -> std::result::Result<(), Option<Told>> {
        let has_room = connection.owing.has_room();
        let is_first = has_room && process.unended.beside(&connection).is_empty();
        if !is_first || !process.owed.begin(release.name) {
            self.keep(process, connection);
            return Err(release.told);
        }
        let token = release.token.to_hex();
        let form = self.form(self.is_bare());
        let args = [token.as_bytes()];
        let (request, _) = self.request(form, Verb::Release, release.name, &args, false);
        let now = BootTime::now();
        if connection.send(&request, release.written).is_err() {
            // What went out of it is no whole request, and is never carried out.
            process.owed.end(release.name);
            return Err(release.told);
        }
        let debt = Debt {
            name: release.name.clone(),
            token: release.token,
            limit: release.limit,
            until: now.after(release.ttl.max(SHORTEST)),
            due: now,
            pause: PAUSES[0],
            in_doubt: false,
            told: release.told,
        };
        connection.owing.add_release(&process.owed, debt);
        self.keep(process, connection);
        Ok(())
    }

    /// An idle connection whose replies are such.
    pub fn owing_to(
        &self,
        process: &Process,
        is_it: impl Fn(&Owing) -> bool,
    ) -> Option<Connection> {
        let mut idle = process.idle.lock();
        let at = idle.iter().position(|kept| is_it(&kept.owing));
        at.map(|at| idle.swap_remove(at))
    }

    /// Before a request about a lock: the connection that owes the reply to its release, or to what was asked for
    /// the same token, so that the server gets the two in this order. Whoever `looks` at the lock, or asks for that
    /// token, waits for another thread that has the connection, and sends again what came to nothing.
    ///
    /// # Errors
    /// `Unavailable`, if what is late for this token could still act after the request.
    pub fn in_order(
        &self,
        name: &Name,
        token: Option<OwnerToken>,
        looks: bool,
        limit: BootTime,
    ) -> Result<Option<Connection>> {
        let Some(process) = self.known_process() else {
            return Ok(None);
        };
        loop {
            let late = token.filter(|token| process.late.has(*token));
            if late.is_none() && !process.owed.has(name) {
                return Ok(None);
            }
            if limit.has_passed() {
                let words = "the server did not answer in time";
                return late.map_or(Ok(None), |_| Err(Error::new(Code::Unavailable, words)));
            }
            if looks
                && late.is_none()
                && let Some(debt) = process.owed.take_lost(|debt| debt.name == *name)
            {
                if !self.send_again(&process.owed, debt, Some(limit)) {
                    return Ok(None);
                }
                continue;
            }
            let found = self.owing_to(process, |owing| {
                late.map_or_else(|| owing.owes(name), |token| owing.has_left(token))
            });
            match found {
                Some(mut found) => {
                    if found.is_sound() {
                        return Ok(Some(found));
                    }
                }
                None if !looks && late.is_none() => return Ok(None),
                None => std::thread::sleep(MOMENT),
            }
        }
    }

    /// Whether the release of a lock was found to have come to nothing.
    pub fn must_release_again(&self, name: &Name) -> bool {
        let process = self.known_process();
        process.is_some_and(|process| !process.owed.is_empty() && process.owed.has_lost(name))
    }

    /// Whether a release of this lock has not been heard of.
    pub fn owes(&self, name: &Name) -> bool {
        let process = self.known_process();
        process.is_some_and(|process| process.owed.has(name))
    }

    /// As `Backend::collect`.
    pub fn collect_owed(&self, waits: bool) -> Option<BootTime> {
        // Canary of row 16.
        if cfg!(canary = "leave_debts") {
            return None;
        }
        let process = self.known_process()?;
        if waits {
            // Only they were told that it is released.
            if self.config.leaves_releases {
                self.collect_all(&process.owed);
            }
            return None;
        }
        let mut broken = Vec::new();
        {
            let mut idle = process.idle.lock();
            let mut at = 0;
            while let Some(kept) = idle.get_mut(at) {
                if !kept.owing.has_release() || kept.is_sound() {
                    at += 1;
                } else {
                    broken.push(idle.swap_remove(at));
                }
            }
        }
        drop(broken);
        let now = BootTime::now();
        while let Some(debt) = process.owed.take_lost(|debt| debt.due <= now) {
            // The others would meet with the same.
            if !self.send_again(&process.owed, debt, None) {
                break;
            }
        }
        process.owed.next_look()
    }

    fn collect_all(&self, owed: &Owed) {
        let limit = self.limit(None);
        while !owed.is_empty() && !limit.has_passed() {
            let Some(process) = self.known_process() else {
                return;
            };
            if let Some(mut found) = self.owing_to(process, Owing::has_release) {
                if found.is_sound() && found.pay(limit).is_ok() {
                    self.keep(process, found);
                }
            } else if let Some(debt) = owed.take_lost(Debt::is_fresh) {
                self.send_again(owed, debt, Some(limit));
            } else if owed.is_left_to_time() {
                return;
            } else {
                std::thread::sleep(MOMENT);
            }
        }
    }

    /// Sends a release in the ordinary way; false if it is to be sent once more.
    fn send_again(&self, owed: &Owed, mut debt: Debt, limit: Option<BootTime>) -> bool {
        let token = debt.token.to_hex();
        let reply = self.run_told(Verb::Release, &debt.name, &[token.as_bytes()], limit);
        let answer = reply.and_then(|reply| {
            debt.in_doubt |= reply.resent;
            owed.learn(true);
            released(&reply.value)
        });
        match answer {
            Err(error) if !debt.until.has_passed() => {
                debt.in_doubt |= error.code() == Code::Uncertain;
                debt.due = BootTime::now().after(debt.pause);
                debt.pause = (debt.pause * 2).min(PAUSES[1]);
                owed.lose(debt);
                false
            }
            Err(error) => {
                let words = format!(
                    "the lock may be held until its lease ends: {}",
                    error.message()
                );
                owed.settle(debt, Err(Error::new(error.code(), words)));
                true
            }
            answer => {
                owed.settle(debt, answer);
                true
            }
        }
    }
}
