//! What the scripts answer, read.

use super::connection::protocol;
use crate::mode::Mode;
use crate::owner::OwnerToken;
use crate::store::{Holder, Inspection, Life, whole_seconds};
use crate::{Error, Result};
use redis::Value;
use std::time::Duration;

pub(super) fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        value => text(value)?.parse().ok(),
    }
}

pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

/// What `INFO server` says of its life.
pub(super) fn life(text: &str) -> Option<Life> {
    let line = |key: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(key));
        found.and_then(|value| value.strip_prefix(':'))
    };
    Some(Life {
        id: line("run_id")?.to_owned(),
        // Below zero, if its clock has gone back to before its start.
        up: whole_seconds(
            line("uptime_in_seconds")?
                .parse::<i64>()
                .ok()?
                .try_into()
                .unwrap_or(0),
        ),
        // Servers before 6.2 do not tell.
        clock: line("server_time_usec")
            .and_then(|micros| micros.parse().ok())
            .map(Duration::from_micros),
    })
}

/// A fencing token, or nothing if the lock is not ours.
pub(super) fn fence_or_lost(reply: &Value) -> Result<Option<u64>> {
    match reply {
        Value::Nil => Ok(None),
        value => number(value)
            .and_then(|fence| u64::try_from(fence).ok())
            .map(Some)
            .ok_or_else(|| protocol("an odd fencing token")),
    }
}

/// The name that stands in a lock after its records, where its key does not show it.
pub(super) fn name_beside(lock: &[u8]) -> Option<&[u8]> {
    let at = lock.windows(2).position(|pair| pair == b"\n\n")?;
    lock.get(at + 2..)
}

/// `now, waiters, record, record, …`
pub(super) fn inspection(name: &[u8], reply: &Value) -> Result<Inspection> {
    let (now, waiters, records) = parts(reply)?;
    Ok(Inspection {
        name: name.to_vec(),
        holders: records
            .iter()
            .map(|record| holder(record, now).ok_or_else(odd))
            .collect::<Result<_>>()?,
        waiters: u32::try_from(waiters).ok(),
    })
}

/// Whether a holder of this token is among those of an inspection. Who holds exclusively is no reader: a server
/// that has forgotten a promotion lets others in.
pub(super) fn is_among(token: &str, mode: Mode, reply: &Value) -> Result<bool> {
    let (_, _, records) = parts(reply)?;
    let is_reader = |record: &str| record.split('|').nth(2) == Some("s");
    Ok(records
        .iter()
        .any(|record| record.starts_with(token) && !(mode == Mode::Exclusive && is_reader(record))))
}

fn odd() -> Error {
    protocol("an odd answer to an inspection")
}

fn parts(reply: &Value) -> Result<(i64, i64, Vec<String>)> {
    let Value::Array(parts) = reply else {
        return Err(odd());
    };
    let [now, waiters, records @ ..] = parts.as_slice() else {
        return Err(odd());
    };
    let records: Option<Vec<_>> = records.iter().map(text).collect();
    Ok((
        number(now).ok_or_else(odd)?,
        number(waiters).ok_or_else(odd)?,
        records.ok_or_else(odd)?,
    ))
}

/// The end of a peer's hold that has no lease.
const FOREVER: i64 = (1 << 53) - 1;

/// token|layout|mode|take|of|fence|ttl|since|until|offered|host pid label
fn holder(record: &str, now: i64) -> Option<Holder> {
    let fields: Vec<&str> = record.splitn(11, '|').collect();
    let &[token, _, mode, take, _, fence, _, since, until, _, who] = fields.as_slice() else {
        return None;
    };
    // Of a peer's hold little is known.
    let mut who = who.splitn(3, ' ');
    let (host, pid) = (who.next().unwrap_or_default(), who.next());
    let label = who.next().unwrap_or_default();
    let label = label.replace("%0A", "\n").replace("%25", "%");
    let ends: i64 = until.parse().ok()?;
    // The server may say anything.
    let span = |from: i64, to: i64| {
        Duration::from_millis(u64::try_from(to.saturating_sub(from)).unwrap_or(0))
    };
    Some(Holder {
        owner: token.get(..8).unwrap_or(token).to_owned(),
        mode: match mode {
            "s" => "shared",
            "p" => "permits",
            _ => "exclusive",
        },
        permits: take.parse().ok()?,
        host: Some(host.to_owned()).filter(|host| !host.is_empty()),
        pid: pid.and_then(|pid| pid.parse().ok()),
        label: Some(label).filter(|label| !label.is_empty()),
        remaining: (ends != FOREVER).then(|| span(now, ends)),
        held: since.parse().ok().map(|since| span(since, now)),
        fence: fence.parse().ok(),
        brand: OwnerToken::brand_of(token),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_in_whole_seconds_may_be_one_too_many() {
        let told = |up: i64| {
            let text = format!(
                "# Server\r\nrun_id:a1\r\nserver_time_usec:1500000\r\nuptime_in_seconds:{up}\r\nuptime_in_days:0\r\n"
            );
            life(&text).unwrap()
        };
        // Begun at 9.9, asked at 10.0.
        assert_eq!(told(1).up, Duration::ZERO);
        assert_eq!(told(0).up, Duration::ZERO);
        // Its clock has gone back to before its start.
        assert_eq!(told(-3600).up, Duration::ZERO);
        assert_eq!(told(61).up, Duration::from_secs(60));
        assert_eq!(told(1).clock, Some(Duration::from_millis(1500)));
        assert_eq!(told(1).id, "a1");
        assert_eq!(life("run_id:a1"), None);
    }

    #[test]
    fn times_at_the_ends_of_their_range_are_read() {
        let record = format!(
            "{}|1|x|1|1|5|9|{}|{}|0|h 4 l",
            "a".repeat(32),
            i64::MIN,
            i64::MAX
        );
        let read = holder(&record, i64::MIN).unwrap();
        assert_eq!(read.remaining, Some(Duration::from_millis(i64::MAX as u64)));
        assert_eq!(read.held, Some(Duration::ZERO));
    }
}
