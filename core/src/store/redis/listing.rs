//! The locks that are held, found by SCAN.

use super::answers::{inspection, name_beside, text};
use super::client::Redis;
use super::connection::{check, pack, protocol};
use super::keys;
use super::nodes::Node;
use crate::codes::Code;
use crate::lease::BootTime;
use crate::name::Name;
use crate::store::{Backend, Inspection, Page};
use crate::{Error, Result};
use redis::Value;

pub(super) fn list(
    redis: &Redis,
    prefix: &[u8],
    cursor: Option<&str>,
    limit: usize,
    deadline: Option<BootTime>,
) -> Result<Page> {
    redis.collect_owed(true);
    let (mut server, mut at) = read_cursor(cursor.unwrap_or("0"))?;
    let pattern = keys::pattern(&redis.config, prefix);
    let limit_at = redis.limit(deadline);
    let nodes = redis.process()?.nodes.all(&redis.config, limit_at)?;
    let mut page = Page::default();
    loop {
        let Some(node) = nodes.get(server) else {
            return Ok(page);
        };
        let (next, found) = scan(redis, node, &at, &pattern, limit_at)?;
        let locks = inspect_all(redis, node, &found, limit_at)?;
        page.locks.extend(
            locks
                .into_iter()
                .filter(|lock| lock.name.starts_with(prefix)),
        );
        at = next;
        if at == "0" {
            server += 1;
        }
        let time_is_up = BootTime::now().after(redis.config.io_timeout / 2) > limit_at;
        if server < nodes.len() && (page.locks.len() >= limit || time_is_up) {
            page.cursor = Some(match server {
                0 => at,
                server => format!("{server}-{at}"),
            });
            return Ok(page);
        }
    }
}

/// `cursor` of the first server, `number-cursor` of the others.
fn read_cursor(text: &str) -> Result<(usize, String)> {
    let odd = || Error::invalid("this is no cursor of ours");
    let (server, cursor) = text.split_once('-').unwrap_or(("0", text));
    if cursor.is_empty() || !cursor.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(odd());
    }
    Ok((server.parse().map_err(|_| odd())?, cursor.to_owned()))
}

fn scan(
    redis: &Redis,
    node: &Node,
    cursor: &str,
    pattern: &[u8],
    limit: BootTime,
) -> Result<(String, Vec<Vec<u8>>)> {
    let odd = || protocol("an odd answer to SCAN");
    let cursor = cursor.as_bytes();
    let request = pack(&[b"SCAN", cursor, b"MATCH", pattern, b"COUNT", b"1000"]);
    let reply = redis.many(node, &[request], limit)?.pop();
    let Value::Array(parts) = check(reply.ok_or_else(odd)?)? else {
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
fn inspect_all(
    redis: &Redis,
    node: &Node,
    found: &[Vec<u8>],
    limit: BootTime,
) -> Result<Vec<Inspection>> {
    let shown: Vec<(&[u8], &[u8])> = found
        .iter()
        .filter_map(|key| Some((key.as_slice(), keys::name_in_key(&redis.config, key)?)))
        .filter(|(_, shown)| Name::new(shown).is_ok())
        .collect();
    let mut locks = Vec::new();
    if redis.is_scriptless() {
        for (_, shown) in shown {
            match redis.inspect(&Name::new(shown)?, Some(limit)) {
                Err(error) if error.code() == Code::Protocol => {}
                lock => locks.extend(Some(lock?).filter(|lock| !lock.holders.is_empty())),
            }
        }
        return Ok(locks);
    }
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
        let mut replies = redis.many(node, &requests, limit)?.into_iter();
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
