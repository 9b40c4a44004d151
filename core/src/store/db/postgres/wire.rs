//! Messages of PostgreSQL on a byte stream: the crate of the protocol encodes and decodes.

use super::super::LONGEST;
use super::super::fault::Fault;
use super::super::rows::odd;
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
    arrived: BytesMut,
    /// Requests are put together here.
    pub out: BytesMut,
}

impl Wire {
    pub fn new(stream: Stream) -> Self {
        Wire {
            stream,
            arrived: BytesMut::new(),
            out: BytesMut::new(),
        }
    }

    pub fn fd(&self) -> RawFd {
        self.stream.fd()
    }

    /// Whether bytes wait that no message was made of yet.
    pub fn has_more(&self) -> bool {
        !self.arrived.is_empty()
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
            if let Some(message) = self.buffered()? {
                return Ok(message);
            }
            let mut chunk = [0u8; 4096];
            let got = self
                .stream
                .receive(&mut chunk, deadline)
                .map_err(|error| Fault::broken(&error, true))?;
            self.take_in(&chunk, got)?;
            // A server that always has more to say must not outlast the caller's time either.
            if deadline.has_passed() && self.is_incomplete() {
                return Err(Fault::broken(&io::ErrorKind::TimedOut.into(), true));
            }
        }
    }

    /// The next message, if it has arrived.
    pub fn next_now(&mut self) -> Result<Option<Message>, Fault> {
        loop {
            if let Some(message) = self.buffered()? {
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
        self.arrived
            .extend_from_slice(chunk.get(..got).unwrap_or_default());
        Ok(())
    }

    fn is_incomplete(&self) -> bool {
        match Header::parse(&self.arrived) {
            Ok(Some(header)) => {
                usize::try_from(header.len()).is_ok_and(|length| self.arrived.len() <= length)
            }
            _ => true,
        }
    }

    fn buffered(&mut self) -> Result<Option<Message>, Fault> {
        let header = Header::parse(&self.arrived).map_err(|error| nonsense(&error))?;
        // Before the crate makes room for it.
        if header.is_some_and(|header| usize::try_from(header.len()).is_ok_and(|n| n > LONGEST)) {
            return Err(Fault::dead(odd("a message of over 16 MiB")));
        }
        Message::parse(&mut self.arrived).map_err(|error| nonsense(&error))
    }
}

pub(super) fn nonsense(error: &io::Error) -> Fault {
    Fault::dead(odd(&error.to_string()))
}

pub(super) fn unfit(error: &io::Error) -> Error {
    Error::invalid(format!("this cannot be sent to the server: {error}"))
}
