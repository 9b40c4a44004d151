//! The thread that speaks with the server: connects, keeps the session alive, sends and reads, and says
//! when the session is over. All signals are blocked on it.

use super::life::Life;
use super::session::{Reply, Session};
use super::wire::{self, In};
use crate::codes::Code;
use crate::lease::BootTime;
use crate::store::net::{Address, Socket};
use crate::{Error, Result};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

/// Between attempts to connect: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Time is judged again at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// The parts of a session's timeout between heartbeats, and after which silence is the end of a connection.
const BEATS: u32 = 4;
const SILENCE: u32 = 3;
/// How long the end of a session is waited for.
const FAREWELL: Duration = Duration::from_millis(500);

pub(super) fn run(session: &Arc<Session>) {
    let mut link = Link {
        session,
        // Spread over the servers.
        host: std::process::id() as usize,
        seen: 0,
        old: None,
    };
    let mut pause = FIRST_PAUSE;
    loop {
        link.judge();
        match link.wants() {
            Wants::End => return link.end(),
            Wants::Nothing => link.sleep(LONGEST_SLEEP),
            Wants::Connection => match link.connect() {
                Ok((socket, life)) => {
                    let began = BootTime::now();
                    link.serve(&socket, &life);
                    if !cfg!(canary = "keep_flight") {
                        session.cut();
                    }
                    if BootTime::now().since(began) > pause {
                        pause = FIRST_PAUSE;
                    } else {
                        link.sleep(pause);
                    }
                }
                Err(error) => {
                    session.note_trouble(&error);
                    if error.code() == Code::Permission {
                        session.refuse(error.code(), error.message());
                    }
                    link.sleep(pause);
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            },
        }
    }
}

enum Wants {
    End,
    Connection,
    Nothing,
}

struct Link<'a> {
    session: &'a Arc<Session>,
    /// Which of the hosts is tried next.
    host: usize,
    /// The newest change that was heard of: no server that is behind it is taken.
    seen: i64,
    /// A session that is over here, but perhaps not on the server.
    old: Option<Arc<Life>>,
}

impl Link<'_> {
    /// Tells everybody if the session is over.
    fn judge(&mut self) {
        let over = {
            let mut state = self.session.state.lock();
            state.forget_old();
            match &state.life {
                Some(life) if life.is_over() => state.life.take(),
                _ => None,
            }
        };
        if over.is_some() {
            self.old = over;
            self.seen = 0;
            self.session.ring_all();
        }
    }

    fn wants(&self) -> Wants {
        let state = self.session.state.lock();
        if state.stops {
            Wants::End
        } else if state.life.is_some() || !state.queue.is_empty() {
            Wants::Connection
        } else {
            Wants::Nothing
        }
    }

    fn sleep(&self, time: Duration) {
        poll(&mut [readable(self.session.bell())], time);
        self.session.heard();
    }

    /// A connection to the next server, in the session if there is one, else in a new one.
    fn connect(&mut self) -> Result<(Socket, Arc<Life>)> {
        self.bury();
        let known = self.session.state.lock().life.clone();
        let asked = BootTime::now();
        let (socket, welcome) = self.open(known.as_deref())?;
        let timeout = Duration::from_millis(u64::try_from(welcome.timeout_ms).unwrap_or(0));
        let life = match known {
            Some(life) if welcome.id == life.id && welcome.timeout_ms > 0 => {
                if !life.resume(asked, timeout) {
                    return Err(Error::new(Code::Unavailable, "the session has ended"));
                }
                life
            }
            Some(life) => {
                life.end();
                return Err(Error::new(Code::Unavailable, "the session has ended"));
            }
            None => Arc::new(Life::new(welcome.id, welcome.password, timeout, asked)),
        };
        let mut state = self.session.state.lock();
        state.life = Some(life.clone());
        state.clear_trouble();
        drop(state);
        // A new connection has no watches.
        self.session.ring_all();
        Ok((socket, life))
    }

    /// Connects to the next host and greets it.
    fn open(&mut self, life: Option<&Life>) -> Result<(Socket, wire::Welcome)> {
        let config = &self.session.config;
        let host = &config.hosts[self.host % config.hosts.len()];
        self.host = self.host.wrapping_add(1);
        let mut deadline = BootTime::now().after(config.connect_timeout);
        if let Some(sure) = life.and_then(Life::sure_until) {
            deadline = deadline.min(sure);
        }
        let socket = open_socket(host, deadline)?;
        let timeout = i32::try_from(config.session_timeout.as_millis()).unwrap_or(i32::MAX);
        let (id, password) = life.map_or((0, &[0; 16][..]), |life| (life.id, &life.password));
        let mut greeting = wire::connect(self.seen, timeout, id, password);
        if let Some(credentials) = &config.credentials {
            greeting.extend(wire::authenticate(credentials.reveal()));
        }
        send(&socket, &greeting, deadline)?;
        let mut arrived = Vec::new();
        let frame = receive(&socket, &mut arrived, deadline)?;
        let welcome = wire::welcome(&frame).ok_or_else(odd)?;
        if config.credentials.is_some() && welcome.timeout_ms > 0 {
            let frame = receive(&socket, &mut arrived, deadline)?;
            let mut head = In(&frame);
            let (number, _, error) = header(&mut head).ok_or_else(odd)?;
            if number != wire::AUTH || error != 0 {
                let (_, words) = wire::meaning(wire::AUTH_FAILED);
                return Err(Error::new(Code::Permission, words));
            }
        }
        if welcome.id == 0 && life.is_none() {
            return Err(odd());
        }
        Ok((socket, welcome))
    }

    /// Ends a session that is over here: what it holds comes free, and nothing that is still on its way
    /// acts. The server does it by itself after a while.
    fn bury(&mut self) {
        let Some(old) = self.old.take() else { return };
        let gone = Life::new(old.id, old.password.clone(), FAREWELL, BootTime::now());
        if let Ok((socket, welcome)) = self.open(Some(&gone))
            && welcome.id == old.id
        {
            farewell(&socket, &mut Vec::new());
        }
    }

    /// Closes the session.
    fn end(&mut self) {
        let life = self.session.state.lock().life.take();
        if let Some(life) = life {
            life.end();
            self.old = Some(life);
            self.bury();
        }
        self.session.ring_all();
    }

    /// Sends and reads until the connection breaks, the session is over, or all is to end.
    fn serve(&mut self, socket: &Socket, life: &Arc<Life>) {
        let timeout = life.timeout();
        let mut talk = Talk {
            arrived: Vec::new(),
            leaving: Vec::new(),
            last_heard: BootTime::now(),
            last_beat: BootTime::now(),
            beats: false,
            reached: None,
        };
        loop {
            let now = BootTime::now();
            let mut waits = self.take_requests(&mut talk, now);
            if self.session.state.lock().stops || life.is_over() {
                return;
            }
            if now >= talk.last_beat.after(timeout / BEATS) && !talk.beats {
                self.beat(&mut talk, now, waits);
                waits = true;
            }
            let silent = talk.last_heard.after(timeout / SILENCE);
            if waits && now >= silent {
                return;
            }
            if !talk.leaving.is_empty() {
                match socket.send_now(&talk.leaving) {
                    Ok(sent) => drop(talk.leaving.drain(..sent)),
                    Err(error) if is_passing(&error) => {}
                    Err(_) => return,
                }
            }
            let mut until = if waits {
                silent
            } else {
                now.after(LONGEST_SLEEP)
            };
            if !talk.beats {
                until = until.min(talk.last_beat.after(timeout / BEATS));
            }
            if let Some(sure) = life.sure_until() {
                until = until.min(sure);
            }
            let mut of_socket = readable(socket.fd());
            if !talk.leaving.is_empty() {
                of_socket.events |= libc::POLLOUT;
            }
            let mut fds = [of_socket, readable(self.session.bell())];
            poll(&mut fds, until.left());
            if fds[1].revents != 0 {
                self.session.heard();
            }
            if fds[0].revents & !libc::POLLOUT != 0 && !self.read(socket, life, &mut talk) {
                return;
            }
        }
    }

    /// Takes what is to be sent; whether an answer is awaited.
    fn take_requests(&self, talk: &mut Talk, now: BootTime) -> bool {
        let mut state = self.session.state.lock();
        state.forget_old();
        while let Some(mut request) = state.queue.pop_front() {
            if state.flight.is_empty() {
                // Nobody was waited for until now.
                talk.last_heard = now;
            }
            talk.leaving.append(&mut request.frame);
            request.sent = now;
            state.flight.push_back(request);
        }
        !state.flight.is_empty()
    }

    /// Sends what the leader alone can answer.
    fn beat(&self, talk: &mut Talk, now: BootTime, waits: bool) {
        if !waits {
            talk.last_heard = now;
        }
        talk.leaving.extend(self.session.state.lock().beat(now));
        talk.last_beat = now;
        talk.beats = true;
    }

    /// Reads what has arrived; false if the connection is of no more use.
    fn read(&mut self, socket: &Socket, life: &Arc<Life>, talk: &mut Talk) -> bool {
        let mut chunk = [0; 16 * 1024];
        match socket.receive_now(&mut chunk) {
            Ok(None) => return true,
            Ok(Some(0)) | Err(_) => return false,
            Ok(Some(got)) => talk.arrived.extend(&chunk[..got]),
        }
        talk.last_heard = BootTime::now();
        loop {
            match wire::take_frame(&mut talk.arrived) {
                Ok(None) => return true,
                Ok(Some(frame)) if self.take(&frame, life, talk) == Some(true) => {}
                _ => return false,
            }
        }
    }

    /// One frame of the server's; false if the connection is of no more use.
    fn take(&mut self, frame: &[u8], life: &Arc<Life>, talk: &mut Talk) -> Option<bool> {
        let mut rest = In(frame);
        let (number, seen, error) = header(&mut rest)?;
        if seen > self.seen {
            self.seen = seen;
        }
        match number {
            wire::EVENT => {
                let (_kind, _state) = (rest.int()?, rest.int()?);
                self.session.ring(rest.text()?);
                Some(true)
            }
            number => {
                let mut state = self.session.state.lock();
                let request = state.flight.pop_front()?;
                if error == wire::SESSION_EXPIRED {
                    life.end();
                }
                let is_its = (request.number == number || cfg!(canary = "keep_flight"))
                    && !matches!(error, wire::SESSION_EXPIRED | wire::SESSION_MOVED);
                if !is_its {
                    // As if the connection had broken just before.
                    state.flight.push_front(request);
                    return Some(false);
                }
                drop(state);
                if request.beats {
                    talk.beats = false;
                    // The server has told its leader of the beat before by now: see decision 342.
                    if error == 0
                        && let Some(before) = talk.reached.replace(request.sent)
                    {
                        life.prolong(before);
                    }
                }
                if let Some(path) = request.rings.filter(|_| error != 0) {
                    self.session.ring(&path);
                }
                if let Some(slot) = request.slot {
                    slot.reply(Reply {
                        error,
                        body: rest.0.to_vec(),
                        life: life.clone(),
                    });
                }
                Some(!life.is_over())
            }
        }
    }
}

/// What is on its way on one connection.
struct Talk {
    arrived: Vec<u8>,
    leaving: Vec<u8>,
    last_heard: BootTime,
    last_beat: BootTime,
    /// It has no answer yet.
    beats: bool,
    /// When the last one was sent that was answered.
    reached: Option<BootTime>,
}

/// Number, newest change, error.
fn header(read: &mut In<'_>) -> Option<(i32, i64, i32)> {
    Some((read.int()?, read.long()?, read.int()?))
}

fn odd() -> Error {
    Error::new(Code::Protocol, "what answers there is no ZooKeeper")
}

fn open_socket(host: &Address, deadline: BootTime) -> Result<Socket> {
    Socket::connect(host, deadline.left(), deadline)
}

fn send(socket: &Socket, bytes: &[u8], deadline: BootTime) -> Result<()> {
    socket
        .send(bytes, deadline, &mut 0)
        .map_err(|error| Error::new(Code::Unavailable, format!("the connection broke: {error}")))
}

/// One frame.
fn receive(socket: &Socket, arrived: &mut Vec<u8>, deadline: BootTime) -> Result<Vec<u8>> {
    let broke =
        |words: &str| Error::new(Code::Unavailable, format!("the connection broke: {words}"));
    let mut chunk = [0; 4096];
    loop {
        if let Some(frame) = wire::take_frame(arrived).map_err(|()| odd())? {
            return Ok(frame);
        }
        match socket.receive(&mut chunk, deadline) {
            Ok(0) => return Err(broke("the server closed it")),
            Ok(got) => arrived.extend(&chunk[..got]),
            Err(error) => return Err(broke(&error.to_string())),
        }
    }
}

/// Closes a session and waits a moment for the server's word.
fn farewell(socket: &Socket, arrived: &mut Vec<u8>) {
    let until = BootTime::now().after(FAREWELL);
    if send(socket, &wire::close(), until).is_ok() {
        while receive(socket, arrived, until).is_ok() {}
    }
}

fn is_passing(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted
    )
}

fn readable(fd: RawFd) -> libc::pollfd {
    libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    }
}

/// Waits for any of them.
fn poll(fds: &mut [libc::pollfd], time: Duration) {
    // Rounded up, so as not to come a fraction too early and spin.
    let ms = time.min(LONGEST_SLEEP).as_micros().div_ceil(1000);
    // SAFETY: `fds` is valid for its length during the call.
    unsafe {
        libc::poll(
            fds.as_mut_ptr(),
            fds.len() as libc::nfds_t,
            libc::c_int::try_from(ms).unwrap_or(1000),
        )
    };
}
