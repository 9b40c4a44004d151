//! What a server of PostgreSQL answers to statements, message by message.

use super::super::fault::Fault;
use super::super::rows::{Weight, odd};
use super::super::{Notice, Row, Rows};
use super::Done;
use super::wire::nonsense;
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{
    DataRowBody, ErrorFields, Message, NotificationResponseBody, RowDescriptionBody,
};
use std::io;

/// The type of `bytea`, whose text form is not its bytes.
const BYTEA: u32 = 17;
/// Notices that are kept for whoever listens.
const MOST_NOTICES: usize = 10_000;
/// Bytes of a notice; ours are the name of a channel and a token.
const LONGEST_NOTICE: usize = 512;

/// What has come of an answer so far.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub rows: Rows,
    /// Which columns are `bytea`.
    pub binary: Vec<bool>,
    /// The server keeps the statement from here on, even if it fails.
    pub prepared: bool,
    pub fault: Option<Fault>,
    /// Statements whose answers come first, and are of no interest.
    pub skip: u32,
}

impl Answer {
    /// Takes one message in; whether it was the last. After an error nothing more is to be read.
    pub fn take_in(
        &mut self,
        message: Message,
        weight: &mut Weight,
        notices: &mut Vec<Notice>,
    ) -> Done<bool> {
        match message {
            Message::ReadyForQuery(_) => return Ok(true),
            Message::RowDescription(body) => {
                self.binary = binary_columns(&body).map_err(|error| nonsense(&error))?;
            }
            Message::DataRow(_) if self.skip > 0 => {}
            Message::DataRow(body) => {
                let width = body.ranges().size_hint().0;
                weight.add_row(width).map_err(Fault::dead)?;
                let row = row(&body, &self.binary).map_err(|error| nonsense(&error))?;
                self.rows.rows.push(row);
            }
            Message::CommandComplete(_) if self.skip > 0 => self.skip -= 1,
            Message::CommandComplete(body) => {
                let tag = body.tag().map_err(|error| nonsense(&error))?;
                let count = tag.rsplit(' ').next().and_then(|count| count.parse().ok());
                self.rows.affected = count.unwrap_or(0);
            }
            Message::ErrorResponse(body) => {
                let fault = said(body.fields(), true);
                if !fault.usable {
                    return Err(fault);
                }
                self.fault.get_or_insert(fault);
            }
            Message::NotificationResponse(body) => note(notices, &body),
            Message::ParseComplete => self.prepared = self.skip == 0,
            Message::BindComplete
            | Message::NoData
            | Message::ParameterDescription(_)
            | Message::ParameterStatus(_)
            | Message::NoticeResponse(_)
            | Message::EmptyQueryResponse => {}
            _ => return Err(out_of_turn()),
        }
        Ok(false)
    }
}

pub(super) fn note(notices: &mut Vec<Notice>, body: &NotificationResponseBody) {
    if let (Ok(channel), Ok(payload)) = (body.channel(), body.message())
        && notices.len() < MOST_NOTICES
        && channel.len() + payload.len() <= LONGEST_NOTICE
    {
        notices.push(Notice {
            channel: channel.to_owned(),
            payload: payload.to_owned(),
        });
    }
}

pub(super) fn out_of_turn() -> Fault {
    Fault::dead(odd("a message out of its turn"))
}

pub(super) fn said(mut fields: ErrorFields<'_>, quote: bool) -> Fault {
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

fn binary_columns(body: &RowDescriptionBody) -> io::Result<Vec<bool>> {
    body.fields()
        .map(|field| Ok(field.type_oid() == BYTEA))
        .collect()
}

fn row(body: &DataRowBody, binary: &[bool]) -> io::Result<Row> {
    let buffer = body.buffer();
    let mut ranges = body.ranges();
    let mut fields = Vec::with_capacity(ranges.size_hint().0);
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
