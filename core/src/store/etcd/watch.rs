//! Who waits for which key to go. One thread of the process reads what the servers tell, on connections of
//! its own; whoever begins to wait while it is busy goes with the next connection, together with others.

use super::client::log_in;
use super::config::Config;
use super::http::{Connection, Endless};
use super::wire;
use crate::Result;
use crate::fork::{self, ProcessFd};
use crate::lease::BootTime;
use crate::service::spawn_quiet;
use crate::signal::Signal;
use crate::sync::Mutex;
use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

/// How long the thread stays when nobody waits.
const LINGER: Duration = Duration::from_secs(10);
/// At most so many go together.
const TOGETHER: usize = 256;

#[derive(Debug)]
pub(super) struct Watches {
    config: Config,
    /// Wakes the thread.
    bell: ProcessFd,
    state: Mutex<State>,
    token: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct State {
    runs: bool,
    stops: bool,
    last: u64,
    /// Not asked for yet.
    wanted: Vec<(u64, String)>,
    waiting: HashMap<u64, Arc<Signal>>,
}

/// A connection, and the watches that were asked for on it.
struct Stream {
    lines: Endless,
    watches: Vec<u64>,
}

impl Watches {
    pub fn new(config: Config) -> Result<Arc<Self>> {
        Ok(Arc::new(Watches {
            config,
            bell: fork::eventfd()?,
            state: Mutex::default(),
            token: Mutex::default(),
        }))
    }

    /// Rings the bell once when something is told of the key (or of all up to `end`) that came after
    /// `revision`: that it is gone, or with `puts` any change. If the connection breaks, too.
    pub fn watch(
        self: &Arc<Self>,
        key: &[u8],
        end: Option<&[u8]>,
        revision: i64,
        puts: bool,
        bell: &Arc<Signal>,
    ) -> Result<u64> {
        let id = {
            let mut state = self.state.lock();
            state.last += 1;
            let id = state.last;
            if !state.runs {
                let watches = self.clone();
                spawn_quiet("synlock-etcd", move || watches.run())?;
                state.runs = true;
            }
            let request = wire::watch(id, key, end, revision, puts).to_string();
            state.wanted.push((id, request));
            state.waiting.insert(id, bell.clone());
            id
        };
        self.wake();
        Ok(id)
    }

    /// Whether it stands, or will.
    pub fn stands(&self, id: u64) -> bool {
        self.state.lock().waiting.contains_key(&id)
    }

    pub fn unwatch(&self, id: u64) {
        let was_asked = {
            let mut state = self.state.lock();
            let before = state.wanted.len();
            state.wanted.retain(|(other, _)| *other != id);
            state.waiting.remove(&id).is_some() && state.wanted.len() == before
        };
        if was_asked {
            // The connection may serve nobody any more.
            self.wake();
        }
    }

    /// Lets the thread end.
    pub fn stop(&self) {
        self.state.lock().stops = true;
        self.wake();
    }

    fn wake(&self) {
        let one = 1u64;
        // SAFETY: writes eight bytes to an eventfd that lives as long as `self`.
        unsafe { libc::write(self.bell.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    fn heard(&self) {
        let mut count = 0u64;
        // SAFETY: reads eight bytes from a non-blocking eventfd of ours.
        unsafe { libc::read(self.bell.as_raw_fd(), (&raw mut count).cast(), 8) };
    }

    fn run(&self) {
        let mut streams: Vec<Stream> = Vec::new();
        let mut place = 0;
        loop {
            let wanted = {
                let mut state = self.state.lock();
                streams.retain(|stream| {
                    let waits = |id| state.waiting.contains_key(id);
                    stream.watches.iter().any(waits)
                });
                if state.stops {
                    return;
                }
                let count = state.wanted.len().min(TOGETHER);
                state.wanted.drain(..count).collect::<Vec<_>>()
            };
            if !wanted.is_empty() {
                let ids: Vec<u64> = wanted.iter().map(|(id, _)| *id).collect();
                match self.open(&wanted, place) {
                    Some(lines) => streams.push(Stream {
                        lines,
                        watches: ids,
                    }),
                    // They look again by themselves, before long.
                    None => {
                        place += 1;
                        self.drop_watches(&ids);
                    }
                }
                continue;
            }
            let Some(ready) = self.sleep(&streams) else {
                let mut state = self.state.lock();
                if streams.is_empty() && state.wanted.is_empty() {
                    state.runs = false;
                    return;
                }
                continue;
            };
            for at in ready.into_iter().rev() {
                let Some(stream) = streams.get_mut(at) else {
                    continue;
                };
                match stream.lines.lines() {
                    Ok(lines) => {
                        let told = lines.iter().filter_map(|line| wire::told(line));
                        let told = told.filter(|(_, matters)| *matters).map(|(id, _)| id);
                        self.ring(told.collect());
                    }
                    Err(_) => {
                        let stream = streams.swap_remove(at);
                        *self.token.lock() = None;
                        place += 1;
                        self.ring(stream.watches);
                    }
                }
            }
        }
    }

    /// Waits for the streams and for word; which streams are readable. Nothing if nothing came for a long time.
    fn sleep(&self, streams: &[Stream]) -> Option<Vec<usize>> {
        let fds = std::iter::once(self.bell.as_raw_fd());
        let fds = fds.chain(streams.iter().map(|stream| stream.lines.fd()));
        let mut polled: Vec<libc::pollfd> = fds
            .map(|fd| libc::pollfd {
                fd,
                events: libc::POLLIN,
                revents: 0,
            })
            .collect();
        // SAFETY: valid pollfds, as many as are said.
        let count = unsafe {
            libc::poll(
                polled.as_mut_ptr(),
                polled.len() as libc::nfds_t,
                LINGER.as_millis() as libc::c_int,
            )
        };
        if count == 0 {
            return None;
        }
        if polled.first().is_some_and(|word| word.revents != 0) {
            self.heard();
        }
        let ready = polled.iter().skip(1).enumerate();
        let ready = ready.filter(|(_, fd)| fd.revents != 0);
        Some(ready.map(|(at, _)| at).collect())
    }

    fn ring(&self, ids: Vec<u64>) {
        let bells: Vec<Arc<Signal>> = {
            let mut state = self.state.lock();
            let bells = ids.iter().filter_map(|id| state.waiting.remove(id));
            bells.collect()
        };
        bells.iter().for_each(|bell| bell.ring());
    }

    fn drop_watches(&self, ids: &[u64]) {
        let mut state = self.state.lock();
        for id in ids {
            state.waiting.remove(id);
        }
    }

    /// Asks one server for watches.
    fn open(&self, wanted: &[(u64, String)], place: usize) -> Option<Endless> {
        let servers = &self.config.endpoints;
        let address = servers.get(place % servers.len().max(1))?;
        let limit = BootTime::now().after(self.config.io_timeout);
        let mut connection = Connection::open(&self.config, address, limit).ok()?;
        let token = log_in(&self.config, &self.token, &mut connection, limit).ok()?;
        let body: String = wanted.iter().map(|(_, request)| request.as_str()).collect();
        connection
            .ask(wire::WATCH, &body, token.as_deref(), limit)
            .ok()?;
        Some(Endless::new(connection))
    }
}
