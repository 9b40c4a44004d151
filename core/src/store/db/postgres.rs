//! One session on PostgreSQL.

mod answer;
mod login;
#[cfg(feature = "fuzz")]
mod noise;
mod wire;

use super::config::Config;
use super::fault::Fault;
use super::{Notice, Rows, Value};
use crate::lease::BootTime;
use crate::store::net::Stream;
use crate::{Code, Error, Result};
use answer::{Answer, note};
use bytes::BufMut;
#[cfg(feature = "fuzz")]
pub use noise::read_noise;
use postgres_protocol::IsNull;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::RawFd;
use wire::{Wire, unfit};

type Done<T> = std::result::Result<T, Fault>;

/// Statements that a session keeps prepared.
const MOST_PREPARED: usize = 64;
/// A prepared statement.
#[derive(Clone, Debug)]
struct Prepared {
    name: String,
    /// Which columns are `bytea`; known once the server has described it.
    binary: Vec<bool>,
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
    /// Goes before each statement, in its transaction and in the same message.
    before: Option<&'static str>,
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
            before: None,
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

    /// From now on this statement goes before each other one, in the same transaction.
    pub fn put_before_each(&mut self, sql: &'static str) {
        self.before = Some(sql);
    }

    fn is_fit(&self) -> Done<()> {
        if self.broken || self.sent.is_some() {
            let words = "the connection is of no use any more";
            return Err(Fault::dead(Error::new(Code::Unavailable, words)));
        }
        Ok(())
    }

    fn put_together(&mut self, sql: &str, params: &[Value<'_>]) -> io::Result<()> {
        self.wire.begin();
        let out = &mut self.wire.out;
        out.clear();
        self.answer = Answer::default();
        if let Some(sql) = self.before {
            frontend::parse("", sql, [], out)?;
            frontend::bind("", "", [], [], |(): (), _| Ok(IsNull::Yes), [], out)
                .map_err(|_| io::ErrorKind::InvalidInput)?;
            frontend::execute("", 0, out)?;
            self.answer.skip = 1;
        }
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
        let done = self
            .answer
            .take_in(message, self.wire.weight(), &mut self.notices);
        if done.is_err() {
            // No more will come, or nothing that is believed.
            self.broken = true;
            self.sent = None;
        }
        done
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
        self.wire.begin();
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
        self.wire.begin();
        loop {
            match self.wire.next_now() {
                Ok(None) => return !self.wire.has_more(),
                Ok(Some(Message::NotificationResponse(body))) => note(&mut self.notices, &body),
                Ok(Some(Message::NoticeResponse(_) | Message::ParameterStatus(_))) => {}
                Ok(Some(_)) | Err(_) => {
                    self.broken = true;
                    return false;
                }
            }
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
