//! One session on PostgreSQL.

mod login;
mod wire;

use super::config::Config;
use super::fault::Fault;
use super::rows::odd;
use super::{Notice, Row, Rows, Value};
use crate::lease::BootTime;
use crate::store::net::Stream;
use crate::{Code, Error, Result};
use bytes::BufMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::IsNull;
use postgres_protocol::message::backend::{
    DataRowBody, ErrorFields, Message, NotificationResponseBody, RowDescriptionBody,
};
use postgres_protocol::message::frontend;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::RawFd;
use wire::{Wire, nonsense, unfit};

type Done<T> = std::result::Result<T, Fault>;

/// The type of `bytea`, whose text form is not its bytes.
const BYTEA: u32 = 17;
/// Statements that a session keeps prepared.
const MOST_PREPARED: usize = 64;
/// Notices that are kept for whoever listens.
const MOST_NOTICES: usize = 10_000;

/// A prepared statement.
#[derive(Clone, Debug)]
struct Prepared {
    name: String,
    /// Which columns are `bytea`; known once the server has described it.
    binary: Vec<bool>,
}

/// What has come of an answer so far.
#[derive(Debug, Default)]
struct Answer {
    rows: Rows,
    binary: Vec<bool>,
    /// The server keeps the statement from here on, even if it fails.
    prepared: bool,
    fault: Option<Fault>,
}

#[derive(Debug)]
pub(in crate::store) struct Postgres {
    wire: Wire,
    pid: i64,
    version: String,
    notices: Vec<Notice>,
    prepared: HashMap<String, Prepared>,
    /// Poolers hand statements of one client to sessions of others.
    prepares: bool,
    /// What was sent last, until its answer is complete: text, and name if it is being prepared.
    sent: Option<(String, Option<String>)>,
    answer: Answer,
    /// Nothing may be asked over it any more.
    broken: bool,
}

impl Postgres {
    pub fn open(config: &Config, deadline: BootTime) -> Result<Self> {
        let mut stream = Stream::connect(&config.address, config.connect_timeout, deadline)?;
        config.cautions.add(stream.take_words());
        if let Some(options) = &config.tls {
            login::ask_for_tls(&mut stream, deadline)?;
            stream = stream.secure(&config.address, options, deadline)?;
        }
        let mut wire = Wire::new(stream);
        let (pid, version) =
            login::log_in(&mut wire, config, deadline).map_err(Fault::before_any_statement)?;
        Ok(Postgres {
            wire,
            pid,
            version,
            notices: Vec::new(),
            prepared: HashMap::new(),
            prepares: true,
            sent: None,
            answer: Answer::default(),
            broken: false,
        })
    }

    pub fn start(&mut self, sql: &str, params: &[Value<'_>], deadline: BootTime) -> Done<()> {
        self.is_fit()?;
        let put = self.put_together(sql, params);
        let done = put
            .map_err(|error| Fault {
                usable: true,
                ..Fault::dead(unfit(&error))
            })
            .and_then(|()| {
                let done = self.wire.flush(deadline);
                self.broken |= done.is_err();
                done
            });
        if done.is_err() {
            self.sent = None;
        }
        self.wire.out.clear();
        done
    }

    fn is_fit(&self) -> Done<()> {
        if self.broken || self.sent.is_some() {
            let words = "the connection is of no use any more";
            return Err(Fault::dead(Error::new(Code::Unavailable, words)));
        }
        Ok(())
    }

    fn put_together(&mut self, sql: &str, params: &[Value<'_>]) -> io::Result<()> {
        let out = &mut self.wire.out;
        out.clear();
        self.answer = Answer::default();
        let (name, fresh) = match self.prepared.get(sql) {
            Some(known) => {
                self.answer.binary.clone_from(&known.binary);
                (known.name.clone(), false)
            }
            None if self.prepares && self.prepared.len() < MOST_PREPARED => (name_of(sql), true),
            None => (String::new(), true),
        };
        if fresh {
            frontend::parse(&name, sql, [], out)?;
            frontend::describe(b'S', &name, out)?;
        }
        let formats = params
            .iter()
            .map(|value| i16::from(matches!(value, Value::Bytes(_))));
        frontend::bind("", &name, formats, params, put_value, [], out).map_err(
            |error| match error {
                frontend::BindError::Conversion(_) => io::ErrorKind::InvalidInput.into(),
                frontend::BindError::Serialization(error) => error,
            },
        )?;
        frontend::execute("", 0, out)?;
        frontend::sync(out);
        self.sent = Some((
            sql.to_owned(),
            Some(name).filter(|name| fresh && !name.is_empty()),
        ));
        Ok(())
    }

    pub fn finish(&mut self, deadline: BootTime) -> Done<Rows> {
        loop {
            let message = self
                .wire
                .next(deadline)
                .inspect_err(|fault| self.broken = !fault.late)?;
            if self.take_in(message)? {
                return self.conclude();
            }
        }
    }

    pub fn finish_now(&mut self) -> Done<Option<Rows>> {
        loop {
            let message = self
                .wire
                .next_now()
                .inspect_err(|fault| self.broken = !fault.late)?;
            match message {
                None => return Ok(None),
                Some(message) => {
                    if self.take_in(message)? {
                        return self.conclude().map(Some);
                    }
                }
            }
        }
    }

    /// Takes one message of an answer in; whether it was the last.
    fn take_in(&mut self, message: Message) -> Done<bool> {
        match message {
            Message::ReadyForQuery(_) => return Ok(true),
            Message::RowDescription(body) => {
                self.answer.binary = binary_columns(&body).map_err(|error| self.fail(&error))?;
            }
            Message::DataRow(body) => {
                let row = row(&body, &self.answer.binary).map_err(|error| self.fail(&error))?;
                self.answer.rows.rows.push(row);
            }
            Message::CommandComplete(body) => {
                let tag = body.tag().map_err(|error| self.fail(&error))?;
                let count = tag.rsplit(' ').next().and_then(|count| count.parse().ok());
                self.answer.rows.affected = count.unwrap_or(0);
            }
            Message::ErrorResponse(body) => {
                let fault = said(body.fields(), true);
                if !fault.usable {
                    // No more will come.
                    self.broken = true;
                    self.sent = None;
                    return Err(fault);
                }
                self.answer.fault.get_or_insert(fault);
            }
            Message::NotificationResponse(body) => self.note(&body),
            Message::ParseComplete => self.answer.prepared = true,
            Message::BindComplete
            | Message::NoData
            | Message::ParameterDescription(_)
            | Message::ParameterStatus(_)
            | Message::NoticeResponse(_)
            | Message::EmptyQueryResponse => {}
            _ => {
                self.broken = true;
                return Err(out_of_turn());
            }
        }
        Ok(false)
    }

    fn fail(&mut self, error: &io::Error) -> Fault {
        self.broken = true;
        nonsense(error)
    }

    /// The answer is complete.
    fn conclude(&mut self) -> Done<Rows> {
        let answer = std::mem::take(&mut self.answer);
        let (sql, fresh) = self.sent.take().unwrap_or_default();
        if let Some(name) = fresh.filter(|_| answer.prepared) {
            let binary = answer.binary;
            self.prepared.insert(sql, Prepared { name, binary });
        }
        let Some(fault) = answer.fault else {
            return Ok(answer.rows);
        };
        // Prepared in another session than this, or known there already: a pooler stands between.
        if fault.is_of_another_session() {
            self.prepares = false;
            self.prepared.clear();
        }
        Err(fault)
    }

    /// Several statements, as one transaction unless they say otherwise.
    pub fn batch(&mut self, statements: &[&str], deadline: BootTime) -> Done<()> {
        self.is_fit()?;
        self.answer = Answer::default();
        frontend::query(&statements.join(";"), &mut self.wire.out)
            .map_err(|error| Fault::dead(unfit(&error)))?;
        self.sent = Some((String::new(), None));
        self.wire
            .flush(deadline)
            .inspect_err(|_| self.broken = true)?;
        self.finish(deadline).map(drop)
    }

    pub fn is_quiet(&mut self) -> bool {
        if self.broken || self.sent.is_some() {
            return false;
        }
        loop {
            match self.wire.next_now() {
                Ok(None) => return !self.wire.has_more(),
                Ok(Some(Message::NotificationResponse(body))) => self.note(&body),
                Ok(Some(Message::NoticeResponse(_) | Message::ParameterStatus(_))) => {}
                Ok(Some(_)) | Err(_) => {
                    self.broken = true;
                    return false;
                }
            }
        }
    }

    fn note(&mut self, body: &NotificationResponseBody) {
        if let (Ok(channel), Ok(payload)) = (body.channel(), body.message())
            && self.notices.len() < MOST_NOTICES
        {
            self.notices.push(Notice {
                channel: channel.to_owned(),
                payload: payload.to_owned(),
            });
        }
    }

    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    pub fn session(&self) -> i64 {
        self.pid
    }

    pub fn version(&self) -> &str {
        &self.version
    }

    pub fn fd(&self) -> RawFd {
        self.wire.fd()
    }
}

/// A name of a statement that no other statement has: behind a pooler, one client's may be found by
/// another's.
fn name_of(sql: &str) -> String {
    let mut hasher = DefaultHasher::new();
    sql.hash(&mut hasher);
    format!("synlock_{:016x}", hasher.finish())
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if !self.broken && self.sent.is_none() {
            self.wire.out.clear();
            frontend::terminate(&mut self.wire.out);
            let words = self.wire.out.split();
            self.wire.part(&words);
        }
    }
}

fn out_of_turn() -> Fault {
    Fault::dead(odd("a message out of its turn"))
}

fn said(mut fields: ErrorFields<'_>, quote: bool) -> Fault {
    let (mut state, mut message, mut fatal) = (String::new(), Vec::new(), false);
    while let Ok(Some(field)) = fields.next() {
        let value = field.value_bytes();
        match field.type_() {
            b'C' => state = String::from_utf8_lossy(value).into_owned(),
            b'M' => message = value.to_vec(),
            b'V' => fatal = value != b"ERROR",
            _ => {}
        }
    }
    // Letters and digits, and no more of them than a state has.
    state.retain(|letter| letter.is_ascii_alphanumeric());
    state.truncate(5);
    Fault::of_postgres(&state, fatal, &message, quote)
}

fn put_value(
    value: &Value<'_>,
    out: &mut bytes::BytesMut,
) -> std::result::Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
    match value {
        Value::Null => return Ok(IsNull::Yes),
        Value::Int(number) => out.put_slice(number.to_string().as_bytes()),
        Value::Text(text) => out.put_slice(text.as_bytes()),
        Value::Bytes(bytes) => out.put_slice(bytes),
    }
    Ok(IsNull::No)
}

fn binary_columns(body: &RowDescriptionBody) -> io::Result<Vec<bool>> {
    body.fields()
        .map(|field| Ok(field.type_oid() == BYTEA))
        .collect()
}

fn row(body: &DataRowBody, binary: &[bool]) -> io::Result<Row> {
    let buffer = body.buffer();
    let mut fields = Vec::new();
    let mut ranges = body.ranges();
    while let Some(range) = ranges.next()? {
        let is_binary = binary.get(fields.len()).copied().unwrap_or(false);
        let field = range.map(|range| buffer.get(range).unwrap_or_default());
        fields.push(match field {
            Some(text) if is_binary => Some(unhex(text).ok_or(io::ErrorKind::InvalidData)?),
            other => other.map(<[u8]>::to_vec),
        });
    }
    Ok(Row(fields))
}

/// `\x0a0b`.
fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.strip_prefix(b"\\x")?;
    let digit = |byte: u8| char::from(byte).to_digit(16);
    digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(*high)? * 16 + digit(*low)?).ok(),
            _ => None,
        })
        .collect()
}
