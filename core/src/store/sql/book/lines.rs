//! How the lines of the column `state` are written and read, as `core/FORMATS.md` says.

use super::{Book, Held, Row, Waiting, Watching, block_of, ttl_of};
use crate::mode::Mode;
use crate::owner::OwnerToken;
use crate::store::{Claim, Holder};
use crate::{Code, Error, Result};
use std::fmt::Write;
use std::time::Duration;

/// Number of the layout of records; others with the same fields are read as well.
const LAYOUT: &str = if cfg!(feature = "next-layout") {
    "2"
} else {
    "1"
};

fn words(mode: Mode) -> (char, u32, u32) {
    match mode {
        Mode::Exclusive => ('x', 1, 1),
        Mode::Shared => ('s', 1, 1),
        Mode::Permits { take, of } => ('p', take, of),
    }
}

fn mode_of(letter: &str, take: &str, of: &str) -> Option<Mode> {
    match letter {
        "x" => Some(Mode::Exclusive),
        "s" => Some(Mode::Shared),
        "p" => Some(Mode::Permits {
            take: take.parse().ok()?,
            of: of.parse().ok()?,
        }),
        _ => None,
    }
}

/// The state of a lock that this claim alone holds: its fence and times are the row's own columns.
pub(in crate::store::sql) fn only(claim: &Claim, who: &str) -> String {
    let (letter, take, of) = words(claim.mode);
    format!(
        "h|{LAYOUT}|{}|{letter}|{take}|{of}|={}|{}|=|=|0|{who}\n",
        claim.token.to_hex(),
        block_of(claim),
        ttl_of(claim),
    )
}

impl Book {
    /// Reads a row, and leaves out what has ended.
    pub fn read(row: &Row) -> Result<Self> {
        let mut book = Book {
            now: row.now,
            fence: row.fence,
            held: Vec::new(),
            queue: Vec::new(),
            watching: Vec::new(),
            notes: Vec::new(),
        };
        for line in row.state.split('\n').filter(|line| !line.is_empty()) {
            book.take_in(line, row).ok_or_else(|| {
                Error::new(
                    Code::Protocol,
                    "a row's state is not one that this release can read: another version or another program wrote it",
                )
            })?;
        }
        let now = row.now;
        book.held.retain(|held| held.until > now);
        book.queue.retain(|waiting| waiting.until > now);
        book.watching.retain(|watching| watching.until > now);
        Ok(book)
    }

    fn take_in(&mut self, line: &str, row: &Row) -> Option<()> {
        let fields: Vec<&str> = line.splitn(12, '|').collect();
        match *fields.as_slice() {
            [
                "h",
                _,
                token,
                letter,
                take,
                of,
                fence,
                ttl,
                since,
                until,
                offered,
                who,
            ] => {
                let or = |text: &str, column: i64| match text {
                    "=" => Some(column),
                    number => number.parse().ok(),
                };
                self.held.push(Held {
                    token: token.to_owned(),
                    mode: mode_of(letter, take, of)?,
                    fence: match fence.strip_prefix('=') {
                        Some(block) => row.fence.checked_sub(block.parse::<i64>().ok()? - 1)?,
                        None => fence.parse().ok()?,
                    },
                    ttl: ttl.parse().ok()?,
                    since: or(since, row.since)?,
                    until: or(until, row.until)?,
                    offered: offered == "1",
                    who: who.to_owned(),
                });
            }
            [
                "w",
                _,
                token,
                letter,
                take,
                of,
                block,
                ttl,
                until,
                channel,
                _,
                who,
            ] => {
                self.queue.push(Waiting {
                    token: token.to_owned(),
                    mode: mode_of(letter, take, of)?,
                    block: block.parse().ok()?,
                    ttl: ttl.parse().ok()?,
                    until: until.parse().ok()?,
                    channel: channel.to_owned(),
                    who: who.to_owned(),
                });
            }
            ["v", _, token, until, channel] => self.watching.push(Watching {
                token: token.to_owned(),
                until: until.parse().ok()?,
                channel: channel.to_owned(),
            }),
            _ => return None,
        }
        Some(())
    }

    /// The column `state`.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for held in &self.held {
            let (letter, take, of) = words(held.mode);
            let Held {
                token,
                fence,
                ttl,
                since,
                until,
                who,
                ..
            } = held;
            let offered = u8::from(held.offered);
            let _ = writeln!(
                text,
                "h|{LAYOUT}|{token}|{letter}|{take}|{of}|{fence}|{ttl}|{since}|{until}|{offered}|{who}"
            );
        }
        for waiting in &self.queue {
            let (letter, take, of) = words(waiting.mode);
            let Waiting {
                token,
                block,
                ttl,
                until,
                channel,
                who,
                ..
            } = waiting;
            let _ = writeln!(
                text,
                "w|{LAYOUT}|{token}|{letter}|{take}|{of}|{block}|{ttl}|{until}|{channel}|0|{who}"
            );
        }
        for watching in &self.watching {
            let Watching {
                token,
                until,
                channel,
            } = watching;
            let _ = writeln!(text, "v|{LAYOUT}|{token}|{until}|{channel}");
        }
        text
    }
}

fn span(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

impl Held {
    pub(super) fn shown(&self, now: i64) -> Holder {
        let mut who = self.who.splitn(3, ' ');
        let (host, pid) = (who.next(), who.next());
        let label = who.next().unwrap_or_default();
        let label = label.replace("%0A", "\n").replace("%25", "%");
        Holder {
            owner: self.token.get(..8).unwrap_or_default().to_owned(),
            mode: self.mode.kind(),
            permits: words(self.mode).1,
            host: host.map(str::to_owned),
            pid: pid.and_then(|pid| pid.parse().ok()),
            label: Some(label).filter(|label| !label.is_empty()),
            remaining: Some(span(self.until.saturating_sub(now))),
            held: Some(span(now.saturating_sub(self.since))),
            fence: u64::try_from(self.fence).ok(),
            brand: OwnerToken::brand_of(&self.token),
        }
    }
}

/// Whose a record is, for people. Records are lines.
pub(in crate::store::sql) fn who(host_and_pid: &str, label: Option<&str>) -> String {
    let label = label.unwrap_or_default();
    if label.contains(['%', '\n']) {
        let escaped = label.replace('%', "%25").replace('\n', "%0A");
        format!("{host_and_pid} {escaped}")
    } else {
        [host_and_pid, " ", label].concat()
    }
}

/// The host and the process that asks.
pub(in crate::store::sql) fn host_and_pid() -> String {
    let host = nix::unistd::gethostname()
        .ok()
        .and_then(|host| host.into_string().ok())
        .unwrap_or_default();
    format!(
        "{} {}",
        host.replace([' ', '|', '\n'], "_"),
        std::process::id()
    )
}
