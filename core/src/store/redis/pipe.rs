//! The pipelined connection of event loops.
//!
//! Answers come in the order of the requests. Whatever breaks the order or the connection, or takes too long,
//! ends it: each request under way is then asked for again by itself, after the server has ended the old
//! connection, so that nothing late acts after what replaces it.

use super::answers::{fence_or_lost, number};
use super::client::{Redis, Turn};
use super::config::Place;
use super::connection::{Connection, check, protocol};
use super::scripts::Verb;
use super::unended::Unended;
use super::verbs::{Asking, granted, millis, ttl};
use crate::codes::Code;
use crate::lease::BootTime;
use crate::service::contain;
use crate::signal::Signal;
use crate::store::pipe::{Arrived, Ask, Letter, Pipe, Watched};
use crate::store::poller::Poller;
use crate::store::{Answer, Attempt, Backend, Claim};
use crate::sync::Mutex;
use crate::{Error, Result};
use redis::Value;
use std::collections::VecDeque;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// With this many under way, one more is written together with those that follow it.
const ENOUGH: usize = 8;
/// How often the reader looks for what is late, unasked.
const VISIT: Duration = Duration::from_secs(1);

/// What a loop of the host has not read for so long is read for it.
const PATIENCE: Duration = Duration::from_millis(10);
/// What was read such a time ago need not be looked at before it is written to.
const MOMENT: Duration = Duration::from_millis(1);
/// After so many looks at a connection that nobody used, the service thread sleeps until it is rung for.
const LOOKS: u32 = 20;

/// Of each process.
#[derive(Debug, Default)]
pub(super) struct Line {
    state: Mutex<State>,
    ahead: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<Connection>,
    /// What is not written yet.
    out: Vec<u8>,
    waiting: VecDeque<Sent>,
    is_broken: bool,
    /// No request under way is late before.
    earliest: Option<BootTime>,
    seat: Option<Seat>,
    /// Something was asked since the service thread looked.
    is_used: bool,
    /// How often it looked since something was.
    unused: u32,
}

/// The loop of the host that reads.
#[derive(Debug)]
struct Seat {
    poller: Weak<Poller>,
    /// When it asked or read last, and when it read.
    seen: BootTime,
    read: BootTime,
}

impl Seat {
    fn is_of(&self, poller: &Arc<Poller>) -> bool {
        self.poller.as_ptr() == Arc::as_ptr(poller)
    }
}

/// A request under way.
#[derive(Debug)]
struct Sent {
    letter: Box<Letter>,
    before: BootTime,
    limit: BootTime,
}

impl State {
    /// Writes what goes out at once; false if the connection is broken.
    fn flush(&mut self) -> bool {
        while let Some(connection) = self.connection.as_mut().filter(|_| !self.out.is_empty()) {
            match connection.send_now(&self.out) {
                Ok(sent) if sent == self.out.len() => self.out.clear(),
                Ok(sent) => drop(self.out.drain(..sent)),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => {
                    self.is_broken = true;
                    break;
                }
            }
        }
        !self.is_broken
    }

    /// Takes what has arrived.
    fn read(&mut self, arrived: &mut Vec<(Sent, Value)>) {
        let Some(connection) = self.connection.as_mut() else {
            return;
        };
        let mut more = true;
        loop {
            match connection.next_reply(&mut more) {
                Ok(Some(value)) => match self.waiting.pop_front() {
                    Some(sent) => arrived.push((sent, value)),
                    // Nobody asked: nothing that follows could be trusted.
                    None => self.is_broken = true,
                },
                Ok(None) => break,
                Err(_) => self.is_broken = true,
            }
            self.is_broken |= connection.is_outlived();
            if self.is_broken {
                break;
            }
        }
    }

    /// The loop that asks reads, if no other does.
    fn sit(&mut self, poller: &Arc<Poller>, now: BootTime) {
        match &mut self.seat {
            Some(seat) if seat.is_of(poller) => seat.seen = now,
            Some(seat) if seat.poller.strong_count() > 0 => {}
            _ => {
                let fd = self.connection.as_ref().map(Connection::fd);
                self.seat = fd.filter(|fd| poller.add(*fd)).map(|_| Seat {
                    poller: Arc::downgrade(poller),
                    seen: now,
                    read: BootTime::from_nanos(0),
                });
            }
        }
    }

    /// The service thread reads from now on.
    fn unseat(&mut self) {
        let poller = self.seat.take().and_then(|seat| seat.poller.upgrade());
        if let (Some(poller), Some(connection)) = (poller, &self.connection) {
            poller.remove(connection.fd());
        }
    }

    /// Whether a loop reads, and does so in time.
    fn is_read_elsewhere(&self) -> bool {
        let seat = self.seat.as_ref();
        seat.is_some_and(|seat| {
            seat.poller.strong_count() > 0 && !seat.seen.after(PATIENCE).has_passed()
        })
    }

    /// When the service thread looks whether a loop that reads is late; never while nothing is asked.
    fn next_look(&mut self) -> Option<BootTime> {
        self.seat.as_ref()?;
        if self.is_used || !self.waiting.is_empty() {
            self.unused = 0;
        } else {
            self.unused = self.unused.saturating_add(1);
        }
        (self.unused < LOOKS).then(|| BootTime::now().after(PATIENCE))
    }

    fn push(&mut self, sent: Sent) {
        self.earliest = Some(self.earliest.map_or(sent.limit, |at| at.min(sent.limit)));
        self.waiting.push_back(sent);
    }

    /// Whether a request has been under way for too long.
    fn is_late(&mut self) -> bool {
        if self.earliest.is_some_and(BootTime::has_passed) || self.waiting.is_empty() {
            // Of those that were answered, too.
            self.earliest = self.waiting.iter().map(|sent| sent.limit).min();
        }
        self.earliest.is_some_and(BootTime::has_passed)
    }

    /// Whether it can be written to.
    fn is_open(&mut self, now: BootTime) -> bool {
        // The loop that reads would have heard of its end.
        let seat = self.seat.as_ref();
        let was_read = seat.is_some_and(|seat| seat.read.after(MOMENT) > now);
        if self.waiting.is_empty()
            && !was_read
            && let Some(connection) = self.connection.as_mut()
        {
            // The server may have closed it, by a restart for instance: nothing is lost yet.
            self.is_broken |= !connection.is_quiet();
        }
        self.connection.is_some() && !self.is_broken
    }

    /// Ends the connection; what was under way on it.
    fn end(&mut self, unended: &Unended) -> VecDeque<Sent> {
        self.unseat();
        self.is_broken = false;
        self.earliest = None;
        self.out.clear();
        if let Some(connection) = self.connection.take()
            && !self.waiting.is_empty()
        {
            unended.add(&connection.node, connection.id);
        }
        std::mem::take(&mut self.waiting)
    }
}

impl Redis {
    /// Whether requests may be pipelined: on one server, whose replicas are not asked.
    pub fn has_pipe(&self) -> bool {
        matches!(self.config.place, Place::One(_))
            && self.config.tls.is_none()
            && self.config.min_acks == 0
            && !cfg!(canary = "keep_broken")
    }

    /// The request as bytes.
    fn write(&self, letter: &mut Letter) -> Result<Vec<u8>> {
        let claim = &letter.claim;
        let token = claim.token.to_hex();
        let form = self.form(self.is_bare());
        // A head that polls would ask twice each time; an attempt takes an offer up as well.
        if letter.ask == Ask::Confirm && !self.is_native() {
            letter.ask = Ask::Queue;
        }
        let request = |verb, args: &[&[u8]]| self.request(form, verb, &claim.name, args, false).0;
        match letter.ask {
            Ask::Release => Ok(request(Verb::Release, &[token.as_bytes()])),
            Ask::Confirm => {
                let ttl = millis(ttl(claim));
                let args = [token.as_bytes(), ttl.as_bytes()];
                Ok(request(Verb::Extend, &args))
            }
            Ask::Try => {
                let asking = Asking::new(claim, self.who(claim.label.as_deref())?);
                Ok(request(Verb::Acquire, &asking.args(None)))
            }
            Ask::Queue => {
                let subscription = &self.process()?.subscription;
                // Nothing may be queued before the server has acknowledged the subscription.
                let bell = letter.bell.as_ref().filter(|_| subscription.stands());
                let bell = bell.ok_or_else(|| Error::outcome(Code::Unavailable))?;
                subscription.register(claim.token, bell);
                let asking = Asking::new(claim, self.who(claim.label.as_deref())?);
                let args = asking.args(Some(&subscription.channel));
                Ok(request(Verb::Acquire, &args))
            }
        }
    }

    fn post(&self, mut letter: Box<Letter>) -> std::result::Result<bool, Box<Letter>> {
        let Some(process) = self.known_process() else {
            return Err(letter);
        };
        // Nor must it overtake a release.
        if self.is_bare() || self.owes(&letter.claim.name) {
            return Err(letter);
        }
        let before = BootTime::now();
        let Ok(bytes) = self.write(&mut letter) else {
            return Err(letter);
        };
        let mut state = process.line.state.lock();
        if !state.is_open(before) {
            return Err(letter);
        }
        let limit = self.limit(letter.claim.deadline);
        let is_first = state.out.is_empty();
        // The reader comes by once a second.
        let is_short = limit.left() < VISIT && state.earliest.is_none_or(|at| limit < at);
        let poller = letter.poller.clone();
        if let Some(poller) = &poller {
            state.sit(poller, before);
        }
        // Whoever looks whether the loop is late may sleep.
        let wakes = is_short || (state.seat.is_some() && state.unused >= LOOKS);
        state.is_used = true;
        state.unused = 0;
        state.out.extend_from_slice(&bytes);
        state.push(Sent {
            letter,
            before,
            limit,
        });
        if state.waiting.len() > 1 && poller.is_some_and(|poller| poller.holds_back()) {
            return Ok(wakes);
        }
        if state.waiting.len() > ENOUGH {
            return Ok(is_first || wakes);
        }
        Ok(!state.flush() || !state.out.is_empty() || wakes)
    }

    /// Tells whom an answer is for.
    fn deliver(&self, sent: Sent, value: Value) {
        if matches!(value, Value::ServerError(_)) {
            // An unknown script, or trouble that its own way is to see through.
            (sent.letter.then)(Arrived::Unserved(None));
            return;
        }
        let claim = &sent.letter.claim;
        let arrived = match sent.letter.ask {
            Ask::Release => {
                self.forget(claim);
                Arrived::Answer(released(&value))
            }
            Ask::Confirm => match fence_or_lost(&value) {
                Ok(Some(fence)) => {
                    self.is_granted(claim);
                    Arrived::Attempt(Ok(Attempt::Granted(granted(claim, sent.before, fence))))
                }
                Ok(None) => return self.again(sent.letter),
                Err(error) => Arrived::Attempt(Err(error)),
            },
            ask @ (Ask::Try | Ask::Queue) => {
                let queues = ask == Ask::Queue;
                let answer = self.answer(claim, sent.before, queues, value, None);
                if matches!(answer, Ok(Attempt::Granted(_))) {
                    self.is_granted(claim);
                }
                Arrived::Attempt(answer)
            }
        };
        (sent.letter.then)(arrived);
    }

    /// The offer has lapsed: asks for a place in the queue once more.
    fn again(&self, mut letter: Box<Letter>) {
        letter.ask = Ask::Queue;
        if let Err(letter) = self.post(letter) {
            (letter.then)(Arrived::Unserved(None));
        }
    }

    fn is_granted(&self, claim: &Claim) {
        if let Some(process) = self.known_process() {
            process.subscription.knows(claim.token);
        }
        self.forget_polls(claim);
    }

    fn ask_again(&self, ask: Ask, claim: &Claim, bell: Option<&Arc<Signal>>) -> Arrived {
        // Whoever asks by itself has the time of one exchange; what has had it already has none.
        match ask {
            Ask::Try => Arrived::Attempt(self.attempt(claim, None)),
            Ask::Queue | Ask::Confirm => Arrived::Attempt(self.attempt(claim, bell)),
            Ask::Release => Arrived::Answer(match self.release(claim) {
                Ok(Answer::NotOurs) if !cfg!(canary = "no_resent") => Err(unknown()),
                answer => answer,
            }),
        }
    }
}

/// What the server says to a release.
pub(super) fn released(value: &Value) -> Result<Answer> {
    match number(value) {
        Some(0) => Ok(Answer::NotOurs),
        Some(_) => Ok(Answer::Done(None)),
        None => Err(protocol("an odd answer to a release")),
    }
}

/// A release that was sent twice.
pub(super) fn unknown() -> Error {
    Error::new(
        Code::Uncertain,
        "it is not held any more, but a reply was lost: whether this release ended it is unknown",
    )
}

/// What may have been carried out is not known not to have been.
fn uncertain(arrived: Arrived) -> Arrived {
    let doubt = |error: Error| {
        if error.code() == Code::Unavailable {
            let words = format!("{}; the request may have been carried out", error.message());
            Error::new(Code::Uncertain, words)
        } else {
            error
        }
    };
    match arrived {
        Arrived::Attempt(answer) => Arrived::Attempt(answer.map_err(doubt)),
        Arrived::Answer(answer) => Arrived::Answer(answer.map_err(doubt)),
        other => other,
    }
}

impl Pipe for Redis {
    fn open(&self, queues: bool) -> Result<()> {
        let process = self.process()?;
        let limit = self.limit(None);
        if queues {
            let subscription = &process.subscription;
            subscription.ensure(|| self.connect_any(limit), limit)?;
        }
        {
            let mut state = process.line.state.lock();
            if state.connection.is_some()
                && (!state.waiting.is_empty() || state.is_open(BootTime::now()))
            {
                return Ok(());
            }
            state.end(&process.unended);
        }
        let node = process.nodes.target(&self.config, 0, limit)?;
        let mut connection = self.connect(&node, Turn::First, limit)?;
        if let Some(refusal) = connection.refusal() {
            check(refusal)?;
        }
        connection.pay(limit)?;
        process.line.state.lock().connection = Some(connection);
        Ok(())
    }

    fn is_open(&self, queues: bool) -> bool {
        self.known_process().is_some_and(|process| {
            process.line.state.lock().connection.is_some()
                && (!queues || process.subscription.stands())
        })
    }

    fn send(&self, letter: Box<Letter>) -> std::result::Result<bool, Box<Letter>> {
        self.post(letter)
    }

    fn pump(&self) {
        let Some(process) = self.known_process() else {
            return;
        };
        let mut arrived = Vec::new();
        let lost = {
            let mut state = process.line.state.lock();
            // Nothing is late that has arrived.
            if !state.is_read_elsewhere() || state.is_late() {
                state.read(&mut arrived);
                if !arrived.is_empty() || state.is_broken {
                    state.unseat();
                }
            }
            state.flush();
            if state.is_broken || state.is_late() {
                state.end(&process.unended)
            } else {
                VecDeque::new()
            }
        };
        for (sent, value) in arrived {
            contain(|| self.deliver(sent, value));
        }
        for sent in lost {
            contain(|| (sent.letter.then)(Arrived::Unserved(Some(sent.limit))));
        }
        process.line.state.lock().flush();
    }

    fn read_by(&self, poller: &Arc<Poller>) -> bool {
        let Some(process) = self.known_process() else {
            return false;
        };
        let mut arrived = Vec::new();
        let is_broken = {
            let mut state = process.line.state.lock();
            match &mut state.seat {
                Some(seat) if seat.is_of(poller) => {
                    seat.seen = BootTime::now();
                    seat.read = seat.seen;
                }
                _ => return false,
            }
            state.read(&mut arrived);
            if state.is_broken {
                // It would be readable for ever.
                state.unseat();
            }
            state.is_broken
        };
        for (sent, value) in arrived {
            contain(|| self.deliver(sent, value));
        }
        self.flush() || is_broken
    }

    fn flush(&self) -> bool {
        let Some(process) = self.known_process() else {
            return false;
        };
        let mut state = process.line.state.lock();
        !state.flush() || !state.out.is_empty()
    }

    fn watched(&self) -> Option<Watched> {
        let mut state = self.known_process()?.line.state.lock();
        let fd = state.connection.as_ref()?.fd();
        let look = state.next_look();
        Some(Watched {
            fd,
            reads: state.seat.is_none(),
            is_used: std::mem::take(&mut state.is_used),
            writes: !state.out.is_empty(),
            until: state.earliest.into_iter().chain(look).min(),
        })
    }

    fn close(&self) -> bool {
        let Some(process) = self.known_process() else {
            return true;
        };
        let mut state = process.line.state.lock();
        if !state.waiting.is_empty() || state.is_broken {
            return false;
        }
        state.unseat();
        let connection = state.connection.take();
        drop(state);
        if let Some(connection) = connection {
            self.keep(process, connection);
        }
        true
    }

    fn repeat(&self, ask: Ask, claim: &Claim, bell: Option<&Arc<Signal>>) -> Arrived {
        uncertain(self.ask_again(ask, claim, bell))
    }

    fn ahead(&self) -> &AtomicUsize {
        static NONE: AtomicUsize = AtomicUsize::new(0);
        // Made here if need be: what is counted up must be counted down in the same place.
        self.process().map_or(&NONE, |process| &process.line.ahead)
    }
}
