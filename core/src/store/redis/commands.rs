//! The dialect `plain` by commands alone, for users whose rights allow no scripts. It takes a server that
//! compares before it writes: Valkey 9.0 (`SET … IFEQ`, `DELIFEQ`) or Redis 8.4 (`SET … IFEQ`, `DELEX … IFEQ`).
//!
//! The answers are those of the scripts (`scripts/*.lua`), without a queue: everybody asks again.

use super::answers::{number, text};
use super::client::{Question, Redis, Turn};
use super::connection::{Broken, check, pack, protocol};
use super::exchange::{Reply, Request, settle};
use super::keys::{Keys, slot};
use super::scripts::Verb;
use crate::codes::Code;
use crate::lease::BootTime;
use crate::owner::OwnerToken;
use crate::{Error, Result};
use redis::Value;
use std::cell::Cell;

/// How a server deletes a key that has a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Deletion {
    DelIfEq,
    DelEx,
}

/// The end of a hold that has no lease, as the scripts say it.
const FOREVER: i64 = (1 << 53) - 1;
/// More of a value than any token of ours has.
const LAST_SHOWN: &[u8] = b"63";

/// The verb by commands; `None` if the server does not know them.
pub(super) fn run(redis: &Redis, question: Question<'_>, limit: BootTime) -> Result<Option<Reply>> {
    let Question {
        verb,
        name,
        args,
        once,
    } = question;
    let Some(key) = Keys::of(&redis.config, name, true).0.into_iter().next() else {
        return Ok(None);
    };
    let lock = Lock {
        redis,
        slot: slot(&key),
        key,
        limit,
        once,
        resent: Cell::new(false),
        acks: Cell::new(None),
        wrote: Cell::new(false),
    };
    let Some(deletion) = lock.deletion()? else {
        return Ok(None);
    };
    let arg = |at: usize| args.get(at).copied().unwrap_or_default();
    let value = match verb {
        Verb::Acquire => {
            let token = arg(0).split(|byte| *byte == b'|').next();
            lock.acquire(token.unwrap_or_default(), arg(1), args.len() > 5)
        }
        Verb::Extend | Verb::Cancel => lock.extend(arg(0), arg(1)),
        Verb::Release => lock.release(arg(0), deletion),
        Verb::Adopt => lock.adopt(arg(0), arg(1), arg(2), !arg(4).is_empty()),
        Verb::Break => lock.ask(&[b"DEL", &lock.key]),
        Verb::Inspect => lock.inspect(),
        Verb::Watch => lock.watch(),
        Verb::ChangeMode => Err(Error::outcome(Code::Unsupported)),
    };
    let value = value.map_err(|error| lock.settled(error))?;
    Ok(Some(Reply {
        value,
        resent: lock.resent.get(),
        acks: lock.acks.get(),
    }))
}

/// A lock's key, and what the way there was like so far.
struct Lock<'a> {
    redis: &'a Redis,
    key: Vec<u8>,
    slot: u16,
    limit: BootTime,
    once: bool,
    resent: Cell<bool>,
    acks: Cell<Option<i64>>,
    /// A hold may have begun, or gone over to another.
    wrote: Cell<bool>,
}

impl Lock<'_> {
    fn send(&self, words: &[&[u8]], acks: bool) -> Result<Value> {
        let request = Request {
            bytes: &pack(words),
            slot: self.slot,
            acks,
            token: None,
            // Such locks have no fencing tokens.
            grants: false,
            turn: Turn::Any,
            once: self.once,
        };
        let reply = self.redis.exchange(request, self.limit)?;
        self.resent.set(self.resent.get() || reply.resent);
        if acks {
            self.acks.set(reply.acks);
        }
        Ok(reply.value)
    }

    /// Trouble of a later step: it says nothing of what an earlier one has written.
    fn settled(&self, error: Error) -> Error {
        let sent = self.wrote.get();
        settle(Broken { error, sent })
    }

    fn ask(&self, words: &[&[u8]]) -> Result<Value> {
        check(self.send(words, false)?)
    }

    /// Writes what makes a hold, or makes it longer; whether the server did.
    fn write(&self, words: &[&[u8]]) -> Result<bool> {
        let acks = self.redis.config.min_acks > 0;
        self.wrote.set(true);
        match check(self.send(words, acks)?)? {
            Value::Nil => Ok(false),
            Value::Okay => Ok(true),
            value if text(&value).as_deref() == Some("OK") => Ok(true),
            _ => Err(protocol("an odd answer to SET")),
        }
    }

    /// How this server deletes a key that has a value; asked once, before anything is written that could not
    /// be given back.
    fn deletion(&self) -> Result<Option<Deletion>> {
        let known = &self.redis.process()?.deletion;
        if let Some(found) = *known.lock() {
            return Ok(Some(found));
        }
        let nobody = OwnerToken::draw()?.to_hex();
        for kind in [Deletion::DelIfEq, Deletion::DelEx] {
            let answer = self.send(&self.deleting(nobody.as_bytes(), kind), false)?;
            match &answer {
                Value::ServerError(error)
                    if error
                        .details()
                        .is_some_and(|words| words.starts_with("unknown command")) => {}
                _ => {
                    check(answer)?;
                    *known.lock() = Some(kind);
                    return Ok(Some(kind));
                }
            }
        }
        Ok(None)
    }

    fn deleting<'b>(&'b self, token: &'b [u8], kind: Deletion) -> Vec<&'b [u8]> {
        match kind {
            Deletion::DelIfEq => vec![b"DELIFEQ", &self.key, token],
            Deletion::DelEx => vec![b"DELEX", &self.key, b"IFEQ", token],
        }
    }

    fn acquire(&self, token: &[u8], ttl: &[u8], waits: bool) -> Result<Value> {
        if self.write(&[b"SET", &self.key, token, b"NX", b"PX", ttl])? {
            return Ok(Value::Int(0));
        }
        // Ours by a request whose reply was lost, or by an earlier one.
        if self.is_of(token)? {
            let held = self.extend(token, ttl)?;
            if held != Value::Nil {
                return Ok(held);
            }
        }
        let left = match self.left()? {
            // Gone meanwhile: to be asked for at once.
            -2 => 0,
            left => left,
        };
        let before = if waits { 0 } else { -1 };
        let foreign = 1;
        Ok(Value::Array(
            [0, left, before, foreign].map(Value::Int).to_vec(),
        ))
    }

    /// Never shortens a lease.
    fn extend(&self, token: &[u8], ttl: &[u8]) -> Result<Value> {
        if !self.is_of(token)? {
            return Ok(Value::Nil);
        }
        self.take_over(token, token, ttl)
    }

    fn adopt(&self, token: &[u8], heir: &[u8], ttl: &[u8], again: bool) -> Result<Value> {
        let taken = self.take_over(token, heir, ttl)?;
        // What may be sent again may find the heir in place.
        if taken == Value::Nil && again && self.is_of(heir)? {
            return Ok(Value::Int(0));
        }
        Ok(taken)
    }

    /// The lock of `token` becomes `heir`'s, for this long at least.
    fn take_over(&self, token: &[u8], heir: &[u8], ttl: &[u8]) -> Result<Value> {
        let left = self.left()?;
        let wanted = std::str::from_utf8(ttl).ok().and_then(|ms| ms.parse().ok());
        let ms = wanted.unwrap_or(left).max(left).to_string();
        let mut words: Vec<&[u8]> = vec![b"SET", &self.key, heir, b"IFEQ", token];
        if left == -1 {
            words.push(b"KEEPTTL");
        } else {
            words.extend([b"PX" as &[u8], ms.as_bytes()]);
        }
        Ok(if self.write(&words)? {
            Value::Int(0)
        } else {
            Value::Nil
        })
    }

    fn release(&self, token: &[u8], kind: Deletion) -> Result<Value> {
        self.ask(&self.deleting(token, kind))
    }

    /// Whether the lock is this token's.
    fn is_of(&self, token: &[u8]) -> Result<bool> {
        Ok(matches!(self.value()?, Value::BulkString(found) if found == token))
    }

    /// The beginning of the value; empty if there is none.
    fn value(&self) -> Result<Value> {
        self.ask(&[b"GETRANGE", &self.key, b"0", LAST_SHOWN])
    }

    /// Milliseconds until the key ends; -1 if it does not, -2 if there is none.
    fn left(&self) -> Result<i64> {
        number(&self.ask(&[b"PTTL", &self.key])?).ok_or_else(|| protocol("an odd answer to PTTL"))
    }

    fn inspect(&self) -> Result<Value> {
        let odd = || protocol("an odd answer to TIME");
        let Value::Array(clock) = self.ask(&[b"TIME"])? else {
            return Err(odd());
        };
        let part = |at: usize| clock.get(at).and_then(number).ok_or_else(odd);
        let now = part(0)?.saturating_mul(1000) + part(1)? / 1000;
        let mut answer = vec![Value::Int(now), Value::Int(-1)];
        let (value, left) = (self.value()?, self.left()?);
        if let Value::BulkString(token) = value
            && left != -2
        {
            let until = if left == -1 { FOREVER } else { now + left };
            let token = shown(&token);
            let record = format!("{token}|1|x|1|1||||{until}|0|");
            answer.push(Value::BulkString(record.into_bytes()));
        }
        Ok(Value::Array(answer))
    }

    fn watch(&self) -> Result<Value> {
        Ok(match self.left()? {
            -2 => Value::Nil,
            -1 => Value::Int(FOREVER),
            left => Value::Int(left),
        })
    }
}

/// A token of others may be anything.
fn shown(token: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=:_.-".contains(byte);
    let letters = token
        .iter()
        .map(|byte| if plain(byte) { char::from(*byte) } else { '.' });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::url::Url;

    /// A server that goes away between two steps: the first may have got the lock.
    #[test]
    fn trouble_after_a_write_is_uncertain() {
        let mut url = Url::parse("redis://127.0.0.1:1?dialect=plain", &[]).unwrap();
        let redis = Redis::new(super::super::config::Config::read(&mut url).unwrap());
        let lock = Lock {
            redis: &redis,
            key: b"a".to_vec(),
            slot: 0,
            limit: BootTime::now(),
            once: false,
            resent: Cell::new(false),
            acks: Cell::new(None),
            wrote: Cell::new(false),
        };
        let looked = |lock: &Lock<'_>| lock.left().map_err(|error| lock.settled(error).code());
        assert_eq!(looked(&lock), Err(Code::Unavailable));
        assert!(lock.write(&[b"SET", b"a", b"b"]).is_err());
        assert_eq!(looked(&lock), Err(Code::Uncertain));
    }
}
