//! The store contract, verb by verb.

use super::client::{Entry, Node, Zookeeper, children_of};
use super::config::{Config, Dialect};
use super::names;
use super::queue::{self, Standing};
use super::session::Reply;
use super::wire;
use crate::capability::{Capabilities, Fence, Scope};
use crate::codes::Code;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::Signal;
use crate::store::{
    Answer, Attempt, Backend, Busy, Cancelled, Claim, Grant, Holder, Inspection, Page,
};
use crate::url::Url;
use crate::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// How often a line that changes is read again within one attempt.
const ROUNDS: usize = 4;
/// When to ask again if it did so all the time.
const SOON: Duration = Duration::from_millis(20);

/// Opens a `zookeeper:` URL; connects to nothing.
///
/// # Errors
/// `InvalidUrl`, `InvalidArgument`.
pub fn open(url: &mut Url) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(Zookeeper::new(Config::read(url)?)))
}

fn disagree(of: u32) -> Error {
    Error::invalid(format!("others use this name with {of} permits"))
}

impl Zookeeper {
    pub fn granted(&self, claim: &Claim, node: &Node) -> Result<Attempt> {
        if node.life.is_over() {
            return Err(Error::new(Code::Unavailable, "the session has ended"));
        }
        self.process()?
            .note(claim.token, |entry| entry.holds = true);
        Ok(Attempt::Granted(grant(node)))
    }

    /// Without a bell: looks first, and stands in line only if nobody is before us.
    fn attempt_once(&self, claim: &Claim, limit: BootTime) -> Result<Attempt> {
        let folder = names::node(&self.config, &claim.name)?;
        if self.process()?.known(claim.token).is_none() {
            let line =
                queue::contenders(self.config.dialect, &self.fresh_children(&folder, limit)?);
            match queue::newcomer(&line, claim.mode) {
                Standing::Holds => {}
                Standing::Disagrees(of) => return Err(disagree(of)),
                _ => return Ok(Attempt::Busy(Busy::default())),
            }
        }
        let (node, line) = self.stand(claim, &folder, limit)?;
        let line = queue::line(self.config.dialect, &line);
        match queue::standing(&line, node.name()) {
            Standing::Holds => self.granted(claim, &node),
            standing => {
                self.withdraw(claim, limit)?;
                match standing {
                    Standing::Disagrees(of) => Err(disagree(of)),
                    _ => Ok(Attempt::Busy(Busy::default())),
                }
            }
        }
    }

    /// With a bell: stands in line, and has the bell rung when it may be our turn.
    fn attempt_in_line(
        &self,
        claim: &Claim,
        bell: &Arc<Signal>,
        limit: BootTime,
    ) -> Result<Attempt> {
        let folder = names::node(&self.config, &claim.name)?;
        let process = self.process()?;
        // If the making of the node outlasts the caller's time, it is known all the same that it is taken.
        let look = match claim.deadline {
            Some(_) if process.known(claim.token).is_none() => Some(
                process
                    .session
                    .send([wire::children(&folder, false)], limit)?,
            ),
            _ => None,
        };
        let (mut node, mut line) = match (self.stand(claim, &folder, limit), look) {
            (Err(error), Some([look])) if error.is_trouble() && limit.has_passed() => {
                let reply = process.session.wait(&look, limit);
                let taken = reply.is_ok_and(|reply| self.shows_taken(&reply, claim.mode));
                return if taken {
                    Ok(Attempt::Busy(Busy::default()))
                } else {
                    Err(error)
                };
            }
            (stands, _) => stands?,
        };
        for _ in 0..ROUNDS {
            let found = queue::line(self.config.dialect, &line);
            match queue::standing(&found, node.name()) {
                Standing::Holds => {
                    process.unwatch(claim.token);
                    if matches!(claim.mode, Mode::Permits { .. })
                        && found.last().is_some_and(|last| last.node != node.name())
                    {
                        // Whoever follows learns of it by this.
                        process
                            .session
                            .tell(wire::set(&node.path, &self.data(claim)?));
                    }
                    return self.granted(claim, &node);
                }
                Standing::Disagrees(of) => {
                    self.withdraw(claim, limit)?;
                    return Err(disagree(of));
                }
                // Deleted by somebody, or the session that it was of is over.
                Standing::Missing => {
                    process.forget(claim.token);
                    (node, line) = self.stand(claim, &folder, limit)?;
                }
                waits => {
                    if !self.watch_before(claim, &folder, &node, waits, bell, limit)? {
                        bell.ring();
                    }
                    return Ok(Attempt::Busy(Busy::default()));
                }
            }
        }
        Ok(Attempt::Busy(Busy {
            until: None,
            poll: Some(BootTime::now().after(SOON)),
            ..Busy::default()
        }))
    }

    /// Has the bell rung when what stands in the way of a claim changes; false if it has changed already.
    fn watch_before(
        &self,
        claim: &Claim,
        folder: &str,
        node: &Node,
        waits: Standing,
        bell: &Arc<Signal>,
        limit: BootTime,
    ) -> Result<bool> {
        let process = self.process()?;
        let still = |nodes: &[String]| {
            let line = queue::line(self.config.dialect, nodes);
            queue::standing(&line, node.name()) == waits
        };
        match &waits {
            // Canary of row 26.
            Standing::Behind(_) if cfg!(canary = "wake_all") => {
                process.watch(claim.token, folder, bell);
                Ok(still(&self.children(folder, true, limit)?))
            }
            Standing::Behind(before) => {
                let path = names::child(folder, before);
                process.watch(claim.token, &path, bell);
                Ok(self.get(&path, true, limit)?.is_some())
            }
            Standing::Follows(before) => {
                // The line is read again once the watch stands: if the one before came to hold in between,
                // nobody would tell.
                let path = names::child(folder, before);
                process.watch(claim.token, &path, bell);
                let frames = [wire::get(&path, true), wire::children(folder, false)];
                let slots = process.session.send(frames, limit)?;
                let [_, after] = process.wait_both(slots, limit)?;
                Ok(still(&children_of(&after)?))
            }
            _ => {
                process.watch(claim.token, folder, bell);
                Ok(still(&self.children(folder, true, limit)?))
            }
        }
    }

    /// Whether a newcomer would have to wait.
    fn shows_taken(&self, reply: &Reply, mode: Mode) -> bool {
        children_of(reply).is_ok_and(|nodes| {
            let line = queue::contenders(self.config.dialect, &nodes);
            !matches!(
                queue::newcomer(&line, mode),
                Standing::Holds | Standing::Disagrees(_)
            )
        })
    }

    /// The claim's node, made if there is none, and the line that it stands in.
    fn stand(&self, claim: &Claim, folder: &str, limit: BootTime) -> Result<(Node, Vec<String>)> {
        let process = self.process()?;
        if let Some(entry) = process.known(claim.token) {
            let node = match entry.node {
                Some(node) => Some(node),
                // An earlier request's reply was lost.
                None => self.find(claim, folder, limit)?,
            };
            if let Some(node) = node.filter(|node| !node.life.is_over()) {
                let line = self.children(folder, false, limit)?;
                return Ok((node, line));
            }
            process.forget(claim.token);
        }
        self.join(claim, folder, limit)
    }

    /// Takes the claim's node out of the line.
    fn withdraw(&self, claim: &Claim, limit: BootTime) -> Result<bool> {
        let process = self.process()?;
        let Some(Entry { node, .. }) = process.known(claim.token) else {
            return Ok(false);
        };
        let node = match node {
            Some(node) => Some(node),
            None => {
                let folder = names::node(&self.config, &claim.name)?;
                self.find(claim, &folder, limit).map_err(|error| {
                    // It may stand there all the same.
                    Error::new(Code::Uncertain, error.message())
                })?
            }
        };
        // With a session that is over its nodes go by themselves.
        let done = match node.filter(|node| !node.life.is_over()) {
            Some(node) => self.delete(&node.path, Some(node.fence), limit)?,
            None => false,
        };
        process.forget(claim.token);
        Ok(done)
    }

    /// As it came, unless a node may be left behind: then somebody has to see to that.
    fn settled(&self, claim: &Claim, result: Result<Attempt>) -> Result<Attempt> {
        let Err(error) = result else { return result };
        let is_known = |process: &super::client::Process| process.known(claim.token).is_some();
        if self.known_process().is_some_and(is_known) && error.code() != Code::Uncertain {
            return Err(Error::new(
                Code::Uncertain,
                format!("{}; a node may be left behind for a while", error.message()),
            ));
        }
        Err(error)
    }
}

fn grant(node: &Node) -> Grant {
    Grant {
        lease: None,
        // Canary of row 28.
        fence: if cfg!(canary = "flat_count") {
            Some(1)
        } else {
            u64::try_from(node.fence).ok()
        },
        recovered: false,
    }
}

impl Backend for Zookeeper {
    fn capabilities(&self) -> Capabilities {
        let dialect = self.config.dialect;
        let queues = dialect != Dialect::Symfony;
        Capabilities {
            store: dialect.store(),
            shared: !matches!(dialect, Dialect::Curator | Dialect::Symfony),
            promote: false,
            permits: dialect == Dialect::Native,
            ttl: false,
            frees_on_death: true,
            fence: Fence::Durable,
            wakes: true,
            fair: queues,
            export: false,
            // A name with a slash stands there as a hash.
            list: queues,
            break_lock: true,
            survives_restart: true,
            clock: "server",
            scope: Scope::Cluster,
        }
    }

    fn url(&self) -> &str {
        &self.config.url
    }

    fn fingerprint(&self) -> String {
        self.config.fingerprint()
    }

    fn ping(&self, deadline: Option<BootTime>) -> Result<()> {
        self.read(&wire::exists("/", false), self.limit(deadline))
            .map(drop)
    }

    fn reserves_fences(&self) -> bool {
        false
    }

    fn attempt(&self, claim: &Claim, bell: Option<&Arc<Signal>>) -> Result<Attempt> {
        if claim.fence_block > 1 {
            return Err(Error::unsupported(
                "this store counts its fencing tokens itself: none can be reserved",
            ));
        }
        let limit = self.limit(claim.deadline);
        let result = match bell {
            _ if self.config.dialect == Dialect::Symfony => self.take_single(claim, bell, limit),
            Some(bell) => self.attempt_in_line(claim, bell, limit),
            None => self.attempt_once(claim, limit),
        };
        self.settled(claim, result)
    }

    fn cancel(&self, claim: &Claim) -> Result<Cancelled> {
        let limit = self.limit(claim.deadline);
        if self.config.dialect == Dialect::Symfony {
            let process = self.process()?;
            process.unwatch(claim.token);
            if let Some(node) = process.known(claim.token).and_then(|entry| entry.node)
                && self.holds_single(claim, limit)?
                && !node.life.is_over()
            {
                return Ok(Cancelled::Granted(grant(&node)));
            }
            self.release_single(claim, limit)?;
            return Ok(Cancelled::Gone);
        }
        let process = self.process()?;
        process.unwatch(claim.token);
        if let Some(node) = process.known(claim.token).and_then(|entry| entry.node) {
            let folder = names::node(&self.config, &claim.name)?;
            let line = queue::line(self.config.dialect, &self.children(&folder, false, limit)?);
            if queue::standing(&line, node.name()) == Standing::Holds && !node.life.is_over() {
                process.note(claim.token, |entry| entry.holds = true);
                return Ok(Cancelled::Granted(grant(&node)));
            }
        }
        self.withdraw(claim, limit)?;
        Ok(Cancelled::Gone)
    }

    fn extend(&self, _claim: &Claim, _ttl: Duration) -> Result<Answer> {
        Err(Error::unsupported("this store has no leases to lengthen"))
    }

    fn release(&self, claim: &Claim) -> Result<Answer> {
        // What this process has not asked for it does not hold: its nodes are its session's.
        let Some(entry) = self
            .known_process()
            .and_then(|process| process.known(claim.token))
        else {
            return Ok(Answer::NotOurs);
        };
        let process = self.process()?;
        if entry.node.as_ref().is_some_and(|node| node.life.is_over()) {
            process.forget(claim.token);
            return Ok(Answer::NotOurs);
        }
        let limit = self.limit(claim.deadline);
        if self.config.dialect == Dialect::Symfony {
            return self.release_single(claim, limit);
        }
        Ok(if self.withdraw(claim, limit)? {
            Answer::Done(None)
        } else {
            Answer::NotOurs
        })
    }

    fn is_held(&self, claim: &Claim) -> Result<bool> {
        let Some(process) = self.known_process() else {
            return Ok(false);
        };
        let node = process
            .known(claim.token)
            .filter(|entry| entry.holds)
            .and_then(|entry| entry.node);
        let Some(node) = node else { return Ok(false) };
        if node.life.is_over() {
            return Ok(false);
        }
        let limit = self.limit(claim.deadline);
        let stands = if self.config.dialect == Dialect::Symfony {
            self.holds_single(claim, limit)?
        } else {
            let stat = self.stat(&node.path, limit)?;
            stat.is_some_and(|stat| stat.created_by == node.fence)
        };
        if !stands {
            process.forget(claim.token);
        }
        Ok(stands && !node.life.is_over())
    }

    fn has_lost(&self, token: OwnerToken) -> bool {
        let entry = self
            .known_process()
            .and_then(|process| process.known(token));
        let node = entry
            .filter(|entry| entry.holds)
            .and_then(|entry| entry.node);
        node.is_none_or(|node| node.life.is_over())
    }

    fn alarm(&self, claim: &Claim, bell: &Arc<Signal>) {
        let process = self.known_process();
        let node = process
            .and_then(|process| process.known(claim.token))
            .and_then(|entry| entry.node);
        let (Some(process), Some(node)) = (process, node) else {
            bell.ring();
            return;
        };
        process.session.watch(&node.path, claim.token, bell);
        process.session.tell_end(&node.path);
        // The session may have ended before the bell was there to be rung.
        if node.life.is_over() {
            bell.ring();
        }
    }

    fn wait_free(&self, name: &Name, until: BootTime) -> Result<bool> {
        self.wait_until_free(name, until)
    }

    fn inspect(&self, name: &Name, deadline: Option<BootTime>) -> Result<Inspection> {
        self.look_at(name, self.limit(deadline))
    }

    fn list(
        &self,
        prefix: &[u8],
        cursor: Option<&str>,
        limit: usize,
        deadline: Option<BootTime>,
    ) -> Result<Page> {
        self.page(prefix, cursor, limit, self.limit(deadline))
    }

    fn break_lock(&self, name: &Name, deadline: Option<BootTime>) -> Result<bool> {
        self.break_holders(name, self.limit(deadline))
    }

    fn note_breaker(&self, name: &Name, label: &str, last: u64) -> Result<()> {
        self.note_in_node(name, label, last, self.limit(None))
    }

    fn breaker(&self, name: &Name, fence: Option<u64>) -> Result<Option<Holder>> {
        self.breaker_in_node(name, fence, self.limit(None))
    }
}
