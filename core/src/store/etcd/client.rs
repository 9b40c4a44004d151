//! Exchanges with the servers, and what this process knows of its own claims.

use super::config::Config;
use super::http::{Broken, Connection, protocol};
use super::leases::{Lease, Leases};
use super::watch::Watches;
use super::wire::{self, Refusal};
use crate::codes::Code;
use crate::fork::PerProcess;
use crate::hash::ByToken;
use crate::lease::BootTime;
use crate::owner::OwnerToken;
use crate::sync::Mutex;
use crate::{Error, Result};
use serde_json::{Value, json};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Idle connections that are kept.
const MOST_IDLE: usize = 16;
/// Before what is in doubt is asked again.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Etcd {
    pub config: Config,
    process: PerProcess<Process>,
}

/// What each process makes for itself.
#[derive(Debug)]
pub(super) struct Process {
    idle: Mutex<Vec<(usize, Connection)>>,
    /// Which server is asked first.
    current: AtomicUsize,
    /// Of the login; empty if the servers ask for none.
    token: Mutex<Option<String>>,
    pub leases: Leases,
    claims: Mutex<ByToken<Entry>>,
    pub watches: Arc<Watches>,
    pub host: String,
}

/// What is known of a claim.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub key: Vec<u8>,
    /// What stands there.
    pub value: String,
    /// When the key was made; unknown as long as the answer to its making is.
    pub created: Option<i64>,
    /// When it was changed last.
    pub changed: i64,
    /// A request may be under way still that hangs it on another lease.
    pub adrift: bool,
    pub lease: Lease,
    /// The lease that the key is named after, if it hangs on another one now. No other claim may have it while the
    /// key is there: theirs would have the same name.
    pub named: Option<Lease>,
    /// A request that makes the key may be under way still: its lease must be ended with the claim.
    pub unsure: bool,
    /// It was granted, and until when it is sure.
    pub until: Option<BootTime>,
    /// Its watch, and what of.
    pub watch: Option<(u64, Vec<u8>)>,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.watches.stop();
    }
}

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    pub value: Value,
    /// The request was sent more than once: an earlier one may have acted, or act yet.
    pub again: bool,
    /// Before it was sent at all.
    pub asked: BootTime,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum Fault {
    LeaseGone,
    LeaseExists,
    Other(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Other(error)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::LeaseGone => Error::new(Code::Unavailable, "the lease has run out"),
            Fault::LeaseExists => Error::new(Code::Unavailable, "the lease's number is taken"),
            Fault::Other(error) => error,
        }
    }
}

/// How one try ended.
enum Tried {
    Done(Value),
    Refused(Fault),
    Stranger,
    Failed { error: Error, sent: bool },
}

impl Etcd {
    pub fn new(config: Config) -> Self {
        Etcd {
            config,
            process: PerProcess::new(),
        }
    }

    pub fn process(&self) -> Result<&Process> {
        self.process.get_or_try_init(|| {
            let host = nix::unistd::gethostname()
                .ok()
                .and_then(|host| host.into_string().ok());
            Ok(Process {
                idle: Mutex::default(),
                current: AtomicUsize::new(0),
                token: Mutex::default(),
                leases: Leases::default(),
                claims: Mutex::default(),
                watches: Watches::new(self.config.clone())?,
                host: host.unwrap_or_default(),
            })
        })
    }

    /// Until when an exchange may take.
    pub fn limit(&self, deadline: Option<BootTime>) -> BootTime {
        let own = BootTime::now().after(self.config.io_timeout);
        deadline.map_or(own, |deadline| deadline.min(own))
    }

    /// Asks what changes nothing.
    pub fn read(&self, path: &str, body: &Value, limit: BootTime) -> Result<Value> {
        Ok(self.call(path, body, limit, false)?.value)
    }

    /// Asks what may be asked twice, until there is a definite answer or no time.
    pub fn act(
        &self,
        path: &str,
        body: &Value,
        limit: BootTime,
    ) -> std::result::Result<Reply, Fault> {
        self.call(path, body, limit, true)
    }

    /// One server after the other. What is in doubt is asked again as long as there is time.
    fn call(
        &self,
        path: &str,
        body: &Value,
        limit: BootTime,
        acts: bool,
    ) -> std::result::Result<Reply, Fault> {
        let process = self.process()?;
        let asked = BootTime::now();
        let body = body.to_string();
        let servers = self.config.endpoints.len();
        let (mut again, mut logged_in) = (false, false);
        for tries in 1.. {
            let place = process.current.load(Ordering::Relaxed) % servers;
            let until = if tries < servers {
                // A server that does not answer must leave time for the others.
                limit.min(BootTime::now().after(limit.left() / 2))
            } else {
                limit
            };
            let (error, sent) = match self.ask(process, place, path, &body, until) {
                Tried::Done(value) => {
                    return Ok(Reply {
                        value,
                        again,
                        asked,
                    });
                }
                // Not the answer to an earlier one, which may have been carried out.
                Tried::Refused(Fault::Other(error)) if again => return Err(in_doubt(&error).into()),
                Tried::Refused(fault) => return Err(fault),
                Tried::Stranger if logged_in => {
                    let error = Error::new(Code::Permission, "the login does not last");
                    return Err(if again { in_doubt(&error) } else { error }.into());
                }
                Tried::Stranger => {
                    logged_in = true;
                    *process.token.lock() = None;
                    continue;
                }
                Tried::Failed { error, sent } => (error, sent),
            };
            again |= sent && acts;
            let _ = process.current.compare_exchange(
                place,
                (place + 1) % servers,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if limit.has_passed()
                || (!again && tries > servers)
                || (!sent && !again && tries >= servers)
            {
                return Err(if again { in_doubt(&error) } else { error }.into());
            }
            if tries >= servers {
                std::thread::sleep(PAUSE.min(limit.left()));
            }
        }
        Err(protocol("no answer").into())
    }

    fn ask(
        &self,
        process: &Process,
        place: usize,
        path: &str,
        body: &str,
        limit: BootTime,
    ) -> Tried {
        let unsent = |error| Tried::Failed { error, sent: false };
        let mut connection = match self.connection(process, place, limit) {
            Ok(connection) => connection,
            Err(error) => return unsent(error),
        };
        let token = match self.token(process, &mut connection, limit) {
            Ok(token) => token,
            Err(error) if error.is_trouble() => return unsent(error),
            Err(error) => return Tried::Refused(error.into()),
        };
        let answer = exchange(&mut connection, path, body, token.as_deref(), limit);
        let (status, body) = match answer {
            Ok(answer) => answer,
            Err(broken) => {
                if cfg!(canary = "keep_broken") {
                    process.idle.lock().push((place, connection));
                }
                return Tried::Failed {
                    error: trouble(&broken.cause),
                    sent: broken.sent,
                };
            }
        };
        let mut idle = process.idle.lock();
        if idle.len() < MOST_IDLE {
            idle.push((place, connection));
        }
        drop(idle);
        if status != 200 {
            return match wire::refusal(status, &body) {
                Refusal::LeaseGone => Tried::Refused(Fault::LeaseGone),
                Refusal::LeaseExists => Tried::Refused(Fault::LeaseExists),
                Refusal::Stranger => Tried::Stranger,
                Refusal::No(error) => Tried::Refused(error.into()),
                Refusal::Unsure(error) => Tried::Failed { error, sent: true },
            };
        }
        match wire::parse(&body) {
            Some(value) => Tried::Done(value),
            None => Tried::Failed {
                error: protocol("an answer that is no JSON"),
                sent: true,
            },
        }
    }

    /// An idle connection to that server, or a new one.
    fn connection(&self, process: &Process, place: usize, limit: BootTime) -> Result<Connection> {
        loop {
            let mut idle = process.idle.lock();
            let Some(at) = idle.iter().rposition(|(other, _)| *other == place) else {
                break;
            };
            let (_, mut connection) = idle.swap_remove(at);
            drop(idle);
            if connection.is_idle() || cfg!(canary = "keep_broken") {
                return Ok(connection);
            }
        }
        let address = self
            .config
            .endpoints
            .get(place)
            .ok_or_else(|| protocol("no server"))?;
        Connection::open(&self.config, address, limit)
    }

    /// Of the login, which is made if need be; nothing if there is nothing to say.
    pub fn token(
        &self,
        process: &Process,
        connection: &mut Connection,
        limit: BootTime,
    ) -> Result<Option<String>> {
        log_in(&self.config, &process.token, connection, limit)
    }
}

/// Trouble with a request that may have been carried out.
fn in_doubt(error: &Error) -> Error {
    Error::new(
        Code::Uncertain,
        format!("{}; the request may have been carried out", error.message()),
    )
}

/// One exchange.
fn exchange(
    connection: &mut Connection,
    path: &str,
    body: &str,
    token: Option<&str>,
    limit: BootTime,
) -> std::result::Result<(u16, Vec<u8>), Broken> {
    connection.ask(path, body, token, limit)?;
    connection.answer(limit)
}

/// The words of a login that was made before, or is made now.
pub(super) fn log_in(
    config: &Config,
    known: &Mutex<Option<String>>,
    connection: &mut Connection,
    limit: BootTime,
) -> Result<Option<String>> {
    let Some((user, password)) = &config.credentials else {
        return Ok(None);
    };
    let some = |token: String| Some(token).filter(|token| !token.is_empty());
    if let Some(token) = known.lock().clone() {
        return Ok(some(token));
    }
    let body = json!({ "name": user.reveal(), "password": password.reveal() }).to_string();
    let answer = exchange(connection, wire::AUTHENTICATE, &body, None, limit);
    let (status, body) = answer.map_err(|broken| trouble(&broken.cause))?;
    let value = wire::parse(&body).unwrap_or_default();
    let token = match value.get("token").and_then(Value::as_str) {
        Some(token) if status == 200 => token.to_owned(),
        // Not enabled: nobody need say who they are.
        _ if wire::number(&value, "code") == 9 => String::new(),
        _ => {
            return Err(match wire::refusal(status, &body) {
                Refusal::No(error) | Refusal::Unsure(error) => error,
                _ => Error::new(Code::Permission, "the server refuses the login"),
            });
        }
    };
    // A header has one line.
    if token.bytes().any(|byte| byte < b' ') {
        return Err(protocol("an odd token of a login"));
    }
    *known.lock() = Some(token.clone());
    Ok(some(token))
}

/// Trouble of an exchange.
fn trouble(cause: &io::Error) -> Error {
    match cause.kind() {
        io::ErrorKind::TimedOut => {
            Error::new(Code::Unavailable, "the server has not answered in time")
        }
        io::ErrorKind::InvalidData => protocol(&format!("an odd answer: {cause}")),
        _ => Error::new(Code::Unavailable, format!("the connection broke: {cause}")),
    }
}

impl Process {
    pub fn known(&self, token: OwnerToken) -> Option<Entry> {
        self.claims.lock().get(&token).cloned()
    }

    /// Notes a claim before its key is asked for.
    pub fn note(&self, token: OwnerToken, entry: Entry) {
        self.claims.lock().insert(token, entry);
    }

    /// Changes what is known of a claim.
    pub fn change(&self, token: OwnerToken, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.claims.lock().get_mut(&token) {
            change(entry);
        }
    }

    /// Nothing is left of the claim.
    pub fn forget(&self, token: OwnerToken) {
        let entry = self.claims.lock().remove(&token);
        if let Some((watch, _)) = entry.and_then(|entry| entry.watch) {
            self.watches.unwatch(watch);
        }
    }

    /// Its bell is not rung any more.
    pub fn unwatch(&self, token: OwnerToken) {
        let mut watch = None;
        self.change(token, |entry| watch = entry.watch.take());
        if let Some((watch, _)) = watch {
            self.watches.unwatch(watch);
        }
    }
}
