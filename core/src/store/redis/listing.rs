//! The locks that are held, found by SCAN.

use super::answers::{name_beside, text};
use super::client::Redis;
use super::connection::{check, pack, protocol};
use super::keys;
use crate::lease::BootTime;
use crate::name::Name;
use crate::store::{Backend, Page};
use crate::{Error, Result};
use redis::Value;

pub(super) fn list(
    redis: &Redis,
    prefix: &[u8],
    cursor: Option<&str>,
    limit: usize,
    deadline: Option<BootTime>,
) -> Result<Page> {
    let mut cursor = cursor.unwrap_or("0").to_owned();
    if cursor.is_empty() || !cursor.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Error::invalid("this is no cursor of ours"));
    }
    let pattern = [
        keys::glob(redis.config.prefix.as_bytes()),
        b"{b[0-9][0-9][0-9][0-9]}:".to_vec(),
        keys::glob(prefix.get(..keys::SHOWN).unwrap_or(prefix)),
        b"*".to_vec(),
    ]
    .concat();
    let limit_at = redis.limit(deadline);
    let mut page = Page::default();
    loop {
        let (next, found) = scan(redis, &cursor, &pattern, limit_at)?;
        cursor = next;
        for key in found {
            let Some(shown) = keys::name_in_key(&redis.config.prefix, &key) else {
                continue;
            };
            let name = full_name(redis, &key, shown, limit_at)?;
            let lock = redis.inspect(&name, Some(limit_at))?;
            if !lock.holders.is_empty() && lock.name.starts_with(prefix) {
                page.locks.push(lock);
            }
        }
        if cursor == "0" {
            return Ok(page);
        }
        if page.locks.len() >= limit
            || BootTime::now().after(redis.config.io_timeout / 2) > limit_at
        {
            page.cursor = Some(cursor);
            return Ok(page);
        }
    }
}

fn scan(
    redis: &Redis,
    cursor: &str,
    pattern: &[u8],
    limit: BootTime,
) -> Result<(String, Vec<Vec<u8>>)> {
    let odd = || protocol("an odd answer to SCAN");
    let cursor = cursor.as_bytes();
    let request = pack(&[b"SCAN", cursor, b"MATCH", pattern, b"COUNT", b"1000"]);
    let Value::Array(parts) = check(redis.one(&request, limit)?)? else {
        return Err(odd());
    };
    let [next, Value::Array(found)] = parts.as_slice() else {
        return Err(odd());
    };
    let keys = found.iter().filter_map(|key| match key {
        Value::BulkString(key) => Some(key.clone()),
        _ => None,
    });
    Ok((text(next).ok_or_else(odd)?, keys.collect()))
}

/// The name of the lock at `key`; a long one stands beside its holders.
fn full_name(redis: &Redis, key: &[u8], shown: &[u8], limit: BootTime) -> Result<Name> {
    if keys::may_be_long(shown) {
        let value = check(redis.one(&pack(&[b"GET", key]), limit)?)?;
        if let Value::BulkString(lock) = value
            && let Some(name) = name_beside(&lock)
        {
            return Name::new(name);
        }
    }
    Name::new(shown)
}
