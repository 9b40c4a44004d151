//! One session of this process: what is asked of the server, and who waits for which node. The thread in
//! `link.rs` speaks with the server; everybody else comes here.

use super::config::Config;
use super::life::Life;
use super::link;
use super::wire;
use crate::codes::Code;
use crate::fork::{self, ProcessFd};
use crate::lease::BootTime;
use crate::owner::OwnerToken;
use crate::service::spawn_quiet;
use crate::signal::Signal;
use crate::sync::Mutex;
use crate::{Error, Result};
use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Session {
    pub config: Config,
    /// Wakes the thread.
    bell: ProcessFd,
    pub state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    runs: bool,
    pub stops: bool,
    /// The session, until it is over.
    pub life: Option<Arc<Life>>,
    /// Not sent yet, and sent: the server answers in this order.
    pub queue: VecDeque<Request>,
    pub flight: VecDeque<Request>,
    next: i32,
    /// Who waits for a change of which node.
    watches: HashMap<String, Vec<(OwnerToken, Arc<Signal>)>>,
    /// Why the last connection failed.
    trouble: Option<(Code, String)>,
}

#[derive(Debug)]
pub(super) struct Request {
    pub number: i32,
    pub frame: Vec<u8>,
    /// When it was sent.
    pub sent: BootTime,
    /// Until when anybody waits for it to be sent.
    until: BootTime,
    /// Where its answer goes; nowhere if nobody waits any more.
    pub slot: Option<Arc<Slot>>,
    /// Whoever waits for a change of this node is told if the server refuses.
    pub rings: Option<String>,
    /// It is for the session's sake.
    pub beats: bool,
}

/// Where an answer is waited for.
#[derive(Debug, Default)]
pub(super) struct Slot {
    signal: Signal,
    answer: Mutex<Option<Answer>>,
}

#[derive(Debug)]
enum Answer {
    Reply(Reply),
    /// The connection broke after it was sent.
    Cut,
    Refused(Error),
}

/// What the server answered, and in which session.
#[derive(Debug)]
pub(super) struct Reply {
    pub error: i32,
    pub body: Vec<u8>,
    pub life: Arc<Life>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Broken {
    /// It was not sent.
    Unsent(Error),
    /// The connection broke after it was sent: it may have acted, but acts no more.
    Cut,
    /// No answer came in time: it may act yet.
    Late,
}

impl Slot {
    fn put(&self, answer: Answer) {
        *self.answer.lock() = Some(answer);
        self.signal.ring();
    }

    fn take(&self) -> Option<Answer> {
        self.answer.lock().take()
    }

    pub fn reply(&self, reply: Reply) {
        self.put(Answer::Reply(reply));
    }
}

impl Session {
    pub fn new(config: Config) -> Result<Arc<Self>> {
        Ok(Arc::new(Session {
            config,
            bell: fork::eventfd()?,
            state: Mutex::default(),
        }))
    }

    /// Puts requests in line, next to each other; their answers are waited for with `wait`.
    pub fn send<const N: usize>(
        self: &Arc<Self>,
        frames: [Vec<u8>; N],
        until: BootTime,
    ) -> Result<[Arc<Slot>; N]> {
        let slots: [Arc<Slot>; N] = std::array::from_fn(|_| Arc::default());
        {
            let mut state = self.state.lock();
            for (frame, slot) in frames.into_iter().zip(&slots) {
                let mut request = state.request(frame, until);
                request.slot = Some(slot.clone());
                state.queue.push_back(request);
            }
            self.start(&mut state)?;
        }
        self.wake();
        Ok(slots)
    }

    /// Puts a request in line whose answer nobody waits for.
    pub fn tell(self: &Arc<Self>, frame: Vec<u8>) {
        self.tell_of(frame, None);
    }

    /// Has the server tell of the next change of a node, or of its end if it is not there any more.
    pub fn tell_end(self: &Arc<Self>, node: &str) {
        self.tell_of(wire::exists(node, true), Some(node.to_owned()));
    }

    fn tell_of(self: &Arc<Self>, frame: Vec<u8>, rings: Option<String>) {
        let until = BootTime::now().after(self.config.io_timeout);
        let mut state = self.state.lock();
        let mut request = state.request(frame, until);
        request.rings = rings;
        state.queue.push_back(request);
        if self.start(&mut state).is_ok() {
            drop(state);
            self.wake();
        }
    }

    fn start(self: &Arc<Self>, state: &mut State) -> Result<()> {
        if !state.runs {
            let session = self.clone();
            spawn_quiet("synlock-zk", move || link::run(&session))?;
            state.runs = true;
        }
        Ok(())
    }

    /// Waits for an answer.
    pub fn wait(&self, slot: &Arc<Slot>, until: BootTime) -> std::result::Result<Reply, Broken> {
        loop {
            if let Some(answer) = slot.take() {
                return match answer {
                    Answer::Reply(reply) => Ok(reply),
                    Answer::Cut => Err(Broken::Cut),
                    Answer::Refused(error) => Err(Broken::Unsent(error)),
                };
            }
            if until.has_passed() {
                break;
            }
            slot.signal.sleep(until);
        }
        let mut state = self.state.lock();
        let is_it = |request: &Request| {
            let its = request.slot.as_ref();
            its.is_some_and(|its| Arc::ptr_eq(its, slot))
        };
        if let Some(at) = state.queue.iter().position(is_it) {
            state.queue.remove(at);
            return Err(Broken::Unsent(state.trouble()));
        }
        if let Some(request) = state.flight.iter_mut().find(|request| is_it(request)) {
            request.slot = None;
            return Err(Broken::Late);
        }
        drop(state);
        // It came at the last moment.
        match slot.take() {
            Some(Answer::Reply(reply)) => Ok(reply),
            Some(Answer::Refused(error)) => Err(Broken::Unsent(error)),
            Some(Answer::Cut) | None => Err(Broken::Cut),
        }
    }

    pub fn wake(&self) {
        let one = 1u64;
        // SAFETY: writes eight bytes to an eventfd that lives as long as `self`.
        unsafe { libc::write(self.bell.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    pub fn bell(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    /// Takes the thread's word.
    pub fn heard(&self) {
        let mut count = 0u64;
        // SAFETY: reads eight bytes from a non-blocking eventfd of ours.
        unsafe { libc::read(self.bell.as_raw_fd(), (&raw mut count).cast(), 8) };
    }

    /// Lets the thread close the session and end.
    pub fn stop(&self) {
        self.state.lock().stops = true;
        self.wake();
    }

    /// Rings the bell when anything is told of the node, or the session is over.
    pub fn watch(&self, node: &str, token: OwnerToken, bell: &Arc<Signal>) {
        let mut state = self.state.lock();
        let waiting = state.watches.entry(node.to_owned()).or_default();
        waiting.retain(|(other, _)| *other != token);
        waiting.push((token, bell.clone()));
    }

    pub fn unwatch(&self, node: &str, token: OwnerToken) {
        let mut state = self.state.lock();
        if let Some(waiting) = state.watches.get_mut(node) {
            waiting.retain(|(other, _)| *other != token);
            if waiting.is_empty() {
                state.watches.remove(node);
            }
        }
    }

    /// The server has told of the node.
    pub fn ring(&self, node: &str) {
        let waiting = self.state.lock().watches.remove(node);
        for (_, bell) in waiting.into_iter().flatten() {
            bell.ring();
        }
    }

    /// The server knows of no watch any more: everybody looks again.
    pub fn ring_all(&self) {
        let waiting = std::mem::take(&mut self.state.lock().watches);
        for (_, bell) in waiting.into_values().flatten() {
            bell.ring();
        }
    }

    /// The connection is gone, and with it the answers to what was sent.
    pub fn cut(&self) {
        let lost = std::mem::take(&mut self.state.lock().flight);
        for slot in lost.into_iter().filter_map(|request| request.slot) {
            slot.put(Answer::Cut);
        }
    }

    /// No server is to be had at this moment.
    pub fn note_trouble(&self, error: &Error) {
        self.state.lock().trouble = Some((error.code(), error.message().to_owned()));
    }

    /// Waiting does not help against this.
    pub fn refuse(&self, code: Code, words: &str) {
        let refused = std::mem::take(&mut self.state.lock().queue);
        for slot in refused.into_iter().filter_map(|request| request.slot) {
            slot.put(Answer::Refused(Error::new(code, words)));
        }
    }
}

impl State {
    fn request(&mut self, mut frame: Vec<u8>, until: BootTime) -> Request {
        self.next = if self.next == i32::MAX {
            1
        } else {
            self.next + 1
        };
        wire::put_number(&mut frame, self.next);
        Request {
            number: self.next,
            frame,
            sent: BootTime::from_nanos(0),
            until,
            slot: None,
            rings: None,
            beats: false,
        }
    }

    /// The frame of a heartbeat, which is on its way from now on.
    pub fn beat(&mut self, now: BootTime) -> Vec<u8> {
        let mut request = self.request(wire::sync("/"), now);
        let frame = std::mem::take(&mut request.frame);
        (request.sent, request.beats) = (now, true);
        self.flight.push_back(request);
        frame
    }

    /// Takes out what nobody waits for any more, unsent.
    pub fn forget_old(&mut self) {
        let trouble = &self.trouble;
        self.queue.retain(|request| {
            let is_old = request.until.has_passed();
            if let Some(slot) = request.slot.as_ref().filter(|_| is_old) {
                slot.put(Answer::Refused(told(trouble)));
            }
            !is_old
        });
    }

    fn trouble(&self) -> Error {
        told(&self.trouble)
    }

    pub fn clear_trouble(&mut self) {
        self.trouble = None;
    }
}

/// Why nothing was sent.
fn told(trouble: &Option<(Code, String)>) -> Error {
    match trouble {
        Some((code, words)) => Error::new(*code, words.clone()),
        None => Error::new(Code::Unavailable, "no server has answered in time"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_nobody_waits_for_any_more_is_forgotten() {
        let mut state = State::default();
        let slot: Arc<Slot> = Arc::default();
        for (until, its) in [(1, Some(slot.clone())), (1, None), (u64::MAX, None)] {
            let mut request = state.request(vec![0; 8], BootTime::from_nanos(until));
            request.slot = its;
            state.queue.push_back(request);
        }
        state.forget_old();
        assert_eq!(state.queue.len(), 1);
        // Should anybody come late, it was not sent.
        assert!(matches!(slot.take(), Some(Answer::Refused(_))));
    }
}
