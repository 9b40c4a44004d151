//! Exchanges with the server, and what this process knows of its own nodes.

use super::config::{Config, Dialect};
use super::life::Life;
use super::queue;
use super::session::{Broken, Reply, Session, Slot};
use super::wire::{self, Access, In, Kind, Stat};
use super::{names, record};
use crate::codes::Code;
use crate::fork::PerProcess;
use crate::lease::BootTime;
use crate::owner::OwnerToken;
use crate::store::Claim;
use crate::sync::Mutex;
use crate::{Error, Result};
use std::collections::HashMap;
use std::sync::Arc;

/// How often a folder that is cleared away at the same time is made again.
const ROUNDS: usize = 8;

#[derive(Debug)]
pub(super) struct Zookeeper {
    pub config: Config,
    process: PerProcess<Process>,
}

/// What each process makes for itself. Its claims live in its session, so that what is not here is
/// nobody's of this process.
#[derive(Debug)]
pub(super) struct Process {
    pub session: Arc<Session>,
    pub nodes: Mutex<HashMap<OwnerToken, Entry>>,
    /// `host pid`, as others see it.
    pub who: String,
}

/// What is known of a claim.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Its node; unknown as long as the answer to its making is.
    pub node: Option<Node>,
    /// The node whose end its bell waits for.
    pub watched: Option<String>,
    /// It was granted.
    pub holds: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub path: String,
    pub fence: i64,
    pub life: Arc<Life>,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.session.stop();
    }
}

impl Node {
    /// The last part of its path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// What came of an exchange that may have to be told apart later.
pub(super) fn settle(broken: Broken) -> Error {
    match broken {
        Broken::Unsent(error) => error,
        Broken::Cut => Error::new(
            Code::Uncertain,
            "the connection broke; the request may have been carried out",
        ),
        Broken::Late => Error::new(
            Code::Uncertain,
            "no answer in time; the request may have been carried out",
        ),
    }
}

/// Trouble after a request that may have been carried out.
fn unsure(error: Error) -> Error {
    let words = error.message();
    Error::new(
        Code::Uncertain,
        format!("{words}; the request may have been carried out"),
    )
}

/// Trouble of a request that changes nothing.
fn plain(broken: Broken) -> Error {
    match broken {
        Broken::Unsent(error) => error,
        Broken::Cut => Error::new(Code::Unavailable, "the connection broke"),
        Broken::Late => Error::new(Code::Unavailable, "the server has not answered in time"),
    }
}

/// An error that the server answered with.
pub(super) fn refusal(number: i32) -> Error {
    let (code, words) = wire::meaning(number);
    Error::new(code, format!("{words} ({number})"))
}

fn vanishes() -> Error {
    let words = "the lock's node vanishes again and again";
    Error::new(Code::Unavailable, words)
}

pub(super) fn odd() -> Error {
    Error::new(Code::Protocol, "an odd answer of the server")
}

impl Zookeeper {
    pub fn new(config: Config) -> Self {
        Zookeeper {
            config,
            process: PerProcess::new(),
        }
    }

    pub fn process(&self) -> Result<&Process> {
        self.process.get_or_try_init(|| {
            let host = nix::unistd::gethostname()
                .ok()
                .and_then(|host| host.into_string().ok())
                .unwrap_or_default();
            Ok(Process {
                session: Session::new(self.config.clone())?,
                nodes: Mutex::default(),
                who: format!("{} {}", host.replace(' ', "_"), std::process::id()),
            })
        })
    }

    /// As `process`, if something was asked of it before.
    pub fn known_process(&self) -> Option<&Process> {
        self.process.get()
    }

    /// Until when an exchange may take.
    pub fn limit(&self, deadline: Option<BootTime>) -> BootTime {
        let own = BootTime::now().after(self.config.io_timeout);
        deadline.map_or(own, |deadline| deadline.min(own))
    }

    /// Asks what changes nothing, again if the connection breaks.
    pub fn read(&self, frame: &[u8], limit: BootTime) -> Result<Reply> {
        let session = &self.process()?.session;
        loop {
            let [slot] = session.send([frame.to_vec()], limit)?;
            match session.wait(&slot, limit) {
                Ok(reply) => return Ok(reply),
                Err(Broken::Cut) if !limit.has_passed() => {}
                Err(broken) => return Err(plain(broken)),
            }
        }
    }

    /// The names of a node's children; none if it is not there.
    pub fn children(&self, path: &str, watch: bool, limit: BootTime) -> Result<Vec<String>> {
        children_of(&self.read(&wire::children(path, watch), limit)?)
    }

    /// As `read`, after all that was answered anywhere before: the server that is asked may be behind its
    /// leader, and the next one too if the connection breaks.
    pub fn read_fresh(&self, path: &str, frame: &[u8], limit: BootTime) -> Result<Reply> {
        let session = &self.process()?.session;
        loop {
            let [sync, look] = session.send([wire::sync(path), frame.to_vec()], limit)?;
            let both = session
                .wait(&sync, limit)
                .and_then(|synced| Ok([synced, session.wait(&look, limit)?]));
            match both {
                Ok([synced, _]) if synced.error != 0 => return Err(refusal(synced.error)),
                Ok([_, reply]) => return Ok(reply),
                Err(Broken::Cut) if !limit.has_passed() => {}
                Err(broken) => return Err(plain(broken)),
            }
        }
    }

    /// As `children`, after all that was answered anywhere before.
    pub fn fresh_children(&self, path: &str, limit: BootTime) -> Result<Vec<String>> {
        children_of(&self.read_fresh(path, &wire::children(path, false), limit)?)
    }

    /// A node's data and record; nothing if it is not there.
    pub fn get(&self, path: &str, watch: bool, limit: BootTime) -> Result<Option<(Vec<u8>, Stat)>> {
        data_of(&self.read(&wire::get(path, watch), limit)?)
    }

    /// As `get`, after all that was answered anywhere before.
    pub fn fresh_get(&self, path: &str, limit: BootTime) -> Result<Option<(Vec<u8>, Stat)>> {
        data_of(&self.read_fresh(path, &wire::get(path, false), limit)?)
    }

    /// A node's record; nothing if it is not there.
    pub fn stat(&self, path: &str, limit: BootTime) -> Result<Option<Stat>> {
        stat_of(&self.read(&wire::exists(path, false), limit)?)
    }

    /// As `stat`, after all that was answered anywhere before.
    pub fn fresh_stat(&self, path: &str, limit: BootTime) -> Result<Option<Stat>> {
        stat_of(&self.read_fresh(path, &wire::exists(path, false), limit)?)
    }

    pub fn access(&self) -> Access {
        // A peer could not use what only the owner may.
        if self.config.credentials.is_some() && self.config.dialect == Dialect::Native {
            Access::Owner
        } else {
            Access::Everybody
        }
    }

    /// Makes a node that outlives the session, and what it lies in.
    pub fn make_folder(&self, path: &str, data: &[u8], kind: Kind, limit: BootTime) -> Result<()> {
        for _ in 0..ROUNDS {
            let reply = self.read(&wire::create(path, data, kind, self.access()), limit)?;
            match reply.error {
                0 | wire::NODE_EXISTS => return Ok(()),
                wire::NO_NODE if path != "/" => {
                    self.make_folder(names::parent(path), &[], Kind::Persistent, limit)?;
                }
                number => return Err(refusal(number)),
            }
        }
        Err(vanishes())
    }

    /// What stands in a claim's node.
    pub fn data(&self, claim: &Claim) -> Result<Vec<u8>> {
        let who = &self.process()?.who;
        Ok(record::write(self.config.dialect, claim, who))
    }

    /// Puts the claim's node in line, and reads the line. Makes the lock's node if need be. The claim is
    /// known from before the request on, until it is surely in vain.
    pub fn join(
        &self,
        claim: &Claim,
        folder: &str,
        limit: BootTime,
    ) -> Result<(Node, Vec<String>)> {
        let process = self.process()?;
        let stem = queue::stem(self.config.dialect, claim.token, claim.mode);
        let path = names::child(folder, &stem);
        let frame = wire::create(&path, &self.data(claim)?, Kind::Numbered, self.access());
        for _ in 0..ROUNDS {
            process.note(claim.token, |_| {});
            let frames = [frame.clone(), wire::children(folder, false)];
            let [made, line] = process.session.send(frames, limit)?;
            match process.session.wait(&made, limit) {
                Ok(reply) if reply.error == 0 => {
                    let node = node_of(&reply)?;
                    process.note(claim.token, |entry| entry.node = Some(node.clone()));
                    let line = match process.session.wait(&line, limit) {
                        Ok(reply) => children_of(&reply)?,
                        Err(Broken::Cut) => self.children(folder, false, limit)?,
                        Err(broken) => return Err(plain(broken)),
                    };
                    return Ok((node, line));
                }
                Ok(reply) => {
                    process.forget(claim.token);
                    if reply.error != wire::NO_NODE {
                        return Err(refusal(reply.error));
                    }
                    self.make_lock(claim, folder, limit)?;
                }
                // The session's requests are carried out in their order: what was sent has acted by now,
                // or never will.
                Err(Broken::Cut) => {
                    if let Some(node) = self.find(claim, folder, limit)? {
                        let line = self.children(folder, false, limit)?;
                        return Ok((node, line));
                    }
                }
                Err(broken) => {
                    if matches!(broken, Broken::Unsent(_)) {
                        process.forget(claim.token);
                    }
                    return Err(settle(broken));
                }
            }
        }
        Err(vanishes())
    }

    /// Makes the lock's own node, which the server clears away when it has been empty for a while. Not kazoo's: a
    /// process of its makes a node once, and fails when that is gone.
    fn make_lock(&self, claim: &Claim, folder: &str, limit: BootTime) -> Result<()> {
        let last = folder.rsplit('/').next().unwrap_or_default();
        let is_long = self.config.dialect == Dialect::Native && names::is_long(last);
        let data = if is_long { claim.name.as_bytes() } else { &[] };
        let kind = match self.config.dialect {
            Dialect::Kazoo => Kind::Persistent,
            _ => Kind::Container,
        };
        self.make_folder(folder, data, kind, limit)
    }

    /// Looks for the claim's node after a reply was lost.
    pub fn find(&self, claim: &Claim, folder: &str, limit: BootTime) -> Result<Option<Node>> {
        // Canary of row 16.
        if cfg!(canary = "no_search") {
            return Ok(None);
        }
        let process = self.process()?;
        let stem = queue::stem(self.config.dialect, claim.token, claim.mode);
        let line = self.fresh_children(folder, limit)?;
        let Some(name) = line.iter().find(|name| queue::is_of(name, &stem)) else {
            return Ok(None);
        };
        let path = names::child(folder, name);
        let reply = self.read(&wire::exists(&path, false), limit)?;
        let Some(stat) = stat_of(&reply)? else {
            return Ok(None);
        };
        if stat.owner != reply.life.id {
            // Of a session that has ended; it goes with it, or now.
            self.delete(&path, Some(stat.created_by), limit)?;
            return Ok(None);
        }
        let node = Node {
            path,
            fence: stat.created_by,
            life: reply.life,
        };
        process.note(claim.token, |entry| entry.node = Some(node.clone()));
        Ok(Some(node))
    }

    /// Deletes a node; false if it was not there. Before it is asked again after a lost reply, the node is
    /// looked at: one of that name by another change than `made_by` is none of ours to delete. Nothing there
    /// means that the name is never used twice.
    pub fn delete(&self, path: &str, made_by: Option<i64>, limit: BootTime) -> Result<bool> {
        let process = self.process()?;
        let mut sent = false;
        loop {
            let [slot] = process.session.send([wire::delete(path)], limit)?;
            match process.session.wait(&slot, limit) {
                Ok(reply) => match reply.error {
                    0 => return Ok(true),
                    // The request whose reply was lost may have been it.
                    wire::NO_NODE => return Ok(sent),
                    number => return Err(refusal(number)),
                },
                Err(Broken::Cut) if !limit.has_passed() => sent = true,
                Err(Broken::Unsent(error)) if sent => return Err(unsure(error)),
                Err(broken) => return Err(settle(broken)),
            }
            if let Some(made_by) = made_by {
                let stat = self.fresh_stat(path, limit).map_err(unsure)?;
                if stat.is_none_or(|stat| stat.created_by != made_by) {
                    return Ok(true);
                }
            }
        }
    }
}

impl Process {
    /// Notes something of a claim.
    pub fn note(&self, token: OwnerToken, change: impl FnOnce(&mut Entry)) {
        let mut nodes = self.nodes.lock();
        change(nodes.entry(token).or_insert(Entry {
            node: None,
            watched: None,
            holds: false,
        }));
    }

    pub fn known(&self, token: OwnerToken) -> Option<Entry> {
        self.nodes.lock().get(&token).cloned()
    }

    /// Nothing is left of the claim.
    pub fn forget(&self, token: OwnerToken) {
        let entry = self.nodes.lock().remove(&token);
        if let Some(entry) = entry {
            let own = entry.node.map(|node| node.path);
            for path in entry.watched.into_iter().chain(own) {
                self.session.unwatch(&path, token);
            }
        }
    }

    /// Rings the bell at the next change of `path`, and of nothing else.
    pub fn watch(&self, token: OwnerToken, path: &str, bell: &Arc<crate::signal::Signal>) {
        let mut last = None;
        self.note(token, |entry| last = entry.watched.replace(path.to_owned()));
        if let Some(last) = last.filter(|last| last != path) {
            self.session.unwatch(&last, token);
        }
        self.session.watch(path, token, bell);
    }

    pub fn unwatch(&self, token: OwnerToken) {
        let mut last = None;
        if let Some(entry) = self.nodes.lock().get_mut(&token) {
            last = entry.watched.take();
        }
        if let Some(last) = last {
            self.session.unwatch(&last, token);
        }
    }

    /// Waits for two answers that were asked for together.
    pub fn wait_both(&self, slots: [Arc<Slot>; 2], limit: BootTime) -> Result<[Reply; 2]> {
        let [first, second] = slots;
        let first = self.session.wait(&first, limit).map_err(plain)?;
        let second = self.session.wait(&second, limit).map_err(plain)?;
        Ok([first, second])
    }
}

pub(super) fn children_of(reply: &Reply) -> Result<Vec<String>> {
    match reply.error {
        0 => In(&reply.body).names().ok_or_else(odd),
        wire::NO_NODE => Ok(Vec::new()),
        number => Err(refusal(number)),
    }
}

fn stat_of(reply: &Reply) -> Result<Option<Stat>> {
    match reply.error {
        0 => In(&reply.body).stat().ok_or_else(odd).map(Some),
        wire::NO_NODE => Ok(None),
        number => Err(refusal(number)),
    }
}

fn data_of(reply: &Reply) -> Result<Option<(Vec<u8>, Stat)>> {
    match reply.error {
        0 => {
            let mut body = In(&reply.body);
            let data = body.bytes().ok_or_else(odd)?.to_vec();
            Ok(Some((data, body.stat().ok_or_else(odd)?)))
        }
        wire::NO_NODE => Ok(None),
        number => Err(refusal(number)),
    }
}

/// The node that was made.
pub(super) fn node_of(reply: &Reply) -> Result<Node> {
    let mut body = In(&reply.body);
    let path = body.text().ok_or_else(odd)?.to_owned();
    let stat = body.stat().ok_or_else(odd)?;
    Ok(Node {
        path,
        fence: stat.created_by,
        life: reply.life.clone(),
    })
}
