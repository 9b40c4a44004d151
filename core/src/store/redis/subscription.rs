//! One standing subscription per process and store, on which every hand-over arrives.
//!
//! Waiting threads take turns at reading it; the service thread reads through `pump`.

use super::connection::{Connection, check, pack, protocol};
use super::nodes::Node;
use crate::hash::ByToken;
use crate::lease::BootTime;
use crate::owner::OwnerToken;
use crate::signal::{Signal, Wake};
use crate::store::making::Making;
use crate::store::turns::{Next, Vacancy};
use crate::sync::Mutex;
use crate::{Error, Result};
use redis::Value;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Weak};

/// Who may be woken here.
#[derive(Debug)]
enum Listener {
    Waits(Weak<Signal>),
    /// It holds, or asks whether it does: the wake-up that may still come is not for nobody.
    Knows,
}

/// A wake-up for somebody who does not wait here any more.
#[derive(Debug)]
pub(super) struct Stray {
    pub token: OwnerToken,
    pub name: Vec<u8>,
}

#[derive(Debug)]
pub(super) struct Subscription {
    /// Where wake-ups for this process are published.
    pub channel: String,
    /// The connection, while it stands; whoever locks it reads.
    reader: Mutex<Option<Connection>>,
    making: Making,
    /// Its descriptor, -1 while there is none; readable without the lock.
    fd: AtomicI32,
    /// Which server it leads to.
    node: Mutex<Option<Node>>,
    listeners: Mutex<ByToken<Listener>>,
    vacancy: Vacancy,
}

impl Subscription {
    pub fn new() -> Result<Self> {
        Ok(Subscription {
            channel: format!("synlock:wake:{}", OwnerToken::draw()?.to_hex()),
            reader: Mutex::new(None),
            making: Making::default(),
            fd: AtomicI32::new(-1),
            node: Mutex::new(None),
            listeners: Mutex::default(),
            vacancy: Vacancy::new()?,
        })
    }

    /// Whether the subscription stands, as far as is known.
    pub fn stands(&self) -> bool {
        self.fd.load(Ordering::Acquire) >= 0
    }

    pub fn fd(&self) -> Option<RawFd> {
        Some(self.fd.load(Ordering::Acquire)).filter(|fd| *fd >= 0)
    }

    /// Subscribes, if need be, and returns once the server has acknowledged it.
    pub fn ensure(
        &self,
        connect: impl FnOnce() -> Result<Connection>,
        deadline: BootTime,
    ) -> Result<()> {
        if self.stands() {
            return Ok(());
        }
        // Not with the reader's lock: whoever wants less time than it takes must not wait for it.
        let _maker = self.making.begin(deadline)?;
        if self.stands() {
            return Ok(());
        }
        *self.reader.lock() = None;
        let mut connection = connect()?;
        connection.send(&pack(&[b"SUBSCRIBE", self.channel.as_bytes()]), deadline)?;
        match check(connection.reply(deadline)?)? {
            Value::Array(parts) if parts.len() == 3 => {}
            _ => return Err(protocol("an odd answer to SUBSCRIBE")),
        }
        *self.node.lock() = Some(connection.node.clone());
        let mut reader = self.reader.lock();
        self.fd.store(connection.fd(), Ordering::Release);
        *reader = Some(connection);
        drop(reader);
        // Whoever waited on the connection that broke must queue anew.
        self.ring_all();
        Ok(())
    }

    /// This server failed: what is published on the next one is not heard here. Whoever waits asks
    /// again, and the first of them subscribes anew.
    pub fn distrust(&self, node: &Node) {
        if self.stands() && self.node.lock().take_if(|known| known == node).is_some() {
            self.fd.store(-1, Ordering::Release);
            self.ring_all();
        }
    }

    pub fn register(&self, token: OwnerToken, bell: &Arc<Signal>) {
        let waits = Listener::Waits(Arc::downgrade(bell));
        self.listeners.lock().insert(token, waits);
    }

    /// Whoever waited need not be woken: it holds now, or has an answer coming that says whether it does.
    pub fn knows(&self, token: OwnerToken) {
        if let Some(listener) = self.listeners.lock().get_mut(&token) {
            *listener = Listener::Knows;
        }
    }

    /// Neither waits nor holds any more.
    pub fn unregister(&self, token: OwnerToken) {
        self.listeners.lock().remove(&token);
    }

    fn ring_all(&self) {
        let bells: Vec<_> = self
            .listeners
            .lock()
            .values()
            .filter_map(|listener| match listener {
                Listener::Waits(bell) => bell.upgrade(),
                Listener::Knows => None,
            })
            .collect();
        bells.iter().for_each(|bell| bell.ring());
    }

    /// Rings for whom a wake-up is; false if that is nobody.
    fn wake(&self, token: OwnerToken) -> bool {
        let bell = match self.listeners.lock().get(&token) {
            Some(Listener::Knows) => return !cfg!(canary = "stray_hold"),
            Some(Listener::Waits(_)) if cfg!(canary = "no_bell") => return true,
            Some(Listener::Waits(bell)) => bell.upgrade(),
            None => None,
        };
        bell.inspect(|bell| bell.ring()).is_some()
    }

    /// Sleeps on the bell, reading for everybody if nobody else does. Returns the strays it met.
    pub fn park(&self, bell: &Arc<Signal>, until: BootTime) -> Result<(Wake, Vec<Stray>)> {
        let mut strays = Vec::new();
        let take = || {
            let reader = self.reader.try_lock()?;
            let fd = reader.as_ref().map_or(-1, Connection::fd);
            Some((reader, fd))
        };
        let wake = self.vacancy.park(bell, until, take, |mut reader| {
            self.read(&mut reader, &mut strays);
            if strays.is_empty() {
                Next::Sleep
            } else {
                Next::Leave
            }
        })?;
        Ok((wake, strays))
    }

    /// Reads what has arrived, if nobody else is at it; never blocks.
    pub fn pump(&self) -> Vec<Stray> {
        let mut strays = Vec::new();
        if let Some(mut reader) = self.reader.try_lock() {
            self.read(&mut reader, &mut strays);
        }
        strays
    }

    fn read(&self, reader: &mut Option<Connection>, strays: &mut Vec<Stray>) {
        let Some(connection) = reader else { return };
        loop {
            match connection.reply_now() {
                Ok(Some(value)) => {
                    if let Some((token, name)) = message(value)
                        && !self.wake(token)
                    {
                        strays.push(Stray { token, name });
                    }
                }
                Ok(None) => return,
                Err(_) => {
                    // Cut: the next who asks subscribes anew, and everybody asks now.
                    self.fd.store(-1, Ordering::Release);
                    *reader = None;
                    self.ring_all();
                    return;
                }
            }
        }
    }
}

/// Token and name of a wake-up; anything else is none.
pub(super) fn message(value: Value) -> Option<(OwnerToken, Vec<u8>)> {
    let Value::Array(parts) = value else {
        return None;
    };
    let [Value::BulkString(kind), _, Value::BulkString(payload)] = parts.as_slice() else {
        return None;
    };
    if kind != b"message" {
        return None;
    }
    Some((
        OwnerToken::from_hex(payload.get(..32)?)?,
        payload.get(32..)?.to_vec(),
    ))
}

/// The error that `ensure` meets when rights do not allow a subscription.
pub(super) fn is_forbidden(error: &Error) -> bool {
    error.code() == crate::Code::Permission
}
