//! What statements may name, and the values that they are given.

use super::super::book::micros;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A value of a statement.
#[derive(Clone, Copy, Debug)]
pub(in crate::store::sql) enum Param<'a> {
    Int(i64),
    Text(&'a str),
}

pub fn wall_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX / 4)
    })
}

/// The values that statements may name.
pub(super) struct Values<'a> {
    pub key: &'a str,
    pub owner: &'a str,
    pub heir: &'a str,
    pub ttl: i64,
    pub clock: i64,
    pub until: i64,
    pub after: &'a str,
    pub prefix: &'a str,
    pub length: i64,
    pub limit: i64,
}

impl<'a> Values<'a> {
    pub fn new(key: &'a str) -> Self {
        Values {
            key,
            owner: "",
            heir: "",
            ttl: 0,
            clock: wall_micros(),
            until: 0,
            after: "",
            prefix: "",
            length: 0,
            limit: 0,
        }
    }

    pub fn owned(key: &'a str, owner: &'a str, ttl: Duration) -> Self {
        let ttl = micros(ttl);
        let new = Self::new(key);
        Values {
            owner,
            ttl,
            // Whole seconds, never less than what was asked.
            until: new.clock.saturating_add(ttl).saturating_add(999_999) / 1_000_000,
            ..new
        }
    }

    pub fn of(&self, word: &str) -> Param<'_> {
        match word {
            "id" => Param::Text(self.key),
            "owner" => Param::Text(self.owner),
            "heir" => Param::Text(self.heir),
            "ttl" => Param::Int(self.ttl),
            "clock" => Param::Int(self.clock),
            "until" => Param::Int(self.until),
            "after" => Param::Text(self.after),
            "prefix" => Param::Text(self.prefix),
            "length" => Param::Int(self.length),
            _ => Param::Int(self.limit),
        }
    }
}
