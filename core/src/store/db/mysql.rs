//! One session on MySQL or MariaDB: the text protocol.

mod login;
mod packets;

use super::config::Config;
use super::fault::Fault;
use super::{LONGEST, Notice, Row, Rows, Value};
use crate::lease::BootTime;
use crate::store::net::Stream;
use crate::{Code, Error, Result};
use packets::{Packets, out_of_turn, short, take, take_length};
use std::fmt::Write as _;
use std::os::fd::RawFd;

const QUERY: u8 = 3;
const QUIT: u8 = 1;

type Done<T> = std::result::Result<T, Fault>;

/// Where the reader of an answer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Stage {
    #[default]
    Head,
    /// So many descriptions of columns are still to come, and then so wide rows.
    Columns {
        left: u64,
        width: usize,
    },
    EndOfColumns(usize),
    Rows(usize),
}

#[derive(Debug)]
pub(in crate::store) struct Mysql {
    packets: Packets,
    id: i64,
    version: String,
    awaits: bool,
    stage: Stage,
    rows: Rows,
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
            stage: Stage::Head,
            rows: Rows::default(),
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
        self.packets.sequence = 0;
        self.stage = Stage::Head;
        self.rows = Rows::default();
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
        let done = self.read_answer(packet);
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

    fn read_answer(&mut self, packet: &[u8]) -> Done<Option<Rows>> {
        let first = *packet.first().ok_or_else(|| short("an empty packet"))?;
        if first == 0xff {
            return Err(said(packet, true));
        }
        let is_end = first == 0xfe && packet.len() < 9;
        match self.stage {
            Stage::Head => {
                if first == 0 {
                    let mut rest = packet.get(1..).unwrap_or_default();
                    let parts = (take_length(&mut rest), take_length(&mut rest));
                    let (Some(affected), Some(last_id)) = parts else {
                        return Err(short("an OK"));
                    };
                    return Ok(Some(Rows {
                        affected,
                        last_id,
                        ..Rows::default()
                    }));
                }
                // 0xfb: the server wants a file of ours, which it does not get.
                let mut rest = packet;
                let width = take_length(&mut rest).filter(|width| (1..4096).contains(width));
                let width = width.ok_or_else(out_of_turn)?;
                self.stage = Stage::Columns {
                    left: width,
                    width: usize::try_from(width).unwrap_or(0),
                };
            }
            Stage::Columns { left: 1, width } => self.stage = Stage::EndOfColumns(width),
            Stage::Columns { left, width } => {
                self.stage = Stage::Columns {
                    left: left - 1,
                    width,
                };
            }
            Stage::EndOfColumns(width) if is_end => self.stage = Stage::Rows(width),
            Stage::Rows(_) if is_end => {
                let mut rows = std::mem::take(&mut self.rows);
                rows.affected = rows.rows.len() as u64;
                return Ok(Some(rows));
            }
            Stage::Rows(width) => {
                let row = row(packet, width).ok_or_else(|| short("a row"))?;
                self.rows.rows.push(row);
            }
            Stage::EndOfColumns(_) => return Err(out_of_turn()),
        }
        Ok(None)
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

fn row(packet: &[u8], width: usize) -> Option<Row> {
    let mut rest = packet;
    let mut fields = Vec::with_capacity(width);
    for _ in 0..width {
        if rest.first() == Some(&0xfb) {
            take(&mut rest, 1)?;
            fields.push(None);
        } else {
            let length = usize::try_from(take_length(&mut rest)?).ok()?;
            fields.push(Some(take(&mut rest, length)?.to_vec()));
        }
    }
    rest.is_empty().then_some(Row(fields))
}

/// An error packet.
fn said(packet: &[u8], quote: bool) -> Fault {
    let number = match packet {
        [_, low, high, ..] => u16::from_le_bytes([*low, *high]),
        _ => 0,
    };
    let rest = packet.get(3..).unwrap_or_default();
    let (state, message) = match rest {
        [b'#', state @ ..] if state.len() >= 5 => state.split_at(5),
        // Before the login, there is none.
        rest => (&b"HY000"[..], rest),
    };
    let mut state = String::from_utf8_lossy(state).into_owned();
    state.retain(|letter| letter.is_ascii_alphanumeric());
    Fault::of_mysql(number, &state, message, quote)
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

    #[test]
    fn lengths_and_texts_that_lie_are_no_rows() {
        assert_eq!(
            row(b"\x01a\xfb\x00", 3),
            Some(Row(vec![Some(b"a".to_vec()), None, Some(Vec::new())]))
        );
        for bytes in [
            &b"\x05a"[..],
            b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff",
            b"",
            b"\x01ab",
        ] {
            assert_eq!(row(bytes, 1), None, "{bytes:?}");
        }
    }
}
