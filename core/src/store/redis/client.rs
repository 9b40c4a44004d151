//! Exchanges with the server: kept connections, retries, scripts.

use super::config::Config;
use super::connection::{Broken, Connection, check, pack};
use super::keys::Keys;
use super::scripts::Script;
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

    pub fn run(
        &self,
        script: &Script,
        name: &Name,
        args: &[&[u8]],
        deadline: Option<BootTime>,
    ) -> Result<Value> {
        self.run_told(script, name, args, deadline)
            .map(|(value, _)| value)
    }

    /// As `run`; also tells whether the request was sent more than once.
    pub fn run_told(
        &self,
        script: &Script,
        name: &Name,
        args: &[&[u8]],
        deadline: Option<BootTime>,
    ) -> Result<(Value, bool)> {
        let limit = self.limit(deadline);
        let keys = Keys::of(&self.config.prefix, name);
        let mut words: Vec<&[u8]> = Vec::with_capacity(16);
        words.extend::<[&[u8]; 3]>([b"EVALSHA", script.sha.as_bytes(), b"4"]);
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
