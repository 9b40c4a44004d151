//! What a server of MySQL answers to a statement, packet by packet.

use super::super::fault::Fault;
use super::super::rows::Weight;
use super::super::{Row, Rows};
use super::Done;
use super::packets::{out_of_turn, short, take, take_length};

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

/// What has come of an answer so far.
#[derive(Debug, Default)]
pub(super) struct Answer {
    stage: Stage,
    rows: Rows,
}

impl Answer {
    /// Takes one packet in; the rows, if it was the last.
    pub fn take_in(&mut self, packet: &[u8], weight: &mut Weight) -> Done<Option<Rows>> {
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
                weight.add_row(width).map_err(Fault::dead)?;
                let row = row(packet, width).ok_or_else(|| short("a row"))?;
                self.rows.rows.push(row);
            }
            Stage::EndOfColumns(_) => return Err(out_of_turn()),
        }
        Ok(None)
    }
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
pub(super) fn said(packet: &[u8], quote: bool) -> Fault {
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
