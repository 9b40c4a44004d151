//! Messages of PostgreSQL on a byte stream: the crate of the protocol encodes and decodes.

use super::super::LONGEST;
use super::super::fault::Fault;
use super::super::rows::{Weight, odd};
use crate::Error;
use crate::lease::BootTime;
use crate::store::net::Stream;
use bytes::BytesMut;
use postgres_protocol::message::backend::{Header, Message};
use std::io;
use std::os::fd::RawFd;

#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    inbox: Inbox,
    /// Requests are put together here.
    pub out: BytesMut,
}

/// What has arrived and was not read yet.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    arrived: BytesMut,
    /// Of what has been read since it was last set to nothing.
    pub weight: Weight,
}

impl Inbox {
    pub fn take_in(&mut self, bytes: &[u8]) {
        self.arrived.extend_from_slice(bytes);
    }

    /// The next message, if it has arrived.
    pub fn message(&mut self) -> Result<Option<Message>, Fault> {
        let header = Header::parse(&self.arrived).map_err(|error| nonsense(&error))?;
        let length = header.map_or(0, |header| usize::try_from(header.len()).unwrap_or(0));
        // Before the crate makes room for it.
        if length > LONGEST {
            return Err(Fault::dead(odd("a message of over 16 MiB")));
        }
        let message = Message::parse(&mut self.arrived).map_err(|error| nonsense(&error))?;
        if message.is_some() {
            self.weight.add(1 + length).map_err(Fault::dead)?;
        }
        Ok(message)
    }
}

impl Wire {
    pub fn new(stream: Stream) -> Self {
        Wire {
            stream,
            inbox: Inbox::default(),
            out: BytesMut::new(),
        }
    }

    pub fn fd(&self) -> RawFd {
        self.stream.fd()
    }

    /// Whether bytes wait that no message was made of yet.
    pub fn has_more(&self) -> bool {
        !self.inbox.arrived.is_empty()
    }

    /// What comes from here on is another answer.
    pub fn begin(&mut self) {
        self.inbox.weight = Weight::default();
    }

    /// Of the answer so far.
    pub fn weight(&mut self) -> &mut Weight {
        &mut self.inbox.weight
    }

    /// Sends what was put together.
    pub fn flush(&mut self, deadline: BootTime) -> Result<(), Fault> {
        let mut sent = 0;
        let done = self.stream.send(&self.out, deadline, &mut sent);
        self.out.clear();
        done.map_err(|error| Fault::broken(&error, sent > 0))
    }

    /// Says something last, if it goes out at once.
    pub fn part(&mut self, words: &[u8]) {
        self.stream.part(words);
    }

    /// The next message.
    pub fn next(&mut self, deadline: BootTime) -> Result<Message, Fault> {
        loop {
            if let Some(message) = self.inbox.message()? {
                return Ok(message);
            }
            if deadline.has_passed() {
                // A server that always has more to say must not outlast the caller's time either.
                return Err(Fault::broken(&io::ErrorKind::TimedOut.into(), true));
            }
            let mut chunk = [0u8; 4096];
            let got = self
                .stream
                .receive(&mut chunk, deadline)
                .map_err(|error| Fault::broken(&error, true))?;
            self.take_in(&chunk, got)?;
        }
    }

    /// The next message, if it has arrived.
    pub fn next_now(&mut self) -> Result<Option<Message>, Fault> {
        loop {
            if let Some(message) = self.inbox.message()? {
                return Ok(Some(message));
            }
            let mut chunk = [0u8; 4096];
            match self
                .stream
                .receive_now(&mut chunk)
                .map_err(|error| Fault::broken(&error, true))?
            {
                None => return Ok(None),
                Some(got) => self.take_in(&chunk, got)?,
            }
        }
    }

    fn take_in(&mut self, chunk: &[u8], got: usize) -> Result<(), Fault> {
        if got == 0 {
            return Err(Fault::broken(&io::ErrorKind::UnexpectedEof.into(), true));
        }
        self.inbox.take_in(chunk.get(..got).unwrap_or_default());
        Ok(())
    }
}

pub(super) fn nonsense(error: &io::Error) -> Fault {
    Fault::dead(odd(&error.to_string()))
}

pub(super) fn unfit(error: &io::Error) -> Error {
    Error::invalid(format!("this cannot be sent to the server: {error}"))
}
