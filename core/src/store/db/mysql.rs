//! One session on MySQL or MariaDB: the text protocol.

mod answer;
mod login;
#[cfg(feature = "fuzz")]
mod noise;
mod packets;

use super::config::Config;
use super::fault::Fault;
use super::{LONGEST, Notice, Rows, Value};
use crate::lease::BootTime;
use crate::store::net::Stream;
use crate::{Code, Error, Result};
use answer::{Answer, said};
#[cfg(feature = "fuzz")]
pub use noise::read_noise;
use packets::Packets;
use std::fmt::Write as _;
use std::os::fd::RawFd;

const QUERY: u8 = 3;
const QUIT: u8 = 1;

type Done<T> = std::result::Result<T, Fault>;

#[derive(Debug)]
pub(in crate::store) struct Mysql {
    packets: Packets,
    id: i64,
    version: String,
    awaits: bool,
    answer: Answer,
    broken: bool,
}

impl Mysql {
    pub fn open(config: &Config, deadline: BootTime) -> Result<Self> {
        let mut stream = Stream::connect(&config.address, config.connect_timeout, deadline)?;
        config.cautions.add(stream.take_words());
        let (packets, id, version) = login::log_in(Packets::new(stream), config, deadline)
            .map_err(Fault::before_any_statement)?;
        Ok(Mysql {
            packets,
            id,
            version,
            awaits: false,
            answer: Answer::default(),
            broken: false,
        })
    }

    pub fn start(&mut self, sql: &str, params: &[Value<'_>], deadline: BootTime) -> Done<()> {
        if self.broken || self.awaits {
            let words = "the connection is of no use any more";
            return Err(Fault::dead(Error::new(Code::Unavailable, words)));
        }
        let mut request = vec![QUERY];
        request.extend(interpolate(sql, params).as_bytes());
        if request.len() > LONGEST {
            return Err(Fault {
                usable: true,
                ..Fault::dead(Error::invalid("a statement of over 16 MiB"))
            });
        }
        self.packets.begin();
        self.answer = Answer::default();
        self.packets
            .send(&request, deadline)
            .inspect_err(|_| self.broken = true)?;
        self.awaits = true;
        Ok(())
    }

    pub fn finish(&mut self, deadline: BootTime) -> Done<Rows> {
        loop {
            let packet = self
                .packets
                .next(deadline)
                .inspect_err(|fault| self.broken = !fault.late)?;
            if let Some(rows) = self.take_in(&packet)? {
                return Ok(rows);
            }
        }
    }

    pub fn finish_now(&mut self) -> Done<Option<Rows>> {
        loop {
            let packet = self
                .packets
                .next_now()
                .inspect_err(|fault| self.broken = !fault.late)?;
            let Some(packet) = packet else {
                return Ok(None);
            };
            if let Some(rows) = self.take_in(&packet)? {
                return Ok(Some(rows));
            }
        }
    }

    pub fn batch(&mut self, statements: &[&str], deadline: BootTime) -> Done<()> {
        for statement in statements {
            self.start(statement, &[], deadline)?;
            self.finish(deadline)?;
        }
        Ok(())
    }

    /// Takes one packet of an answer in; the rows, if it was the last.
    fn take_in(&mut self, packet: &[u8]) -> Done<Option<Rows>> {
        let done = self.answer.take_in(packet, self.packets.weight());
        match &done {
            Ok(None) => {}
            Ok(Some(_)) => self.awaits = false,
            Err(fault) => {
                self.awaits = false;
                self.broken |= !fault.usable;
            }
        }
        done
    }

    pub fn is_quiet(&mut self) -> bool {
        if self.broken || self.awaits {
            return false;
        }
        // A server that ends a session sometimes says why.
        let quiet = matches!(self.packets.next_now(), Ok(None)) && !self.packets.has_more();
        self.broken |= !quiet;
        quiet
    }

    pub fn take_notices(&mut self) -> Vec<Notice> {
        Vec::new()
    }

    pub fn session(&self) -> i64 {
        self.id
    }

    pub fn version(&self) -> &str {
        &self.version
    }

    pub fn fd(&self) -> RawFd {
        self.packets.fd()
    }
}

impl Drop for Mysql {
    fn drop(&mut self) {
        if !self.broken && !self.awaits {
            self.packets.part(&[QUIT]);
        }
    }
}

/// Puts parameters in the place of `?`, as literals that mean the same in every `sql_mode`.
fn interpolate(sql: &str, params: &[Value<'_>]) -> String {
    let mut text = String::with_capacity(sql.len() + 64);
    let mut params = params.iter();
    for (index, part) in sql.split('?').enumerate() {
        if index > 0 {
            match params.next() {
                None | Some(Value::Null) => text.push_str("NULL"),
                Some(Value::Int(number)) => {
                    let _ = write!(text, "{number}");
                }
                Some(Value::Text(value)) => {
                    text.push_str("_utf8mb4 ");
                    put_hex(&mut text, value.as_bytes());
                }
                Some(Value::Bytes(value)) => put_hex(&mut text, value),
            }
        }
        text.push_str(part);
    }
    text
}

fn put_hex(text: &mut String, bytes: &[u8]) {
    text.push_str("x'");
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_literals_that_cannot_break_out() {
        let text = interpolate(
            "SELECT ?, ?, ?, ?",
            &[
                Value::Int(-7),
                Value::Null,
                Value::Text("a' OR '\\"),
                Value::Bytes(b"?\0"),
            ],
        );
        assert_eq!(
            text,
            "SELECT -7, NULL, _utf8mb4 x'6127204f5220275c', x'3f00'"
        );
    }
}
