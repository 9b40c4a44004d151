//! HTTP/1.1 as far as etcd's gateway needs it: a request with its body, an answer of known length or in
//! chunks. The parser of heads is a crate; the streams, with their deadlines, are ours.

use super::config::{Config, shown};
use crate::lease::BootTime;
use crate::store::net::{Address, Stream};
use crate::{Code, Error, Result};
use std::io;
use std::os::fd::RawFd;

/// No head and no line between chunks is longer.
const LONGEST_HEAD: usize = 64 * 1024;
/// No answer is longer: etcd takes no request of more than 1.5 MB, and a page of a listing is bounded.
const LONGEST_BODY: usize = 16 * 1024 * 1024;
/// What a stream may say without a pause; the one who reads it has others to read.
const LONGEST_BURST: usize = 4 * 1024 * 1024;

/// One connection; one exchange at a time.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    host: String,
    /// What has arrived and was not looked at.
    rest: Vec<u8>,
}

/// Why an exchange failed.
#[derive(Debug)]
pub(super) struct Broken {
    pub cause: io::Error,
    /// Some of the request went out: the server may have acted, or act yet.
    pub sent: bool,
}

impl Connection {
    pub fn open(config: &Config, address: &Address, deadline: BootTime) -> Result<Self> {
        let mut stream = Stream::connect(address, config.connect_timeout, deadline)?;
        if let Some(tls) = &config.tls {
            let within = deadline.min(BootTime::now().after(config.connect_timeout));
            stream = stream.secure(address, tls, within)?;
        }
        Ok(Connection {
            stream,
            host: shown(address),
            rest: Vec::new(),
        })
    }

    pub fn fd(&self) -> RawFd {
        self.stream.fd()
    }

    /// Whether nothing has come, nor gone, since the last answer.
    pub fn is_idle(&mut self) -> bool {
        self.rest.is_empty() && matches!(self.take_in(), Ok(false))
    }

    /// Sends a request.
    pub fn ask(
        &mut self,
        path: &str,
        body: &str,
        token: Option<&str>,
        deadline: BootTime,
    ) -> std::result::Result<(), Broken> {
        let token = token.map_or_else(String::new, |token| format!("Authorization: {token}\r\n"));
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{token}Content-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        let mut sent = 0;
        self.stream
            .send(request.as_bytes(), deadline, &mut sent)
            .map_err(|cause| Broken {
                cause,
                sent: sent > 0,
            })
    }

    /// Reads an answer to its end: the status and the body.
    pub fn answer(&mut self, deadline: BootTime) -> std::result::Result<(u16, Vec<u8>), Broken> {
        self.read_answer(deadline)
            .map_err(|cause| Broken { cause, sent: true })
    }

    fn read_answer(&mut self, deadline: BootTime) -> io::Result<(u16, Vec<u8>)> {
        let (status, mut frame) = self.head(deadline)?;
        let mut body = Vec::new();
        loop {
            let used = frame.take(&self.rest, &mut body)?;
            self.rest.drain(..used);
            if frame.is_done() {
                return Ok((status, body));
            }
            if body.len() > LONGEST_BODY {
                return Err(odd("an answer without end"));
            }
            self.more(deadline)?;
        }
    }

    fn head(&mut self, deadline: BootTime) -> io::Result<(u16, Frame)> {
        loop {
            if let Some((status, frame, used)) = read_head(&self.rest)? {
                self.rest.drain(..used);
                return Ok((status, frame));
            }
            if self.rest.len() > LONGEST_HEAD {
                return Err(odd("a head without end"));
            }
            self.more(deadline)?;
        }
    }

    fn more(&mut self, deadline: BootTime) -> io::Result<()> {
        let mut piece = [0; 16 * 1024];
        match self.stream.receive(&mut piece, deadline)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            got => {
                self.rest.extend_from_slice(&piece[..got]);
                Ok(())
            }
        }
    }

    /// Takes in what has arrived, never waiting; false if nothing has.
    fn take_in(&mut self) -> io::Result<bool> {
        let mut piece = [0; 16 * 1024];
        match self.stream.receive_now(&mut piece)? {
            None => Ok(false),
            Some(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(got) => {
                self.rest.extend_from_slice(&piece[..got]);
                Ok(true)
            }
        }
    }
}

/// An answer that goes on and on, one line for each message.
#[derive(Debug)]
pub(super) struct Endless {
    connection: Connection,
    frame: Option<Frame>,
    body: Vec<u8>,
}

impl Endless {
    /// Of a request that was sent.
    pub fn new(connection: Connection) -> Self {
        Endless {
            connection,
            frame: None,
            body: Vec::new(),
        }
    }

    pub fn fd(&self) -> RawFd {
        self.connection.fd()
    }

    /// The whole lines that have arrived; never waits. An error is the end of it.
    pub fn lines(&mut self) -> io::Result<Vec<Vec<u8>>> {
        let mut lines = Vec::new();
        let mut burst = 0;
        while self.connection.take_in()? {
            burst += self.connection.rest.len();
            self.digest(&mut lines)?;
            if burst > LONGEST_BURST {
                return Err(odd("a stream without a pause"));
            }
        }
        Ok(lines)
    }

    fn digest(&mut self, lines: &mut Vec<Vec<u8>>) -> io::Result<()> {
        let rest = &mut self.connection.rest;
        if self.frame.is_none() {
            let Some((status, frame, used)) = read_head(rest)? else {
                if rest.len() > LONGEST_HEAD {
                    return Err(odd("a head without end"));
                }
                return Ok(());
            };
            if status != 200 {
                return Err(odd("the stream was refused"));
            }
            rest.drain(..used);
            self.frame = Some(frame);
        }
        let Some(frame) = &mut self.frame else {
            return Ok(());
        };
        let used = frame.take(rest, &mut self.body)?;
        rest.drain(..used);
        if self.body.len() > LONGEST_BURST {
            return Err(odd("a message without end"));
        }
        while let Some(end) = self.body.iter().position(|byte| *byte == b'\n') {
            let rest = self.body.split_off(end + 1);
            lines.push(std::mem::replace(&mut self.body, rest));
        }
        if frame.is_done() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

fn odd(words: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, words)
}

/// The status, how the body is framed, and the length of the head; nothing as long as it is not whole.
fn read_head(bytes: &[u8]) -> io::Result<Option<(u16, Frame, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let used = match head.parse(bytes) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(odd("no HTTP")),
    };
    let value = |name: &str| {
        let found = head
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name));
        found.and_then(|header| std::str::from_utf8(header.value).ok())
    };
    let chunked =
        value("transfer-encoding").is_some_and(|text| text.trim().eq_ignore_ascii_case("chunked"));
    let frame = match value("content-length") {
        _ if chunked => Frame::Size(Vec::new()),
        Some(text) => match text.trim().parse() {
            Ok(length) if length <= LONGEST_BODY || cfg!(canary = "trusts_length") => {
                Frame::Data(length, false)
            }
            _ => return Err(odd("an odd length")),
        },
        None => return Err(odd("an answer without a length")),
    };
    Ok(Some((head.code.unwrap_or(0), frame, used)))
}

/// What of a body comes next.
#[derive(Debug)]
enum Frame {
    /// So many bytes; then the end of a chunk, or of all.
    Data(usize, bool),
    /// The line end after a chunk.
    Gap(usize),
    /// The line with the size of the next chunk.
    Size(Vec<u8>),
    /// A line after the last chunk.
    Trailer(Vec<u8>),
    Done,
}

impl Frame {
    fn is_done(&self) -> bool {
        matches!(self, Frame::Done | Frame::Data(0, false))
    }

    /// Moves what it can into `out`; how much of `bytes` that was.
    fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> io::Result<usize> {
        let mut used = 0;
        loop {
            if self.is_done() {
                return Ok(used);
            }
            if let Frame::Data(0, true) = self {
                *self = Frame::Gap(2);
            }
            let rest = bytes.get(used..).unwrap_or_default();
            let Some(&first) = rest.first() else {
                return Ok(used);
            };
            match self {
                Frame::Data(left, _) => {
                    let count = rest.len().min(*left);
                    if cfg!(canary = "trusts_length") {
                        out.reserve(*left);
                    }
                    out.extend_from_slice(rest.get(..count).unwrap_or_default());
                    *left -= count;
                    used += count;
                }
                Frame::Gap(left) => {
                    if first != if *left == 2 { b'\r' } else { b'\n' } {
                        return Err(odd("a chunk without its end"));
                    }
                    *left -= 1;
                    used += 1;
                    if *left == 0 {
                        *self = Frame::Size(Vec::new());
                    }
                }
                Frame::Size(line) => {
                    used += 1;
                    if first != b'\n' {
                        line.push(first);
                        if line.len() > 1024 {
                            return Err(odd("a size without end"));
                        }
                        continue;
                    }
                    *self = match size(line)? {
                        0 => Frame::Trailer(Vec::new()),
                        size => Frame::Data(size, true),
                    };
                }
                Frame::Trailer(line) => {
                    used += 1;
                    if first != b'\n' {
                        line.push(first);
                        if line.len() > LONGEST_HEAD {
                            return Err(odd("a trailer without end"));
                        }
                        continue;
                    }
                    *self = if matches!(line.as_slice(), b"" | b"\r") {
                        Frame::Done
                    } else {
                        Frame::Trailer(Vec::new())
                    };
                }
                Frame::Done => return Ok(used),
            }
        }
    }
}

/// A chunk's size, without the extensions that may follow.
fn size(line: &[u8]) -> io::Result<usize> {
    let text = std::str::from_utf8(line).map_err(|_| odd("an odd size"))?;
    let digits = text.split(';').next().unwrap_or_default().trim();
    match usize::from_str_radix(digits, 16) {
        Ok(size) if cfg!(canary = "trusts_length") => Ok(size),
        Ok(size) if size <= LONGEST_BODY && !digits.starts_with('+') => Ok(size),
        _ => Err(odd("an odd size")),
    }
}

/// What is told of an answer that no server of etcd's kind gives.
pub(super) fn protocol(words: &str) -> Error {
    Error::new(Code::Protocol, words)
}

/// The whole answers that begin any bytes, for programs that feed it noise: their statuses and bodies.
#[cfg(any(feature = "fuzz", test))]
pub(super) fn read_all(bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let (mut rest, mut answers) = (bytes, Vec::new());
    while let Ok(Some((status, mut frame, used))) = read_head(rest) {
        rest = rest.get(used..).unwrap_or_default();
        let mut body = Vec::new();
        match frame.take(rest, &mut body) {
            Ok(used) if frame.is_done() => rest = rest.get(used..).unwrap_or_default(),
            _ => break,
        }
        answers.push((status, body));
    }
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n";
    const CHUNKS: &[u8] = b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nGrpc-Trailer: x\r\n\r\nnext";

    #[test]
    fn chunks_are_put_together_however_they_arrive() {
        for step in 1..CHUNKS.len() {
            let (status, mut frame, used) = read_head(HEAD).unwrap().unwrap();
            assert_eq!((status, used), (404, HEAD.len()));
            let (mut out, mut rest, mut fed) = (Vec::new(), Vec::new(), CHUNKS);
            while !frame.is_done() {
                let (piece, left) = fed.split_at(step.min(fed.len()));
                rest.extend_from_slice(piece);
                fed = left;
                let used = frame.take(&rest, &mut out).unwrap();
                rest.drain(..used);
            }
            assert_eq!(out, b"abc0123456789", "{step}");
            rest.extend_from_slice(fed);
            assert_eq!(rest, b"next", "{step}");
        }
    }

    #[test]
    fn a_length_is_believed_within_reason() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(read_all(answer), [(200, b"{}".to_vec())]);
        assert!(read_head(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n").is_err());
        assert!(read_head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(read_head(b"ZooKeeper\r\n\r\n").is_err());
        assert!(read_head(b"HTTP/1.1 200 OK\r\nContent-").unwrap().is_none());
        assert!(size(b"+3").is_err() && size(b"-1").is_err() && size(b"").is_err());
    }
}
