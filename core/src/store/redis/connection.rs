//! One connection: set-up, one exchange at a time. Whoever gets an error drops it.

use super::config::{Config, Place};
use super::frame;
use super::lives;
use super::nodes::Node;
use super::owing::Owing;
use crate::codes::Code;
use crate::lease::BootTime;
use crate::secret::Secret;
use crate::store::net::Stream;
use crate::{Error, Result};
use redis::{ServerError, Value};
use std::io;
use std::os::fd::RawFd;

#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    /// What has arrived, and what it is received into.
    buffer: Vec<u8>,
    chunk: Box<[u8]>,
    /// Which server it leads to.
    pub node: Node,
    /// What the server said of itself, if it was asked.
    pub info: Option<String>,
    /// A life of the server's that its counters have not begun with, and the key that says so.
    pub new_life: Option<(Vec<u8>, String)>,
    /// Number of the connection on the server, so that another one can end it there.
    pub id: Option<i64>,
    /// Nothing has been asked on it yet.
    pub is_new: bool,
    /// It leads to a replica, or to a server whose counters could not be raised: to be used once.
    is_outlived: bool,
    /// Why nothing can be granted on it.
    refusal: Option<ServerError>,
    /// Replies that come before any other.
    pub owing: Owing,
    /// A request went out whole, and its first reply has not come.
    awaits_reply: bool,
}

/// How much is received at once.
const CHUNK: usize = 4096;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Server,
    /// A server that is also asked what it is like.
    First,
    /// A server where nothing is granted on it.
    Listener,
    Sentinel,
}

/// An exchange that failed, and whether the server may have got the request.
#[derive(Debug)]
pub(super) struct Broken {
    pub error: Error,
    pub sent: bool,
}

/// A command in the protocol's own form.
pub(super) fn pack(words: &[&[u8]]) -> Vec<u8> {
    let size = words.iter().map(|word| word.len()).sum();
    let mut command = redis::Cmd::with_capacity(words.len(), size);
    for word in words {
        command.arg(*word);
    }
    command.get_packed_command()
}

impl Connection {
    /// Connects, authenticates, selects the database.
    pub fn open(config: &Config, node: &Node, kind: Kind, deadline: BootTime) -> Result<Self> {
        let mut stream = Stream::connect(node, config.connect_timeout, deadline)?;
        if let Some(tls) = &config.tls {
            stream = stream.secure(node, tls, deadline)?;
        }
        let mut connection = Connection {
            stream,
            buffer: Vec::new(),
            chunk: vec![0; CHUNK].into_boxed_slice(),
            node: node.clone(),
            info: None,
            new_life: None,
            id: None,
            is_new: true,
            is_outlived: false,
            refusal: None,
            owing: Owing::default(),
            awaits_reply: false,
        };
        connection.log_in(config, kind, deadline)?;
        Ok(connection)
    }

    fn log_in(&mut self, config: &Config, kind: Kind, deadline: BootTime) -> Result<()> {
        let at_sentinel = kind == Kind::Sentinel;
        let (user, password) = if at_sentinel {
            (&config.sentinel_user, &config.sentinel_password)
        } else {
            (&config.user, &config.password)
        };
        let mut request = Vec::new();
        let mut steps = 0;
        if let Some(password) = password {
            let user = user.as_ref().map(Secret::reveal);
            let words: Vec<&[u8]> = [Some("AUTH"), user, Some(password.reveal())]
                .into_iter()
                .flatten()
                .map(str::as_bytes)
                .collect();
            request.extend(pack(&words));
            steps += 1;
        }
        if config.database != 0 && !at_sentinel {
            let number = config.database.to_string();
            request.extend(pack(&[b"SELECT", number.as_bytes()]));
            steps += 1;
        }
        // A replica must not be written to, nor believed: sentinels may be late.
        let asks_role = matches!(config.place, Place::Sentinel { .. }) && !at_sentinel;
        if asks_role {
            request.extend(pack(&[b"ROLE"]));
        }
        let grants = matches!(kind, Kind::Server | Kind::First);
        let life = if grants { lives::key(config) } else { None };
        if kind == Kind::First {
            request.extend(pack(&[b"INFO", b"default"]));
        } else if life.is_some() {
            request.extend(pack(&[b"INFO", b"replication"]));
        }
        if let Some(key) = &life {
            request.extend(pack(&[b"GET", key]));
        }
        // For whoever looks at CLIENT LIST.
        let name = format!("synlock-{}", std::process::id());
        request.extend(pack(&[b"CLIENT", b"SETNAME", name.as_bytes()]));
        request.extend(pack(&[b"CLIENT", b"ID"]));
        let mut sent = 0;
        self.stream
            .send(&request, deadline, &mut sent)
            .map_err(|error| trouble(&error))?;
        for _ in 0..steps {
            match self.reply(deadline)? {
                // Some servers repeat what they did not understand, the password for instance.
                Value::ServerError(error) => return Err(map_error(&error, false)),
                Value::Array(_) => return Err(protocol("an odd answer to the login")),
                _ => {}
            }
        }
        if asks_role {
            self.check_role(deadline)?;
        }
        if kind == Kind::First || life.is_some() {
            self.read_info(life, deadline)?;
        }
        // Not every server lets its clients have a name, or ask for their number.
        self.reply(deadline)?;
        match self.reply(deadline)? {
            Value::Int(id) => self.id = Some(id),
            Value::ServerError(error) if error.code() == "NOAUTH" => {
                return Err(map_error(&error, true));
            }
            _ => {}
        }
        Ok(())
    }

    /// What the server says of itself, and in which of its lives its counters are.
    fn read_info(&mut self, life: Option<Vec<u8>>, deadline: BootTime) -> Result<()> {
        if let Value::BulkString(text) = self.reply(deadline)? {
            self.info = Some(String::from_utf8_lossy(&text).into_owned());
        }
        let Some(key) = life else { return Ok(()) };
        let known = match self.reply(deadline)? {
            Value::BulkString(known) => known,
            Value::Nil => Vec::new(),
            Value::ServerError(error) if lives::is_refused_now(&error) => {
                return Err(map_error(&error, true));
            }
            _ => return Ok(()),
        };
        let info = self.info.as_deref().unwrap_or_default();
        if lives::is_replica(info) {
            // Its counters are its master's.
            self.is_outlived = true;
            return Ok(());
        }
        let is_new = |id: &&str| id.as_bytes() != known;
        self.new_life = lives::id(info)
            .filter(is_new)
            .map(|id| (key, id.to_owned()));
        Ok(())
    }

    /// Refuses a server that is no master. One that does not tell refuses to write, if it is none.
    fn check_role(&mut self, deadline: BootTime) -> Result<()> {
        if let Value::Array(parts) = self.reply(deadline)?
            && let Some(Value::BulkString(role)) = parts.first()
            && role != b"master"
            && !cfg!(canary = "any_role")
        {
            return Err(Error::new(
                Code::Unavailable,
                "the server is a replica, and no master",
            ));
        }
        Ok(())
    }

    pub fn fd(&self) -> RawFd {
        self.stream.fd()
    }

    /// Whether it is open and nothing has arrived that nobody asked for.
    pub fn is_quiet(&mut self) -> bool {
        !self.is_outlived && matches!(self.reply_now(), Ok(None)) && self.buffer.is_empty()
    }

    /// Sends `request`, and reads what is owed and its own first reply.
    pub fn exchange(
        &mut self,
        request: &[u8],
        deadline: BootTime,
    ) -> std::result::Result<Value, Broken> {
        let mut sent = 0;
        self.awaits_reply = false;
        if let Err(error) = self.stream.send(request, deadline, &mut sent) {
            return Err(Broken {
                error: trouble(&error),
                sent: sent > 0,
            });
        }
        self.awaits_reply = true;
        let reply = self
            .pay(deadline)
            .and_then(|()| self.reply(deadline))
            .map_err(|error| Broken { error, sent: true })?;
        self.awaits_reply = false;
        Ok(reply)
    }

    /// Whether it is not to be asked again.
    pub fn is_outlived(&self) -> bool {
        self.is_outlived
    }

    /// Nothing can be granted on it, for this reason.
    pub fn refuse(&mut self, reason: ServerError) {
        (self.is_outlived, self.refusal) = (true, Some(reason));
    }

    /// What the server would answer to a request that may grant something, if it would only refuse it.
    pub fn refusal(&mut self) -> Option<Value> {
        self.refusal.take().map(Value::ServerError)
    }

    /// Whether that is all that is missing of the last exchange.
    pub fn awaits_reply(&self) -> bool {
        self.awaits_reply
    }

    /// Words about the server's address, once.
    pub fn take_words(&mut self) -> Option<String> {
        self.stream.take_words()
    }

    /// Sends what goes out without blocking.
    pub fn send_now(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.send_now(bytes)
    }

    /// Sends without waiting for an answer.
    pub fn send(&mut self, request: &[u8], deadline: BootTime) -> Result<()> {
        let mut sent = 0;
        self.stream
            .send(request, deadline, &mut sent)
            .map_err(|error| trouble(&error))
    }

    /// The next reply.
    pub fn reply(&mut self, deadline: BootTime) -> Result<Value> {
        loop {
            if let Some(value) = self.buffered()? {
                return Ok(value);
            }
            let got = self
                .stream
                .receive(&mut self.chunk, deadline)
                .map_err(|error| trouble(&error))?;
            self.take_in(got)?;
            // A server that always has more to say must not outlast the caller's time either.
            if deadline.has_passed() && frame::length(&self.buffer)?.is_none() {
                return Err(trouble(&io::ErrorKind::TimedOut.into()));
            }
        }
    }

    /// The next reply if it has arrived.
    pub fn reply_now(&mut self) -> Result<Option<Value>> {
        self.next_reply(&mut true)
    }

    /// The same for whoever comes for all; `more` is false once the socket has been found empty.
    pub fn next_reply(&mut self, more: &mut bool) -> Result<Option<Value>> {
        loop {
            if let Some(value) = self.buffered()? {
                return Ok(Some(value));
            }
            if !*more {
                return Ok(None);
            }
            match self
                .stream
                .receive_now(&mut self.chunk)
                .map_err(|error| trouble(&error))?
            {
                None => return Ok(None),
                Some(got) => {
                    *more = got == self.chunk.len();
                    self.take_in(got)?;
                }
            }
        }
    }

    fn take_in(&mut self, got: usize) -> Result<()> {
        if got == 0 {
            return Err(trouble(&io::ErrorKind::UnexpectedEof.into()));
        }
        self.buffer
            .extend_from_slice(self.chunk.get(..got).unwrap_or_default());
        if self.buffer.len() > frame::LONGEST + CHUNK {
            return Err(protocol("a reply of over 16 MiB"));
        }
        Ok(())
    }

    fn buffered(&mut self) -> Result<Option<Value>> {
        let found = frame::take(&mut self.buffer)?;
        if let Some(Value::ServerError(error)) = &found {
            self.is_outlived |= says(error, "READONLY") && !cfg!(canary = "keep_replica");
        }
        Ok(found)
    }
}

pub(super) fn protocol(words: &str) -> Error {
    Error::new(
        Code::Protocol,
        format!("the server answered what is no reply of Redis: {words}"),
    )
}

fn trouble(error: &io::Error) -> Error {
    let words = match error.kind() {
        io::ErrorKind::TimedOut => "the server did not answer in time".to_owned(),
        io::ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
        _ => format!("the connection failed: {error}"),
    };
    Error::new(Code::Unavailable, words)
}

/// Whether it has this code; servers before 7 quote what a script met.
pub(super) fn says(error: &ServerError, code: &str) -> bool {
    let quotes = |details: &str| details.contains(&format!("-{code} "));
    error.code() == code || error.details().is_some_and(quotes)
}

/// Turns an error reply into an error.
pub(super) fn check(value: Value) -> Result<Value> {
    match value {
        Value::ServerError(error) => Err(map_error(&error, true)),
        value => Ok(value),
    }
}

/// What an error reply means; never `Busy`, which is an answer about a lock. `quote` repeats the
/// server's own words.
pub(super) fn map_error(error: &ServerError, quote: bool) -> Error {
    let (kind, detail) = (
        error.code().to_owned(),
        error.details().unwrap_or_default().to_owned(),
    );
    let text = format!("{kind} {detail}");
    let (code, words) = match kind.as_str() {
        "NOAUTH" => (Code::Permission, "the server wants a password"),
        "WRONGPASS" => (
            Code::Permission,
            "the server does not accept the user or password",
        ),
        "NOPERM" => (Code::Permission, "the server's rights do not allow this"),
        "WRONGTYPE" => (
            Code::Protocol,
            "something else than a lock stands at the key",
        ),
        "LOADING" => (Code::Unavailable, "the server is loading its data"),
        "READONLY" => (
            Code::Unavailable,
            "the server is read-only, a replica perhaps",
        ),
        "OOM" => (Code::Unavailable, "the server is out of memory"),
        "MISCONF" => (
            Code::Unavailable,
            "the server refuses writes because it cannot save",
        ),
        "BUSY" => (Code::Unavailable, "the server is busy with a script"),
        "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" => {
            (Code::Unavailable, "the server cannot serve now")
        }
        "MOVED" | "ASK" => (
            Code::Unsupported,
            "the server is part of a cluster: write redis+cluster:",
        ),
        "CROSSSLOT" => (
            Code::Unsupported,
            "the keys of this name are on several servers of the cluster",
        ),
        _ if text.contains("invalid password")
            || text.contains("without any password configured") =>
        {
            (Code::Permission, "the server does not accept the password")
        }
        _ if text.contains("max number of clients") => {
            (Code::Exhausted, "the server has no room for another client")
        }
        _ if text.contains("arithmetic on")
            || text.contains("nil value")
            || text.contains("not an integer") =>
        {
            (
                Code::Protocol,
                "something else than a lock stands at the key",
            )
        }
        _ => (Code::Protocol, "the server answered with an error"),
    };
    if !quote && !cfg!(canary = "quote_login") {
        return Error::new(code, words);
    }
    Error::new(
        code,
        format!("{words} ({})", crate::error::printable(text.as_bytes())),
    )
}
