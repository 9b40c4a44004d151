//! One connection: all that is said to the server, and all that touches the client library, which
//! writes the meta commands and reads their answers. Whoever gets a `Broken` drops the connection.

use super::config::Config;
use crate::codes::Code;
use crate::lease::BootTime;
use crate::secret::Secret;
use crate::store::net::Socket;
use crate::store::{Life, whole_seconds};
use crate::{Error, Result};
use memcache::exp::{self, MetaCommand, MetaResponse, ReturnCode};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// No answer is longer: memcached's largest item by default, and its line.
const LONGEST: usize = 1024 * 1024 + 4096;
/// No server has more to say of itself.
const MOST_STATS: usize = 1000;
/// No line is longer.
const LONGEST_LINE: usize = 4096;

/// An exchange that failed, and whether a change that the server was sent may have been made.
#[derive(Debug)]
pub(super) struct Broken {
    pub error: Error,
    pub sent: bool,
}

/// An item as the server has it.
#[derive(Debug)]
pub(super) struct Item {
    pub value: Vec<u8>,
    /// Its number, new at each change; starts again with the server.
    pub cas: u64,
    /// Until it ends, in whole seconds, rounded up; `None` if it does not.
    pub left: Option<Duration>,
}

/// What became of a change.
#[derive(Debug)]
pub(super) enum Change {
    Made,
    /// The item is there already, is another one, or is gone.
    Refused,
    /// The server could not, and changed nothing.
    Failed(Error),
}

/// How to store a value.
#[derive(Clone, Copy)]
pub(super) enum Store {
    /// Only if there is none.
    Add,
    /// Only in place of the one with this number.
    Swap(u64),
}

#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    buffer: Vec<u8>,
    /// Never used twice in this process: what a server said on a connection it said in one life.
    pub serial: u64,
}

type Exchange<T> = std::result::Result<T, Broken>;

impl Connection {
    /// Connects, authenticates, and makes sure that the server has the commands that we need.
    pub fn open(config: &Config, deadline: BootTime) -> Result<Self> {
        static SERIALS: AtomicU64 = AtomicU64::new(1);
        let socket = Socket::connect(&config.address, config.connect_timeout, deadline)?;
        let mut connection = Connection {
            socket,
            buffer: Vec::new(),
            serial: SERIALS.fetch_add(1, Ordering::Relaxed),
        };
        match connection.greet(deadline) {
            Err(error) if error.code() == Code::Permission => {
                connection.log_in(config, deadline)?;
                connection.greet(deadline)?;
            }
            greeted => greeted?,
        }
        Ok(connection)
    }

    fn greet(&mut self, deadline: BootTime) -> Result<()> {
        self.send(&encoded(&exp::build_noop())?, deadline)?;
        self.response(deadline).map(drop)
    }

    /// Only on a server that asked: another one would keep the password as an item.
    fn log_in(&mut self, config: &Config, deadline: BootTime) -> Result<()> {
        let (Some(user), Some(password)) = (&config.user, &config.password) else {
            return Err(Error::new(
                Code::Permission,
                "the server wants a user and a password",
            ));
        };
        let words = [user, password].map(Secret::reveal).join(" ");
        let request = format!("set login 0 0 {}\r\n{words}\r\n", words.len());
        self.send(request.as_bytes(), deadline)?;
        if self.line(deadline)? == b"STORED" {
            return Ok(());
        }
        // Its own words may repeat the password.
        Err(Error::new(
            Code::Permission,
            "the server does not accept the user or password",
        ))
    }

    /// Whether it is open and nothing has arrived that nobody asked for.
    pub fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        self.buffer.is_empty() && matches!(self.socket.receive_now(&mut byte), Ok(None))
    }

    /// Whether the server answers.
    pub fn ping(&mut self, deadline: BootTime) -> Exchange<()> {
        self.ask(&exp::build_noop(), false, deadline).map(drop)
    }

    /// Which life of the server this is.
    pub fn life(&mut self, deadline: BootTime) -> Exchange<Life> {
        let (mut pid, mut up, mut time) = (String::new(), None, 0u64);
        self.statistics(deadline, |name, value| match name {
            "pid" => value.clone_into(&mut pid),
            "uptime" => up = value.parse().ok(),
            "time" => time = value.parse().unwrap_or(0),
            _ => {}
        })?;
        let up = up.ok_or_else(|| unsent(protocol("statistics without an age")))?;
        // A container's server has the same number each time, but began later.
        Ok(Life {
            id: format!("{pid}/{}", time.saturating_sub(up)),
            up: whole_seconds(up),
            // Its leases end by a clock of its own.
            clock: None,
        })
    }

    /// How many items the server has thrown away before their time since it began.
    pub fn evictions(&mut self, deadline: BootTime) -> Exchange<u64> {
        let mut evictions = 0;
        self.statistics(deadline, |name, value| {
            if name == "evictions" {
                evictions = value.parse().unwrap_or(0);
            }
        })?;
        Ok(evictions)
    }

    fn statistics(&mut self, deadline: BootTime, mut take: impl FnMut(&str, &str)) -> Exchange<()> {
        self.send(b"stats\r\n", deadline).map_err(unsent)?;
        for _ in 0..MOST_STATS {
            let line = self.line(deadline).map_err(unsent)?;
            let line = String::from_utf8_lossy(&line);
            let mut words = line.split(' ');
            match (words.next(), words.next(), words.next()) {
                (Some("STAT"), Some(name), Some(value)) => take(name, value),
                (Some("STAT"), ..) => {}
                (Some("END"), ..) => return Ok(()),
                _ => break,
            }
        }
        Err(unsent(protocol("an odd answer to `stats`")))
    }

    /// Words about the server's address, once.
    pub fn take_words(&mut self) -> Option<String> {
        self.socket.take_words()
    }

    /// The item at a key.
    pub fn look(&mut self, key: &[u8], deadline: BootTime) -> Exchange<Option<Item>> {
        let command = get(key).map_err(unsent)?;
        let response = self.ask(&command, false, deadline)?;
        item(response).map_err(unsent)
    }

    /// Changes a key, then looks at it, in one round trip.
    ///
    /// By `add` and `cas`: the meta command `ms` removes the item that is there, somebody else's too,
    /// when the server has no memory for the new one.
    pub fn store(
        &mut self,
        key: &[u8],
        value: &[u8],
        how: Store,
        seconds: u32,
        deadline: BootTime,
    ) -> Exchange<(Change, Option<Item>)> {
        let mut request = match how {
            Store::Add => b"add ".to_vec(),
            Store::Swap(_) => b"cas ".to_vec(),
        };
        request.extend_from_slice(key);
        request.extend(format!(" 0 {seconds} {}", value.len()).into_bytes());
        if let Store::Swap(cas) = how {
            request.extend(format!(" {cas}").into_bytes());
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(value);
        request.extend_from_slice(b"\r\n");
        let look = get(key)
            .and_then(|command| encoded(&command))
            .map_err(unsent)?;
        request.extend(look);
        let sent = |error| Broken { error, sent: true };
        self.send(&request, deadline).map_err(sent)?;
        let change = changed(&self.line(deadline).map_err(sent)?).map_err(sent)?;
        let response = self.response(deadline).map_err(sent)?;
        Ok((change, item(response).map_err(sent)?))
    }

    /// Deletes the item with this number, or any.
    pub fn delete(
        &mut self,
        key: &[u8],
        cas: Option<u64>,
        deadline: BootTime,
    ) -> Exchange<ReturnCode> {
        let mut options = exp::DeleteOptions::default();
        options.compare_cas = cas;
        let command = exp::build_delete(key, &options).map_err(|error| unsent(trouble(error)))?;
        self.ask(&command, true, deadline)
            .map(|response| response.rc)
    }

    fn ask(
        &mut self,
        command: &MetaCommand,
        changes: bool,
        deadline: BootTime,
    ) -> Exchange<Response> {
        let broken = |error| Broken {
            error,
            sent: changes,
        };
        let request = encoded(command).map_err(unsent)?;
        self.send(&request, deadline).map_err(broken)?;
        self.response(deadline).map_err(broken)
    }

    fn send(&mut self, request: &[u8], deadline: BootTime) -> Result<()> {
        let mut sent = 0;
        self.socket
            .send(request, deadline, &mut sent)
            .map_err(|error| failed(&error))
    }

    /// The next line, without its end.
    fn line(&mut self, deadline: BootTime) -> Result<Vec<u8>> {
        loop {
            if let Some(line) = take_line(&mut self.buffer)? {
                return Ok(line);
            }
            self.receive(deadline)?;
        }
    }

    fn response(&mut self, deadline: BootTime) -> Result<Response> {
        loop {
            if let Some(response) = take_response(&mut self.buffer)? {
                return Ok(response);
            }
            self.receive(deadline)?;
        }
    }

    fn receive(&mut self, deadline: BootTime) -> Result<()> {
        // A server that always has more to say must not outlast the caller's time either.
        if deadline.has_passed() {
            return Err(failed(&io::ErrorKind::TimedOut.into()));
        }
        let mut chunk = [0u8; 4096];
        match self.socket.receive(&mut chunk, deadline) {
            Ok(0) => Err(failed(&io::ErrorKind::UnexpectedEof.into())),
            Ok(got) => {
                self.buffer
                    .extend_from_slice(chunk.get(..got).unwrap_or_default());
                Ok(())
            }
            Err(error) => Err(failed(&error)),
        }
    }
}

fn unsent(error: Error) -> Broken {
    Broken { error, sent: false }
}

fn get(key: &[u8]) -> Result<MetaCommand> {
    let mut options = exp::GetOptions::default();
    options.return_cas = true;
    options.return_ttl = true;
    exp::build_get(key, &options).map_err(trouble)
}

fn encoded(command: &MetaCommand) -> Result<Vec<u8>> {
    command.encode().map_err(trouble)
}

/// The answer to a meta command.
#[derive(Debug)]
pub(super) struct Response {
    rc: ReturnCode,
    cas: Option<u64>,
    ttl: Option<i64>,
    value: Vec<u8>,
}

/// Takes a line out, if there is a whole one.
pub(super) fn take_line(buffer: &mut Vec<u8>) -> Result<Option<Vec<u8>>> {
    let Some(end) = buffer
        .iter()
        .take(LONGEST_LINE)
        .position(|byte| *byte == b'\n')
    else {
        return if buffer.len() >= LONGEST_LINE {
            Err(protocol("a line without end"))
        } else {
            Ok(None)
        };
    };
    let mut line: Vec<u8> = buffer.drain(..=end).collect();
    line.pop();
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Some(line))
}

/// Takes the answer to a meta command out, if it is whole.
pub(super) fn take_response(buffer: &mut Vec<u8>) -> Result<Option<Response>> {
    let Some(end) = buffer
        .iter()
        .take(LONGEST_LINE)
        .position(|byte| *byte == b'\n')
    else {
        return take_line(buffer).map(|_| None);
    };
    // The library does not tell the length that it has read.
    let line = buffer.get(..end).unwrap_or_default();
    let length = line
        .strip_prefix(b"VA ")
        .and_then(|rest| rest.split(|byte| !byte.is_ascii_digit()).next())
        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > LONGEST) && !cfg!(canary = "trusts_length") {
        return Err(protocol("an item of over a mebibyte"));
    }
    let whole = end + 1 + length.map_or(0, |length| length + 2);
    if buffer.len() < whole {
        return Ok(None);
    }
    let Some(line) = take_line(buffer)? else {
        return Ok(None);
    };
    let header = MetaResponse::parse_header(&line).map_err(trouble)?;
    let result = exp::parse_meta_result(header).map_err(trouble)?;
    let mut value: Vec<u8> = match length {
        Some(length) => buffer.drain(..length + 2).collect(),
        None => Vec::new(),
    };
    if length.is_some() && !value.ends_with(b"\r\n") {
        return Err(protocol("an item without an end"));
    }
    value.truncate(length.unwrap_or(0));
    Ok(Some(Response {
        rc: result.rc,
        cas: result.cas,
        ttl: result.ttl,
        value,
    }))
}

pub(super) fn item(response: Response) -> Result<Option<Item>> {
    match (response.rc, response.cas, response.ttl) {
        (ReturnCode::En, ..) => Ok(None),
        (ReturnCode::Va, Some(cas), Some(ttl)) => Ok(Some(Item {
            value: response.value,
            cas,
            left: u64::try_from(ttl).ok().map(Duration::from_secs),
        })),
        _ => Err(protocol("an odd answer to `mg`")),
    }
}

pub(super) fn changed(line: &[u8]) -> Result<Change> {
    match line {
        b"STORED" => Ok(Change::Made),
        b"NOT_STORED" | b"EXISTS" | b"NOT_FOUND" => Ok(Change::Refused),
        _ if line.starts_with(b"SERVER_ERROR ") => Ok(Change::Failed(refusal(
            &String::from_utf8_lossy(line.strip_prefix(b"SERVER_ERROR ").unwrap_or_default()),
        ))),
        _ => match MetaResponse::parse_header(line) {
            Err(error) => Err(trouble(error)),
            Ok(_) => Err(protocol("an odd answer to a change")),
        },
    }
}

fn protocol(words: &str) -> Error {
    Error::new(
        Code::Protocol,
        format!("the server answered what is no reply of memcached: {words}"),
    )
}

fn failed(error: &io::Error) -> Error {
    let words = match error.kind() {
        io::ErrorKind::TimedOut => "the server did not answer in time".to_owned(),
        io::ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
        _ => format!("the connection failed: {error}"),
    };
    Error::new(Code::Unavailable, words)
}

/// `SERVER_ERROR`, in its words.
fn refusal(words: &str) -> Error {
    let what = if words.contains("out of memory") {
        "the server is out of memory"
    } else {
        "the server cannot serve now"
    };
    Error::new(
        Code::Unavailable,
        format!("{what} ({})", crate::error::printable(words.as_bytes())),
    )
}

/// What the library says, in our codes; it sends and receives nothing itself.
fn trouble(error: exp::Error) -> Error {
    match error {
        exp::Error::Server(words) => refusal(&words),
        exp::Error::Rejected(words) if words.contains("unauthenticated") => {
            Error::new(Code::Permission, "the server wants a user and a password")
        }
        exp::Error::Rejected(words) if words == "ERROR" => {
            Error::unsupported("the server lacks the meta commands of memcached 1.6")
        }
        exp::Error::Rejected(words) => protocol(&crate::error::printable(words.as_bytes())),
        exp::Error::Usage(words) => Error::invalid(words),
        other => protocol(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_whole() {
        let mut buffer = b"VA 3 c7 t-1\r\na\nb\r\nEN\r\nHD".to_vec();
        let first = item(take_response(&mut buffer).unwrap().unwrap())
            .unwrap()
            .unwrap();
        assert_eq!(
            (first.value.as_slice(), first.cas, first.left),
            (&b"a\nb"[..], 7, None)
        );
        assert!(
            item(take_response(&mut buffer).unwrap().unwrap())
                .unwrap()
                .is_none()
        );
        assert!(take_response(&mut buffer).unwrap().is_none());
        for part in 0..b"VA 3 c7 t5\r\nabc\r\n".len() {
            let mut buffer = b"VA 3 c7 t5\r\nabc\r\n"[..part].to_vec();
            assert!(take_response(&mut buffer).unwrap().is_none(), "{part}");
        }
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for text in [
            &b"VA 99999999 c1 t1\r\n"[..],
            b"VA 1 c1 t1\r\nabc\r\n",
            b"VA x\r\n",
            b"\r\n",
            &[b'x'; LONGEST_LINE],
        ] {
            assert!(take_response(&mut text.to_vec()).is_err(), "{text:?}");
        }
        let code = |line: &[u8]| changed(line).unwrap_err().code();
        assert_eq!(code(b"CLIENT_ERROR unauthenticated"), Code::Permission);
        assert_eq!(code(b"ERROR"), Code::Unsupported);
        assert_eq!(code(b"VA 1"), Code::Protocol);
        assert!(matches!(
            changed(b"SERVER_ERROR out of memory"),
            Ok(Change::Failed(_))
        ));
    }
}
