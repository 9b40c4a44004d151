//! One standing `LISTEN` per process and store, on which every hand-over arrives.
//!
//! Waiting threads take turns at reading it; the service thread reads through `pump`. Behind a
//! transaction pooler nothing would arrive: there the waiters poll, and say so.

use crate::hash::ByToken;
use crate::lease::BootTime;
use crate::owner::OwnerToken;
use crate::signal::{Signal, Wake};
use crate::store::db::{Config, Connection};
use crate::store::making::Making;
use crate::store::turns::{Next, Vacancy};
use crate::sync::Mutex;
use crate::{Error, Result};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Weak};

#[derive(Debug)]
pub(super) struct Listener {
    channel: String,
    /// The connection, while it stands; whoever locks it reads.
    reader: Mutex<Option<Connection>>,
    making: Making,
    /// Its descriptor, -1 while there is none; readable without the lock.
    fd: AtomicI32,
    waiters: Mutex<ByToken<Weak<Signal>>>,
    vacancy: Vacancy,
    /// A pooler stands between: sessions are not ours.
    pooled: AtomicBool,
    cautioned: AtomicBool,
}

impl Listener {
    pub fn new() -> Result<Self> {
        Ok(Listener {
            channel: format!("synlock_{}", OwnerToken::draw()?.to_hex()),
            reader: Mutex::new(None),
            making: Making::default(),
            fd: AtomicI32::new(-1),
            waiters: Mutex::default(),
            vacancy: Vacancy::new()?,
            pooled: AtomicBool::new(false),
            cautioned: AtomicBool::new(false),
        })
    }

    pub fn stands(&self) -> bool {
        self.fd.load(Ordering::Acquire) >= 0
    }

    pub fn fd(&self) -> Option<RawFd> {
        Some(self.fd.load(Ordering::Acquire)).filter(|fd| *fd >= 0)
    }

    /// What `ensure` says, if nothing need be asked for it.
    fn known(&self) -> Option<Option<&str>> {
        if self.pooled.load(Ordering::Relaxed) {
            return Some(None);
        }
        self.stands().then_some(Some(&self.channel))
    }

    /// Listens, if need be; the channel once the server has acknowledged it, nothing behind a pooler.
    pub fn ensure(&self, config: &Config, deadline: BootTime) -> Result<Option<&str>> {
        if let Some(known) = self.known() {
            return Ok(known);
        }
        // Not with the reader's lock: whoever wants less time than it takes must not wait for it.
        let _maker = self.making.begin(deadline)?;
        if let Some(known) = self.known() {
            return Ok(known);
        }
        let mut connection = Connection::open(config, deadline)?;
        let process = match connection.query("SELECT pg_backend_pid()", &[], deadline) {
            Ok(rows) => rows.number()?,
            // Prepared by another client in the session that we were given.
            Err(fault) if matches!(fault.state.as_str(), "26000" | "42P05") => None,
            Err(fault) => return Err(fault.into()),
        };
        // A pooler invents the number that it tells at the login.
        if process != Some(connection.session()) {
            self.pooled.store(true, Ordering::Relaxed);
            return Ok(None);
        }
        let listen = format!("LISTEN \"{}\"", self.channel);
        connection
            .query(&listen, &[], deadline)
            .map_err(Error::from)?;
        let mut reader = self.reader.lock();
        self.fd.store(connection.fd(), Ordering::Release);
        *reader = Some(connection);
        drop(reader);
        // Whoever waited on the connection that broke must ask anew.
        self.ring_all();
        Ok(Some(&self.channel))
    }

    pub fn take_caution(&self) -> Option<String> {
        (self.pooled.load(Ordering::Relaxed) && !self.cautioned.swap(true, Ordering::Relaxed)).then(
            || {
                "a pooler stands before the server: waiters cannot be told of a release, they poll, and their order is not kept"
                    .to_owned()
            },
        )
    }

    pub fn register(&self, token: OwnerToken, bell: &Arc<Signal>) {
        self.waiters.lock().insert(token, Arc::downgrade(bell));
    }

    pub fn unregister(&self, token: OwnerToken) {
        self.waiters.lock().remove(&token);
    }

    fn ring_all(&self) {
        let bells: Vec<_> = self
            .waiters
            .lock()
            .values()
            .filter_map(Weak::upgrade)
            .collect();
        bells.iter().for_each(|bell| bell.ring());
    }

    /// Sleeps on the bell, reading for everybody if nobody else does.
    pub fn park(&self, bell: &Arc<Signal>, until: BootTime) -> Result<Wake> {
        let take = || {
            let reader = self.reader.try_lock()?;
            let fd = reader.as_ref().map_or(-1, Connection::fd);
            Some((reader, fd))
        };
        self.vacancy.park(bell, until, take, |mut reader| {
            self.read(&mut reader);
            Next::Sleep
        })
    }

    /// Reads what has arrived, if nobody else is at it; never blocks.
    pub fn pump(&self) {
        if let Some(mut reader) = self.reader.try_lock() {
            self.read(&mut reader);
        }
    }

    fn read(&self, reader: &mut Option<Connection>) {
        let Some(connection) = reader else { return };
        let quiet = connection.is_quiet();
        for notice in connection.take_notices() {
            let token = OwnerToken::from_hex(notice.payload.as_bytes());
            let waiters = self.waiters.lock();
            let bell = token.and_then(|token| waiters.get(&token)?.upgrade());
            drop(waiters);
            if let Some(bell) = bell {
                bell.ring();
            }
        }
        if !quiet {
            // Cut: the next who asks listens anew, and everybody asks now.
            self.fd.store(-1, Ordering::Release);
            *reader = None;
            self.ring_all();
        }
    }
}
