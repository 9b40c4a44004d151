//! The locks that are held, found by SCAN.

use super::answers::{inspection, name_beside, text};
use super::client::Redis;
use super::connection::{check, pack, protocol};
use super::keys;
use crate::lease::BootTime;
use crate::name::Name;
use crate::store::{Inspection, Page};
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
    let pattern = keys::pattern(&redis.config, prefix);
    let limit_at = redis.limit(deadline);
    let mut page = Page::default();
    loop {
        let (next, found) = scan(redis, &cursor, &pattern, limit_at)?;
        cursor = next;
        let locks = inspect_all(redis, &found, limit_at)?;
        page.locks.extend(
            locks
                .into_iter()
                .filter(|lock| lock.name.starts_with(prefix)),
        );
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

/// Locks in one round trip: enough to hide it, and no load to speak of for a server between others.
const AT_ONCE: usize = 256;

/// The held ones among the locks at these keys, in one round trip for each few hundred.
fn inspect_all(redis: &Redis, found: &[Vec<u8>], limit: BootTime) -> Result<Vec<Inspection>> {
    let shown: Vec<(&[u8], &[u8])> = found
        .iter()
        .filter_map(|key| Some((key.as_slice(), keys::name_in_key(&redis.config, key)?)))
        .filter(|(_, shown)| Name::new(shown).is_ok())
        .collect();
    let mut locks = Vec::new();
    for some in shown.chunks(AT_ONCE) {
        let mut requests = Vec::new();
        for (number, (key, shown)) in some.iter().enumerate() {
            // The first brings the script along.
            requests.push(redis.inspection_request(key, shown, number == 0)?);
            // A long name stands beside its holders.
            if redis.is_native() && keys::may_be_long(shown) {
                requests.push(pack(&[b"GET", key]));
            }
        }
        let mut replies = redis.many(&requests, limit)?.into_iter();
        for (_, shown) in some {
            let reply = replies.next();
            let mut name = (*shown).to_vec();
            if redis.is_native()
                && keys::may_be_long(shown)
                && let Some(Value::BulkString(lock)) = replies.next()
            {
                name = name_beside(&lock).map_or(name, <[u8]>::to_vec);
            }
            match reply {
                // Other things may stand beside locks.
                Some(Value::ServerError(error)) if error.code() == "WRONGTYPE" => {}
                Some(reply) => {
                    let lock = inspection(&name, &check(reply)?)?;
                    locks.extend(Some(lock).filter(|lock| !lock.holders.is_empty()));
                }
                None => return Err(protocol("too few answers")),
            }
        }
    }
    Ok(locks)
}
