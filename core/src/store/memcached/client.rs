//! Exchanges with the server: kept connections and retries.

use super::config::Config;
use super::wire::{Broken, Connection};
use crate::Result;
use crate::codes::Code;
use crate::error::Error;
use crate::fork::PerProcess;
use crate::lease::BootTime;
use crate::store::Claim;
use crate::store::cautions::Cautions;
use crate::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Idle connections kept per process.
const MOST_IDLE: usize = 16;
/// Between attempts to connect to a server that refuses.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Memcached {
    pub config: Config,
    process: PerProcess<Process>,
}

/// What each process makes for itself.
#[derive(Debug)]
pub(super) struct Process {
    idle: Mutex<Vec<Connection>>,
    /// The server has been asked whether it throws items away.
    asked: AtomicBool,
    pub cautions: Cautions,
    /// `host pid`, as others see it.
    pub who: String,
}

/// What came of an exchange, and whether it was begun more than once: an earlier, lost one may have
/// made its change.
pub(super) struct Told<T> {
    pub answer: T,
    pub again: bool,
}

impl Memcached {
    pub fn new(config: Config) -> Self {
        Memcached {
            config,
            process: PerProcess::new(),
        }
    }

    pub fn process(&self) -> &Process {
        self.process.get_or_init(|| {
            let host = nix::unistd::gethostname()
                .ok()
                .and_then(|host| host.into_string().ok())
                .unwrap_or_default();
            Process {
                idle: Mutex::default(),
                asked: AtomicBool::new(false),
                cautions: Cautions::default(),
                who: format!("{} {}", host.replace([' ', '|'], "_"), std::process::id()),
            }
        })
    }

    /// Works on one connection, `wanted` if it is idle. What a lost reply leaves open is asked again on
    /// a new one, so `work` must be idempotent.
    pub fn run<T>(
        &self,
        deadline: Option<BootTime>,
        wanted: u64,
        work: impl FnMut(&mut Connection, BootTime) -> std::result::Result<T, Broken>,
    ) -> Result<Told<T>> {
        self.run_as_often(false, deadline, wanted, work)
    }

    /// The same for a claim; where its token recurs, not again once it may have been carried out.
    pub fn run_for<T>(
        &self,
        claim: &Claim,
        wanted: u64,
        work: impl FnMut(&mut Connection, BootTime) -> std::result::Result<T, Broken>,
    ) -> Result<Told<T>> {
        self.run_as_often(claim.recurs, claim.deadline, wanted, work)
    }

    /// The same; `once`: not again once it may have been carried out.
    pub fn run_as_often<T>(
        &self,
        once: bool,
        deadline: Option<BootTime>,
        wanted: u64,
        mut work: impl FnMut(&mut Connection, BootTime) -> std::result::Result<T, Broken>,
    ) -> Result<Told<T>> {
        let own = BootTime::now().after(self.config.io_timeout);
        let limit = deadline.map_or(own, |deadline| deadline.min(own));
        let process = self.process();
        let mut again = false;
        loop {
            let opened = match process.take(wanted) {
                None => process.open(&self.config, limit),
                Some(mut connection) => {
                    if !connection.is_quiet() && !cfg!(canary = "keep_broken") {
                        // The server has closed it, by a restart for instance: nothing is lost yet.
                        continue;
                    }
                    Ok(connection)
                }
            };
            let broken = match opened {
                Err(error) => Broken { error, sent: false },
                Ok(mut connection) => match work(&mut connection, limit) {
                    Ok(answer) => {
                        process.keep(connection);
                        return Ok(Told { answer, again });
                    }
                    Err(broken) if cfg!(canary = "keep_broken") => {
                        process.keep(connection);
                        broken
                    }
                    Err(broken) => {
                        // The others were made before whatever broke this one.
                        process.idle.lock().clear();
                        broken
                    }
                },
            };
            let sent_before = again;
            again |= broken.sent;
            let trouble = broken.error.code() == Code::Unavailable;
            let is_over = once && again || BootTime::now().after(RETRY_PAUSE) >= limit;
            if !trouble || is_over {
                // Whatever is said to the second one, the first one may have acted.
                return Err(if sent_before || trouble && again {
                    Error::new(
                        Code::Uncertain,
                        format!(
                            "{}; the request may have been carried out",
                            broken.error.message()
                        ),
                    )
                } else {
                    broken.error
                });
            }
            std::thread::sleep(RETRY_PAUSE);
        }
    }
}

/// Words about a server whose memory has been full.
fn full(evictions: u64) -> Option<String> {
    (evictions > 0).then(|| {
        format!(
            "this server has thrown {evictions} items away since it began, because its memory was full: locks go the same way; give it more memory (-m), or locks a server of their own"
        )
    })
}

impl Process {
    fn open(&self, config: &Config, limit: BootTime) -> Result<Connection> {
        let mut connection = Connection::open(config, limit)?;
        self.cautions.add(connection.take_words());
        if self.asked.swap(true, Ordering::Relaxed) {
            return Ok(connection);
        }
        match connection.evictions(limit) {
            Ok(evictions) => {
                self.cautions.add(full(evictions));
                Ok(connection)
            }
            // It does not say, and what it says instead may still be on its way.
            Err(_) => Connection::open(config, limit),
        }
    }

    fn take(&self, wanted: u64) -> Option<Connection> {
        let mut idle = self.idle.lock();
        match idle.iter().position(|one| one.serial == wanted) {
            Some(at) => Some(idle.swap_remove(at)),
            None => idle.pop(),
        }
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() < MOST_IDLE {
            idle.push(connection);
        }
    }
}
