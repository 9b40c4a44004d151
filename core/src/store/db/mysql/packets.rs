//! Packets of MySQL on a byte stream, and what they are made of.

use super::super::LONGEST;
use super::super::config::Config;
use super::super::fault::Fault;
use super::super::rows::{Weight, odd};
use super::Done;
use crate::lease::BootTime;
use crate::store::net::{Stream, Tls};
use std::io;
use std::os::fd::RawFd;

/// Bytes that are read at once.
pub(super) const CHUNK: usize = 4096;

#[derive(Debug)]
pub(super) struct Packets {
    stream: Stream,
    inbox: Inbox,
    /// Number of the next packet.
    pub sequence: u8,
}

/// What has arrived and was not read yet.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    arrived: Vec<u8>,
    /// Bytes of it that have been read.
    read: usize,
    /// Of what has been read since it was last set to nothing.
    pub weight: Weight,
}

impl Inbox {
    pub fn take_in(&mut self, bytes: &[u8]) {
        self.arrived.extend_from_slice(bytes);
    }

    fn rest(&self) -> &[u8] {
        self.arrived.get(self.read..).unwrap_or_default()
    }

    /// The next packet and its number, if it has arrived.
    pub fn packet(&mut self) -> Done<Option<(u8, Vec<u8>)>> {
        let length = match *self.rest() {
            [a, b, c, ..] => usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16,
            _ => 0,
        };
        if length >= LONGEST - 1 {
            return Err(Fault::dead(odd("a packet of over 16 MiB")));
        }
        let end = 4 + length;
        let Some([_, _, _, sequence, body @ ..]) = self.rest().get(..end) else {
            self.arrived.drain(..self.read);
            self.read = 0;
            // In one piece, with what comes behind it: doubled again and again it would take up more.
            let room = end + CHUNK - self.arrived.len();
            self.arrived.reserve_exact(room);
            return Ok(None);
        };
        let mut weight = self.weight;
        weight.add(end).map_err(Fault::dead)?;
        let packet = (*sequence, body.to_vec());
        self.weight = weight;
        self.read += end;
        Ok(Some(packet))
    }
}

impl Packets {
    pub fn new(stream: Stream) -> Self {
        Packets {
            stream,
            inbox: Inbox::default(),
            sequence: 0,
        }
    }

    pub fn fd(&self) -> RawFd {
        self.stream.fd()
    }

    /// Whether bytes wait that are no packet yet.
    pub fn has_more(&self) -> bool {
        !self.inbox.rest().is_empty()
    }

    /// What comes from here on is another answer.
    pub fn begin(&mut self) {
        self.sequence = 0;
        self.inbox.weight = Weight::default();
    }

    /// Of the answer so far.
    pub fn weight(&mut self) -> &mut Weight {
        &mut self.inbox.weight
    }

    /// Goes on over TLS.
    pub fn secured(self, config: &Config, options: &Tls, deadline: BootTime) -> Done<Self> {
        // What came before TLS was not said by the server that proves itself then.
        if self.has_more() {
            return Err(out_of_turn());
        }
        let stream = self
            .stream
            .secure(&config.address, options, deadline)
            .map_err(Fault::dead)?;
        Ok(Packets { stream, ..self })
    }

    /// Says something last, if it goes out at once.
    pub fn part(&mut self, payload: &[u8]) {
        self.stream.part(&framed(payload, 0));
    }

    pub fn send(&mut self, payload: &[u8], deadline: BootTime) -> Done<()> {
        let packet = framed(payload, self.sequence);
        self.sequence = self.sequence.wrapping_add(1);
        let mut sent = 0;
        self.stream
            .send(&packet, deadline, &mut sent)
            .map_err(|error| Fault::broken(&error, sent > 0))
    }

    pub fn next(&mut self, deadline: BootTime) -> Done<Vec<u8>> {
        loop {
            if let Some(packet) = self.buffered()? {
                return Ok(packet);
            }
            if deadline.has_passed() {
                // A server that always has more to say must not outlast the caller's time either.
                return Err(Fault::broken(&io::ErrorKind::TimedOut.into(), true));
            }
            let mut chunk = [0u8; CHUNK];
            let got = self
                .stream
                .receive(&mut chunk, deadline)
                .map_err(|error| Fault::broken(&error, true))?;
            self.keep(&chunk, got)?;
        }
    }

    pub fn next_now(&mut self) -> Done<Option<Vec<u8>>> {
        loop {
            if let Some(packet) = self.buffered()? {
                return Ok(Some(packet));
            }
            let mut chunk = [0u8; CHUNK];
            match self
                .stream
                .receive_now(&mut chunk)
                .map_err(|error| Fault::broken(&error, true))?
            {
                None => return Ok(None),
                Some(got) => self.keep(&chunk, got)?,
            }
        }
    }

    fn keep(&mut self, chunk: &[u8], got: usize) -> Done<()> {
        if got == 0 {
            return Err(Fault::broken(&io::ErrorKind::UnexpectedEof.into(), true));
        }
        self.inbox.take_in(chunk.get(..got).unwrap_or_default());
        Ok(())
    }

    fn buffered(&mut self) -> Done<Option<Vec<u8>>> {
        let Some((sequence, packet)) = self.inbox.packet()? else {
            return Ok(None);
        };
        self.sequence = sequence.wrapping_add(1);
        Ok(Some(packet))
    }
}

fn framed(payload: &[u8], sequence: u8) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(0).to_le_bytes();
    let mut packet = Vec::with_capacity(4 + payload.len());
    packet.extend(&length[..3]);
    packet.push(sequence);
    packet.extend_from_slice(payload);
    packet
}

pub(super) fn out_of_turn() -> Fault {
    Fault::dead(odd("a packet out of its turn"))
}

pub(super) fn short(what: &str) -> Fault {
    Fault::dead(odd(&format!("{what} that cannot be read")))
}

pub(super) fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    Some(head)
}

/// Text up to a NUL, or to the end.
pub(super) fn take_text(rest: &mut &[u8]) -> Option<String> {
    let end = rest.iter().position(|byte| *byte == 0);
    let text = take(rest, end.unwrap_or(rest.len()))?;
    if end.is_some() {
        take(rest, 1)?;
    }
    String::from_utf8(text.to_vec()).ok()
}

/// A number of one to nine bytes.
pub(super) fn take_length(rest: &mut &[u8]) -> Option<u64> {
    let width = match *take(rest, 1)?.first()? {
        small @ 0..=0xfa => return Some(u64::from(small)),
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        _ => return None,
    };
    let mut bytes = [0; 8];
    bytes.get_mut(..width)?.copy_from_slice(take(rest, width)?);
    Some(u64::from_le_bytes(bytes))
}
