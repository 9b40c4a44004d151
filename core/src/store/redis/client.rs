//! What a process has of a server: kept connections, and the verbs' scripts in the form that it allows.

use super::commands::{self, Deletion};
use super::config::{Config, Dialect, Place};
use super::connection::{Connection, Kind, check, pack};
use super::exchange::{Reply, Request, in_doubt};
use super::keys::{Keys, slot};
use super::left::Late;
use super::nodes::{Node, Nodes};
use super::owed::Owed;
use super::pipe::Line;
use super::polls::Polls;
use super::scripts::{Form, Verb, script};
use super::subscription::Subscription;
use super::unended::Unended;
use crate::Result;
use crate::codes::Code;
use crate::error::Error;
use crate::fork::PerProcess;
use crate::lease::BootTime;
use crate::name::Name;
use crate::store::Claim;
use crate::store::cautions::Cautions;
use crate::store::making::Making;
use crate::store::watches::Watches;
use crate::sync::Mutex;
use redis::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// Idle connections kept per process.
const MOST_IDLE: usize = 64;
/// So many threads connect at a time: the others soon find a connection that is not needed any more, and a server
/// that is slow has fewer to greet.
const MOST_MAKERS: u32 = 4;

/// Where a request may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// On any connection.
    Any,
    /// Behind no reply that is late: a lease may run out meanwhile.
    First,
}

/// What is asked of a lock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub verb: Verb,
    pub name: &'a Name,
    pub args: &'a [&'a [u8]],
    /// Not again once it may have been carried out.
    pub once: bool,
}

#[derive(Debug)]
pub(super) struct Redis {
    me: Weak<Redis>,
    pub config: Config,
    process: PerProcess<Process>,
}

/// What each process makes for itself.
#[derive(Debug)]
pub(super) struct Process {
    pub idle: Mutex<Vec<Connection>>,
    making: Making,
    pub nodes: Nodes,
    /// A server has been asked what it is like.
    looked: AtomicBool,
    pub subscription: Subscription,
    pub watches: Watches,
    pub polls: Polls,
    pub line: Line,
    pub unended: Arc<Unended>,
    pub late: Arc<Late>,
    pub owed: Arc<Owed>,
    /// On a dialect: the server's rights allow no keys of ours beside the peer's.
    bare: AtomicBool,
    /// Nor scripts; then it goes by commands.
    scriptless: AtomicBool,
    /// How the server deletes a key that has a value, if it was asked.
    pub deletion: Mutex<Option<Deletion>>,
    cautions: Cautions,
    /// `host pid`, as others see it.
    who: String,
}

impl Redis {
    pub fn new(config: Config) -> Arc<Self> {
        Arc::new_cyclic(|me| Redis {
            me: me.clone(),
            config,
            process: PerProcess::new(),
        })
    }

    pub fn process(&self) -> Result<&Process> {
        self.process.get_or_try_init(|| {
            let host = nix::unistd::gethostname()
                .ok()
                .and_then(|host| host.into_string().ok())
                .unwrap_or_default();
            let who = format!("{} {}", host.replace(' ', "_"), std::process::id());
            Ok(Process {
                idle: Mutex::default(),
                making: Making::by(MOST_MAKERS),
                nodes: Nodes::default(),
                looked: AtomicBool::new(false),
                subscription: Subscription::new()?,
                watches: Watches::default(),
                polls: Polls::default(),
                line: Line::default(),
                unended: Arc::default(),
                late: Arc::default(),
                owed: Arc::new(Owed::new(&self.me)),
                bare: AtomicBool::new(false),
                scriptless: AtomicBool::new(false),
                deletion: Mutex::default(),
                cautions: Cautions::default(),
                who,
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

    /// Whose a record is, for people. Records and orders are lines.
    pub fn who(&self, label: Option<&str>) -> Result<String> {
        let host_and_pid = &self.process()?.who;
        let label = label.unwrap_or_default();
        Ok(if label.contains(['%', '\n']) {
            let escaped = label.replace('%', "%25").replace('\n', "%0A");
            format!("{host_and_pid} {escaped}")
        } else {
            [host_and_pid, " ", label].concat()
        })
    }

    /// A connection to this server that nothing has arrived on, or a new one.
    pub fn connect(&self, node: &Node, turn: Turn, limit: BootTime) -> Result<Connection> {
        let process = self.process()?;
        if let Some(kept) = self.kept(process, node, turn) {
            return Ok(kept);
        }
        let _maker = process.making.begin(limit)?;
        if let Some(kept) = self.kept(process, node, turn) {
            return Ok(kept);
        }
        let looks = !process.looked.swap(true, Ordering::Relaxed);
        let kind = if looks { Kind::First } else { Kind::Server };
        let opened = Connection::open(&self.config, node, kind, limit).and_then(|mut opened| {
            self.greet_life(&mut opened, limit)?;
            Ok(opened)
        });
        if looks && opened.is_err() {
            process.looked.store(false, Ordering::Relaxed);
        }
        let mut connection = opened?;
        // The server may have begun anew.
        process.owed.learn(false);
        let info = connection.info.take().filter(|_| looks);
        let info = info.unwrap_or_default();
        let words = [
            connection.take_words(),
            of_eviction(&info),
            of_replicas(&info, self.config.min_acks),
        ];
        process.cautions.add(words.into_iter().flatten());
        Ok(connection)
    }

    /// A kept one. Behind a reply that is late it takes longer, but not as long as a new connection takes.
    pub fn kept(&self, process: &Process, node: &Node, turn: Turn) -> Option<Connection> {
        loop {
            let mut idle = process.idle.lock();
            let of_it = |kept: &Connection| kept.node == *node;
            let behind = |kept: &Connection| turn == Turn::Any && kept.owing.has_room();
            let at = idle
                .iter()
                .rposition(|kept| of_it(kept) && !kept.owing.is_late())
                .or_else(|| idle.iter().rposition(|kept| of_it(kept) && behind(kept)))?;
            let mut kept = idle.swap_remove(at);
            drop(idle);
            // Otherwise the server has closed it, by a restart for instance: nothing is lost yet.
            if kept.is_sound() || cfg!(canary = "keep_broken") {
                return Some(kept);
            }
        }
    }

    /// The server, if there is one alone.
    pub fn only_node(&self) -> Option<&Node> {
        match &self.config.place {
            Place::One(node) => Some(node),
            Place::Sentinel { .. } | Place::Cluster(_) => None,
        }
    }

    /// After trouble with a server: the others that lead there were made before whatever that was. What owes
    /// replies is looked at by whoever reads them.
    pub fn drop_idle(&self, process: &Process, node: &Node) {
        let mut idle = process.idle.lock();
        idle.retain(|kept| kept.node != *node || !kept.owing.is_empty());
    }

    pub fn keep(&self, process: &Process, mut connection: Connection) {
        connection.is_new = false;
        let mut idle = process.idle.lock();
        if idle.len() < MOST_IDLE || !connection.owing.is_empty() {
            idle.push(connection);
        }
    }

    /// A connection to any server that hears what is published.
    pub fn connect_any(&self, limit: BootTime) -> Result<Connection> {
        let nodes = &self.process()?.nodes;
        let mut last = None;
        for node in nodes.all(&self.config, limit)? {
            match Connection::open(&self.config, &node, Kind::Listener, limit) {
                Ok(connection) => return Ok(connection),
                Err(error) if error.code() != Code::Unavailable => return Err(error),
                Err(error) => {
                    nodes.distrust(&node);
                    last = Some(error);
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::new(Code::Unavailable, "there is no server")))
    }

    pub fn is_native(&self) -> bool {
        self.config.dialect == Dialect::Native
    }

    /// Whether there is no queue, for want of rights to keys of ours.
    pub fn is_bare(&self) -> bool {
        !self.is_native()
            && self
                .known_process()
                .is_some_and(|process| process.bare.load(Ordering::Relaxed))
    }

    /// Whether it goes by commands, for want of rights to run scripts.
    pub fn is_scriptless(&self) -> bool {
        self.is_bare()
            && self
                .known_process()
                .is_some_and(|process| process.scriptless.load(Ordering::Relaxed))
    }

    pub fn form(&self, bare: bool) -> Form {
        Form {
            dialect: self.config.dialect,
            bare,
            cluster: matches!(self.config.place, Place::Cluster(_)),
        }
    }

    /// Something to tell once.
    pub fn take_words(&self) -> Option<String> {
        self.known_process()?.cautions.take()
    }

    /// The request that looks at the lock which stands at `key`.
    pub fn inspection_request(&self, key: &[u8], shown: &[u8], whole: bool) -> Result<Vec<u8>> {
        let bare = self.is_bare();
        let script = script(self.form(bare), Verb::Inspect);
        let keys = Keys::at(&self.config, key, shown, bare)?;
        let count = keys.0.len().to_string();
        let (word, text) = if whole {
            ("EVAL", &script.text)
        } else {
            ("EVALSHA", &script.sha)
        };
        let mut words: Vec<&[u8]> = vec![word.as_bytes(), text.as_bytes(), count.as_bytes()];
        words.extend(keys.0.iter().map(Vec::as_slice));
        words.push(shown);
        Ok(pack(&words))
    }

    pub fn run(
        &self,
        verb: Verb,
        name: &Name,
        args: &[&[u8]],
        deadline: Option<BootTime>,
    ) -> Result<Value> {
        self.run_told(verb, name, args, deadline)
            .map(|reply| reply.value)
    }

    /// As `run`; also tells what the way there was like.
    pub fn run_told(
        &self,
        verb: Verb,
        name: &Name,
        args: &[&[u8]],
        deadline: Option<BootTime>,
    ) -> Result<Reply> {
        let question = Question {
            verb,
            name,
            args,
            // It names nobody: sent again it would end the hold of whoever came next.
            once: verb == Verb::Break,
        };
        self.put(question, deadline)
    }

    /// As `run_told`, for a claim.
    pub fn run_for(&self, claim: &Claim, verb: Verb, args: &[&[u8]]) -> Result<Reply> {
        let question = Question {
            verb,
            name: &claim.name,
            args,
            once: claim.recurs,
        };
        self.put(question, claim.deadline)
    }

    fn put(&self, question: Question<'_>, deadline: Option<BootTime>) -> Result<Reply> {
        let Question {
            verb, name, args, ..
        } = question;
        let limit = self.limit(deadline);
        let looks = verb.looks(args.len());
        let token = verb.token(args);
        let first = self.in_order(name, token, looks, limit)?;
        let was_owed = first.is_some();
        let reply = self.run_on(first, question, limit);
        if was_owed && looks && self.must_release_again(name) {
            let first = self.in_order(name, token, looks, limit)?;
            return self.run_on(first, question, limit);
        }
        reply
    }

    fn run_on(
        &self,
        first: Option<Connection>,
        question: Question<'_>,
        limit: BootTime,
    ) -> Result<Reply> {
        if self.is_scriptless()
            && let Some(told) = commands::run(self, question, limit)?
        {
            return Ok(told);
        }
        let bare = self.is_bare();
        let answer = self.run_form(first, self.form(bare), question, limit);
        let Err(error) = &answer else { return answer };
        // Without rights to keys of ours, or where they are on another server, there is still the lock.
        let forbidden = error.code() == Code::Permission;
        let apart = error.code() == Code::Unsupported;
        if bare || self.is_native() || !(forbidden || apart) {
            return answer;
        }
        let process = self.process()?;
        let told = match self.run_form(None, self.form(true), question, limit) {
            Err(error) if error.code() == Code::Permission && self.has_commands() => {
                let told = commands::run(self, question, limit)?.ok_or(error)?;
                process.scriptless.store(true, Ordering::Relaxed);
                told
            }
            told => told?,
        };
        if forbidden && !process.bare.swap(true, Ordering::Relaxed) {
            let words = if process.scriptless.load(Ordering::Relaxed) {
                NO_SCRIPTS
            } else {
                NO_HELPERS
            };
            process.cautions.add([words.to_owned()]);
        }
        Ok(told)
    }

    /// Whether a lock of this format could be had without scripts.
    fn has_commands(&self) -> bool {
        self.config.dialect == Dialect::Plain
    }

    /// The request, with the script's text if `whole`, and the slot that it goes to.
    pub fn request(
        &self,
        form: Form,
        verb: Verb,
        name: &Name,
        args: &[&[u8]],
        whole: bool,
    ) -> (Vec<u8>, u16) {
        let script = script(form, verb);
        let keys = Keys::of(&self.config, name, form.bare);
        let count = [b'0' + keys.0.len() as u8];
        let mut words: Vec<&[u8]> = Vec::with_capacity(20);
        let (word, text): (&[u8], _) = if whole {
            (b"EVAL", &script.text)
        } else {
            (b"EVALSHA", &script.sha)
        };
        words.extend([word, text.as_bytes(), &count]);
        words.extend(keys.0.iter().map(Vec::as_slice));
        words.push(name.as_bytes());
        words.extend(args);
        let slot = match (&self.config.place, keys.0.first()) {
            (Place::Cluster(_), Some(key)) => slot(key),
            _ => 0,
        };
        (pack(&words), slot)
    }

    fn run_form(
        &self,
        first: Option<Connection>,
        form: Form,
        question: Question<'_>,
        limit: BootTime,
    ) -> Result<Reply> {
        let Question {
            verb,
            name,
            args,
            once,
        } = question;
        let (bytes, slot) = self.request(form, verb, name, args, false);
        let grants = verb.grants();
        let acks = self.config.min_acks > 0 && grants;
        let token = verb.token(args);
        let turn = match verb {
            Verb::Extend => Turn::First,
            _ => Turn::Any,
        };
        let send = |first, bytes: &[u8]| {
            let request = Request {
                bytes,
                slot,
                acks,
                token,
                grants,
                turn,
                once,
            };
            self.exchange_on(first, request, limit)
        };
        let mut reply = send(first, &bytes)?;
        // Trouble of a later request says nothing of what an earlier one has done.
        let doubt = |error: Error, sent| if sent { in_doubt(&error) } else { error };
        if matches!(&reply.value, Value::ServerError(error) if error.code() == "NOSCRIPT")
            && !cfg!(canary = "no_eval")
        {
            let again = send(None, &self.request(form, verb, name, args, true).0)
                .map_err(|error| doubt(error, reply.resent))?;
            reply = Reply {
                resent: reply.resent || again.resent,
                ..again
            };
        }
        reply.value = check(reply.value).map_err(|error| doubt(error, reply.resent))?;
        Ok(reply)
    }
}

/// A line of what a server says of itself.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

/// Words about a server whose locks a promoted replica may not have.
fn of_replicas(info: &str, acks: u32) -> Option<String> {
    let count: u32 = field(info, "connected_slaves")?.trim().parse().ok()?;
    (count > 0 && acks == 0).then(|| {
        format!(
            "this server has replicas ({count}): one that is promoted may not have heard of the newest locks, which others then get as well; with `min_acks=1` a grant counts only if a replica has it"
        )
    })
}

/// Words about a server that throws locks away when its memory is full.
fn of_eviction(info: &str) -> Option<String> {
    let policy = field(info, "maxmemory_policy")?;
    if field(info, "maxmemory")? == "0" || policy == "noeviction" || cfg!(canary = "no_caution") {
        return None;
    }
    Some(format!(
        "when its memory is full, this server throws keys away, locks among them (maxmemory-policy {}): set it to noeviction",
        crate::error::printable(policy.as_bytes())
    ))
}

/// What an owner of locks in a peer's format should know.
const NO_HELPERS: &str = "the server's rights allow no keys `synlock:q*`: waiters poll, in no order, and there are no fencing tokens";

const NO_SCRIPTS: &str = "the server's rights allow no scripts: waiters poll, in no order, and there are no fencing tokens";
