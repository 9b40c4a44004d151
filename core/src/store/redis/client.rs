//! Exchanges with the server: kept connections, retries, scripts.

use super::config::{Config, Dialect};
use super::connection::{Broken, Connection, check, pack};
use super::keys::Keys;
use super::polls::Polls;
use super::scripts::{Form, Verb, script};
use super::subscription::Subscription;
use super::watch::Watches;
use crate::Result;
use crate::codes::Code;
use crate::error::Error;
use crate::fork::PerProcess;
use crate::lease::BootTime;
use crate::name::Name;
use crate::sync::Mutex;
use redis::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Idle connections kept per process.
const MOST_IDLE: usize = 16;
/// Between attempts to connect to a server that refuses.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Redis {
    pub config: Config,
    process: PerProcess<Process>,
}

/// What each process makes for itself.
#[derive(Debug)]
pub(super) struct Process {
    idle: Mutex<Vec<Connection>>,
    pub subscription: Subscription,
    pub watches: Watches,
    pub polls: Polls,
    /// On a dialect: the server's rights allow no keys of ours beside the peer's.
    bare: AtomicBool,
    cautions: Mutex<Vec<String>>,
    /// `host pid`, as others see it.
    who: String,
}

/// A call that failed: whether the server may have carried it out decides the code.
fn settle(broken: Broken) -> Error {
    if broken.sent && broken.error.code() == Code::Unavailable {
        Error::new(
            Code::Uncertain,
            format!(
                "{}; the request may have been carried out",
                broken.error.message()
            ),
        )
    } else {
        broken.error
    }
}

impl Redis {
    pub fn new(config: Config) -> Self {
        Redis {
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
            let who = format!("{} {}", host.replace(' ', "_"), std::process::id());
            Ok(Process {
                idle: Mutex::default(),
                subscription: Subscription::new()?,
                watches: Watches::default(),
                polls: Polls::default(),
                bare: AtomicBool::new(false),
                cautions: Mutex::default(),
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

    /// Sends a request over a kept or a new connection. A lost reply is asked for again, on a new
    /// connection, after the old one was ended on the server; so the request must be idempotent.
    /// Tells whether it was sent more than once.
    fn exchange(&self, request: &[u8], limit: BootTime) -> Result<(Value, bool)> {
        let process = self.process()?;
        let mut sent_before = false;
        let mut old: Option<i64> = None;
        loop {
            let kept = process.idle.lock().pop();
            let opened = match kept {
                None => Connection::open(&self.config, limit),
                Some(mut connection) => {
                    if !connection.is_quiet() {
                        // The server has closed it, by a restart for instance: nothing is lost yet.
                        continue;
                    }
                    Ok(connection)
                }
            };
            let mut broken = match opened {
                Err(error) => Broken { error, sent: false },
                Ok(mut connection) => {
                    match send_on(&mut connection, old.take(), request, limit) {
                        Ok(value) => {
                            let mut idle = process.idle.lock();
                            if idle.len() < MOST_IDLE {
                                idle.push(connection);
                            }
                            return Ok((value, sent_before));
                        }
                        Err(broken) => {
                            old = connection.id;
                            // The others were made before whatever broke this one.
                            process.idle.lock().clear();
                            broken
                        }
                    }
                }
            };
            sent_before |= broken.sent;
            broken.sent = sent_before;
            let again = broken.error.code() == Code::Unavailable
                && BootTime::now().after(RETRY_PAUSE) < limit;
            if !again {
                return Err(settle(broken));
            }
            std::thread::sleep(RETRY_PAUSE);
        }
    }

    pub fn one(&self, request: &[u8], limit: BootTime) -> Result<Value> {
        self.exchange(request, limit).map(|(value, _)| value)
    }

    /// Several requests that only read, and all their replies in one round trip.
    pub fn many(&self, requests: &[Vec<u8>], limit: BootTime) -> Result<Vec<Value>> {
        let Some((_, rest)) = requests.split_first() else {
            return Ok(Vec::new());
        };
        let process = self.process()?;
        let kept = process.idle.lock().pop();
        let quiet = kept.and_then(|mut kept| kept.is_quiet().then_some(kept));
        let mut connection = match quiet {
            Some(connection) => connection,
            None => Connection::open(&self.config, limit)?,
        };
        let first = connection
            .exchange(&requests.concat(), limit)
            .map_err(|broken| broken.error)?;
        let mut replies = vec![first];
        for _ in rest {
            replies.push(connection.reply(limit)?);
        }
        process.idle.lock().push(connection);
        Ok(replies)
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

    fn form(&self, bare: bool) -> Form {
        Form {
            dialect: self.config.dialect,
            bare,
            cluster: false,
        }
    }

    /// Something to tell once.
    pub fn take_words(&self) -> Option<String> {
        self.known_process()?.cautions.lock().pop()
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
            .map(|(value, _)| value)
    }

    /// As `run`; also tells whether the request was sent more than once.
    pub fn run_told(
        &self,
        verb: Verb,
        name: &Name,
        args: &[&[u8]],
        deadline: Option<BootTime>,
    ) -> Result<(Value, bool)> {
        let limit = self.limit(deadline);
        let bare = self.is_bare();
        let answer = self.run_form(self.form(bare), verb, name, args, limit);
        match answer {
            Err(error) if !bare && !self.is_native() && error.code() == Code::Permission => {
                // The lock itself may be allowed.
                let told = self.run_form(self.form(true), verb, name, args, limit)?;
                let process = self.process()?;
                if !process.bare.swap(true, Ordering::Relaxed) {
                    process.cautions.lock().push(NO_HELPERS.to_owned());
                }
                Ok(told)
            }
            answer => answer,
        }
    }

    fn run_form(
        &self,
        form: Form,
        verb: Verb,
        name: &Name,
        args: &[&[u8]],
        limit: BootTime,
    ) -> Result<(Value, bool)> {
        let script = script(form, verb);
        let keys = Keys::of(&self.config, name, form.bare);
        let count = [b'0' + keys.0.len() as u8];
        let mut words: Vec<&[u8]> = Vec::with_capacity(20);
        words.extend::<[&[u8]; 3]>([b"EVALSHA", script.sha.as_bytes(), &count]);
        words.extend(keys.0.iter().map(Vec::as_slice));
        words.push(name.as_bytes());
        words.extend(args);
        let (value, told) = self.exchange(&pack(&words), limit)?;
        if !matches!(&value, Value::ServerError(error) if error.code() == "NOSCRIPT")
            || cfg!(canary = "no_eval")
        {
            return Ok((check(value)?, told));
        }
        words[0] = b"EVAL";
        words[1] = script.text.as_bytes();
        let (value, again) = self.exchange(&pack(&words), limit)?;
        Ok((check(value)?, told || again))
    }
}

/// What an owner of locks in a peer's format should know.
const NO_HELPERS: &str = "the server's rights allow no keys `synlock:q*`: waiters poll, in no order, and there are no fencing tokens";

fn send_on(
    connection: &mut Connection,
    old: Option<i64>,
    request: &[u8],
    limit: BootTime,
) -> std::result::Result<Value, Broken> {
    let Some(old) = old else {
        return connection.exchange(request, limit);
    };
    // A request that is still on its way on the old connection must not act after this one.
    let mut both = pack(&[b"CLIENT", b"KILL", b"ID", old.to_string().as_bytes()]);
    both.extend_from_slice(request);
    connection.exchange(&both, limit)?;
    connection
        .reply(limit)
        .map_err(|error| Broken { error, sent: true })
}
