//! The pipelined connection of event loops.
//!
//! Answers come in the order of the requests. Whatever breaks the order or the connection, or takes too long,
//! ends it: each request under way is then asked for again by itself, after the server has ended the old
//! connection, so that nothing late acts after what replaces it.

use super::answers::{fence_or_lost, number};
use super::client::Redis;
use super::config::Place;
use super::connection::{Connection, protocol};
use super::scripts::Verb;
use super::unended::Unended;
use super::verbs::{Asking, granted, millis, ttl};
use crate::codes::Code;
use crate::lease::BootTime;
use crate::service::contain;
use crate::signal::Signal;
use crate::store::pipe::{Arrived, Ask, Letter, Pipe, Watched};
use crate::store::{Answer, Attempt, Backend, Claim};
use crate::sync::Mutex;
use crate::{Error, Result};
use redis::Value;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

/// With this many under way, one more is written together with those that follow it.
const ENOUGH: usize = 8;
/// How often the reader looks for what is late, unasked.
const VISIT: Duration = Duration::from_secs(1);

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
        loop {
            match connection.reply_now() {
                Ok(Some(value)) => match self.waiting.pop_front() {
                    Some(sent) => arrived.push((sent, value)),
                    // Nobody asked: nothing that follows could be trusted.
                    None => self.is_broken = true,
                },
                Ok(None) => break,
                Err(_) => self.is_broken = true,
            }
            if self.is_broken {
                break;
            }
        }
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
    fn is_open(&mut self) -> bool {
        if self.waiting.is_empty()
            && let Some(connection) = self.connection.as_mut()
        {
            // The server may have closed it, by a restart for instance: nothing is lost yet.
            self.is_broken |= !connection.is_quiet();
        }
        self.connection.is_some() && !self.is_broken
    }

    /// Ends the connection; what was under way on it.
    fn end(&mut self, unended: &Unended) -> VecDeque<Sent> {
        self.is_broken = false;
        self.earliest = None;
        self.out.clear();
        if let Some(connection) = self.connection.take()
            && !self.waiting.is_empty()
        {
            unended.add(&connection);
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
        if self.is_bare() {
            return Err(letter);
        }
        let before = BootTime::now();
        let Ok(bytes) = self.write(&mut letter) else {
            return Err(letter);
        };
        let mut state = process.line.state.lock();
        if !state.is_open() {
            return Err(letter);
        }
        let limit = self.limit(letter.claim.deadline);
        let is_first = state.out.is_empty();
        // The reader comes by once a second.
        let is_short = limit.left() < VISIT && state.earliest.is_none_or(|at| limit < at);
        state.out.extend_from_slice(&bytes);
        state.push(Sent {
            letter,
            before,
            limit,
        });
        if state.waiting.len() > ENOUGH {
            return Ok(is_first || is_short);
        }
        Ok(!state.flush() || !state.out.is_empty() || is_short)
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
                match &answer {
                    Ok(Attempt::Granted(_)) => self.is_granted(claim),
                    Err(_) => self.forget(claim),
                    Ok(Attempt::Busy(_)) => {}
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
            process.subscription.granted(claim.token);
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
            if state.connection.is_some() && (!state.waiting.is_empty() || state.is_open()) {
                return Ok(());
            }
            state.end(&process.unended);
        }
        let node = process.nodes.target(&self.config, 0, limit)?;
        let connection = self.connect(&node, limit)?;
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
            state.read(&mut arrived);
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

    fn watched(&self) -> Option<Watched> {
        let state = self.known_process()?.line.state.lock();
        Some(Watched {
            fd: state.connection.as_ref()?.fd(),
            writes: !state.out.is_empty(),
            until: state.earliest,
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
