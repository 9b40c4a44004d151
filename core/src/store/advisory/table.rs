//! What this process holds and waits for. The server would grant a session twice what it has; this does not.

use super::alarms::End;
use super::keys::Key;
use super::session::Session;
use super::sql::NO;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::Signal;
use crate::store::db::{Fault, Rows};
use crate::store::{Claim, Grant};
use std::collections::{HashMap, VecDeque};
use std::os::fd::RawFd;
use std::sync::Arc;

/// On which session a hold lives.
#[derive(Debug)]
pub(super) enum On {
    /// The one that all threads use.
    Shared,
    /// The one that waited for it; nothing while somebody speaks over it.
    Own(Option<Box<Session>>),
}

#[derive(Debug)]
pub(super) struct Hold {
    pub token: OwnerToken,
    pub mode: Mode,
    pub name: Name,
    pub label: Option<Arc<str>>,
    pub since: BootTime,
    pub fence: Option<u64>,
    pub on: On,
    /// Of its session.
    pub end: Arc<End>,
    /// The mode that the server was asked to turn it into, until its answer is here.
    pub changing: Option<Mode>,
}

impl Hold {
    pub fn new(claim: &Claim, fence: Option<u64>, on: On, end: &Arc<End>) -> Self {
        Hold {
            token: claim.token,
            mode: claim.mode,
            name: claim.name.clone(),
            label: claim.label.clone(),
            since: BootTime::now(),
            fence,
            on,
            end: end.clone(),
            changing: None,
        }
    }

    pub fn grant(&self) -> Grant {
        Grant {
            lease: None,
            fence: self.fence,
            recovered: false,
        }
    }
}

#[derive(Debug)]
struct Waiter {
    token: OwnerToken,
    bell: Arc<Signal>,
}

/// A wait in the server's queue.
#[derive(Debug)]
pub(super) struct Wait {
    pub token: OwnerToken,
    /// Nothing while its owner speaks over it.
    pub session: Option<Box<Session>>,
    /// What the server answered.
    pub outcome: Option<Result<Rows, Fault>>,
}

impl Wait {
    /// Whether the server's answer is here; never waits for it.
    fn is_answered(&mut self) -> bool {
        if self.outcome.is_none() {
            let session = self.session.as_mut();
            self.outcome = session.and_then(|session| session.settle_now());
        }
        self.outcome.is_some()
    }
}

#[derive(Debug, Default)]
struct Entry {
    holds: Vec<Hold>,
    queue: VecDeque<Waiter>,
    wait: Option<Wait>,
}

/// What a waiter finds.
#[derive(Debug)]
pub(super) enum Place {
    /// It is not its turn to wait in the server, or it does already.
    Queued,
    /// It may wait now, over this session if there is one to spare.
    Begin(Option<Box<Session>>),
    /// The server has answered.
    Answered(Wait),
    Held(Grant),
}

#[derive(Debug, Default)]
pub(super) struct Table {
    entries: HashMap<Key, Entry>,
    /// Waits in the server, of all names.
    waits: usize,
    /// Sessions that hold and wait for nothing.
    idle: Vec<Session>,
    /// Who was last told by the server that a lock is not free.
    pub refused: Option<OwnerToken>,
}

impl Table {
    /// Whether the claim stands in the queue, or holds.
    pub fn knows(&self, key: &Key, token: OwnerToken) -> bool {
        self.entries.get(key).is_some_and(|entry| {
            let mut queue = entry.queue.iter();
            queue.any(|waiter| waiter.token == token)
        }) || self.hold(key, token).is_some()
    }

    pub fn hold(&self, key: &Key, token: OwnerToken) -> Option<&Hold> {
        let holds = &self.entries.get(key)?.holds;
        holds.iter().find(|hold| hold.token == token)
    }

    pub fn hold_mut(&mut self, key: &Key, token: OwnerToken) -> Option<&mut Hold> {
        let holds = &mut self.entries.get_mut(key)?.holds;
        holds.iter_mut().find(|hold| hold.token == token)
    }

    /// Whether the claim must not be asked for: somebody here holds it, or stands before it.
    pub fn is_in_the_way(&self, key: &Key, claim: &Claim) -> bool {
        let Some(entry) = self.entries.get(key) else {
            return false;
        };
        let waits = claim.fair && !entry.queue.iter().all(|waiter| waiter.token == claim.token);
        waits || entry.excludes(claim.mode)
    }

    /// Whether the shared session holds it shared.
    pub fn shares(&self, key: &Key) -> bool {
        self.entries.get(key).is_some_and(|entry| {
            let mut holds = entry.holds.iter();
            holds.any(|hold| hold.mode == Mode::Shared && matches!(hold.on, On::Shared))
        })
    }

    /// How many hold it over the shared session.
    pub fn on_shared(&self, key: &Key) -> usize {
        self.entries.get(key).map_or(0, |entry| {
            let holds = entry.holds.iter();
            holds.filter(|hold| matches!(hold.on, On::Shared)).count()
        })
    }

    pub fn add(&mut self, key: &Key, hold: Hold) {
        let entry = self.entries.entry(key.clone()).or_default();
        entry.holds.push(hold);
    }

    pub fn remove(&mut self, key: &Key, token: OwnerToken) -> Option<Hold> {
        let holds = &mut self.entries.get_mut(key)?.holds;
        let index = holds.iter().position(|hold| hold.token == token)?;
        let hold = holds.swap_remove(index);
        self.tidy(key);
        Some(hold)
    }

    /// Before its mode is changed to another: the one that it has. Nothing if there is nothing to be asked.
    pub fn begin_change(&mut self, key: &Key, token: OwnerToken, to: Mode) -> Option<Mode> {
        let alone = self.on_shared(key) < 2;
        let hold = self.hold_mut(key, token)?;
        // The others on the same session would not be in the server's way.
        let is_in_company = matches!(hold.on, On::Shared) && !alone;
        if hold.mode == to || (to != Mode::Shared && is_in_company) {
            return None;
        }
        hold.changing = Some(to);
        Some(hold.mode)
    }

    /// Takes in what the server says to a change of its mode.
    pub fn end_change(&mut self, key: &Key, token: OwnerToken, answer: i64) {
        if let Some(hold) = self.hold_mut(key, token)
            && let Some(to) = hold.changing.take()
            && answer > NO
        {
            hold.mode = to;
            hold.fence = hold.fence.and(u64::try_from(answer).ok());
        }
    }

    /// The shared session is gone, and with it what it held.
    pub fn forget_shared(&mut self) {
        self.entries.retain(|_, entry| {
            entry.holds.retain(|hold| !matches!(hold.on, On::Shared));
            !entry.is_empty()
        });
    }

    /// Takes a place in the queue, or looks what has come of it.
    pub fn queue(&mut self, key: &Key, claim: &Claim, bell: &Arc<Signal>, most: usize) -> Place {
        let entry = self.entries.entry(key.clone()).or_default();
        if let Some(hold) = entry.holds.iter().find(|hold| hold.token == claim.token) {
            return Place::Held(hold.grant());
        }
        match entry.queue.iter_mut().find(|one| one.token == claim.token) {
            Some(waiter) => waiter.bell = bell.clone(),
            None => entry.queue.push_back(Waiter {
                token: claim.token,
                bell: bell.clone(),
            }),
        }
        // Its own look, too: whoever listens may have missed that the answer came.
        let is_answered = |wait: &mut Wait| wait.token == claim.token && wait.is_answered();
        match entry.wait.as_mut().map(is_answered) {
            Some(true) => {}
            Some(false) => return Place::Queued,
            None if entry
                .queue
                .front()
                .is_none_or(|first| first.token != claim.token)
                || self.waits >= most =>
            {
                return Place::Queued;
            }
            None => {
                self.waits += 1;
                entry.wait = Some(Wait {
                    token: claim.token,
                    session: None,
                    outcome: None,
                });
                return Place::Begin(self.idle.pop().map(Box::new));
            }
        }
        self.waits -= 1;
        entry.wait.take().map_or(Place::Queued, Place::Answered)
    }

    /// The session over which the claim waits now.
    pub fn waits_over(&mut self, key: &Key, session: Box<Session>) {
        if let Some(wait) = self
            .entries
            .get_mut(key)
            .and_then(|entry| entry.wait.as_mut())
        {
            wait.session = Some(session);
        }
    }

    /// Leaves the queue; the wait in the server, if it was this claim's.
    pub fn leave(&mut self, key: &Key, token: OwnerToken) -> Option<Wait> {
        let entry = self.entries.get_mut(key)?;
        entry.queue.retain(|waiter| waiter.token != token);
        let wait = entry.wait.take_if(|wait| wait.token == token);
        if wait.is_some() {
            self.waits -= 1;
        }
        self.tidy(key);
        wait
    }

    /// Keeps a session for the next who waits.
    pub fn keep(&mut self, session: Session, most: usize) {
        if self.idle.len() < most {
            self.idle.push(session);
        }
    }

    /// Those who could wait in the server now and do not.
    pub fn next_in_line(&self, most: usize) -> Vec<Arc<Signal>> {
        let room = most.saturating_sub(self.waits);
        let waiting = self.entries.values().filter(|entry| entry.wait.is_none());
        waiting
            .filter_map(|entry| entry.queue.front())
            .take(room)
            .map(|waiter| waiter.bell.clone())
            .collect()
    }

    /// Reads what servers have answered to those who wait; whom to ring. Nobody else has the sessions yet that
    /// answered: `ignore` stops listening to them.
    pub fn read(&mut self, ignore: impl Fn(RawFd)) -> Vec<Arc<Signal>> {
        let mut bells = Vec::new();
        for entry in self.entries.values_mut() {
            let Some(wait) = &mut entry.wait else {
                continue;
            };
            if wait.outcome.is_some() || !wait.is_answered() {
                continue;
            }
            if let Some(session) = &wait.session {
                ignore(session.fd());
            }
            let waiter = entry.queue.iter().find(|one| one.token == wait.token);
            bells.extend(waiter.map(|waiter| waiter.bell.clone()));
        }
        bells
    }

    /// How many wait here and not in the server.
    pub fn waiters_here(&self, key: &Key) -> usize {
        self.entries.get(key).map_or(0, |entry| {
            entry.queue.len() - usize::from(entry.wait.is_some()).min(entry.queue.len())
        })
    }

    /// The holds of this process, by the number of their session; `None` is the shared one's.
    pub fn holds(&self) -> impl Iterator<Item = (&Key, &Hold)> {
        self.entries
            .iter()
            .flat_map(|(key, entry)| entry.holds.iter().map(move |hold| (key, hold)))
    }

    fn tidy(&mut self, key: &Key) {
        if self.entries.get(key).is_some_and(Entry::is_empty) {
            self.entries.remove(key);
        }
    }
}

impl Entry {
    fn excludes(&self, mode: Mode) -> bool {
        let mut holds = self.holds.iter();
        holds.any(|hold| mode != Mode::Shared || hold.mode != Mode::Shared)
    }

    fn is_empty(&self) -> bool {
        self.holds.is_empty() && self.queue.is_empty() && self.wait.is_none()
    }
}
