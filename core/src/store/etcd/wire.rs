//! What is asked of the gateway and what it answers, as JSON: numbers of 64 bits are strings there, keys and
//! values base64, and what is zero or empty is left out.

use super::http::protocol;
use crate::codes::Code;
use crate::mode::Mode;
use crate::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

pub(super) const RANGE: &str = "/v3/kv/range";
pub(super) const TXN: &str = "/v3/kv/txn";
pub(super) const GRANT: &str = "/v3/lease/grant";
pub(super) const KEEP_ALIVE: &str = "/v3/lease/keepalive";
pub(super) const REVOKE: &str = "/v3/lease/revoke";
pub(super) const TIME_TO_LIVE: &str = "/v3/lease/timetolive";
pub(super) const WATCH: &str = "/v3/watch";
pub(super) const AUTHENTICATE: &str = "/v3/auth/authenticate";

/// One key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Kv {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    pub created: i64,
    /// The revision of its last change.
    pub changed: i64,
    pub lease: i64,
}

/// What became of a transaction.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub succeeded: bool,
    /// The store's revision after it.
    pub revision: i64,
    /// The keys that each of its parts showed.
    pub parts: Vec<Vec<Kv>>,
}

impl Outcome {
    pub fn part(&self, index: usize) -> &[Kv] {
        self.parts.get(index).map_or(&[], Vec::as_slice)
    }
}

fn text(bytes: &[u8]) -> Value {
    Value::String(BASE64.encode(bytes))
}

/// One key.
pub(super) fn get(key: &[u8]) -> Value {
    json!({ "key": text(key) })
}

/// All keys from one to another, the oldest first.
pub(super) fn line(folder: &[u8], end: &[u8]) -> Value {
    json!({
        "key": text(folder),
        "range_end": text(end),
        "sort_target": "CREATE",
        "sort_order": "ASCEND",
    })
}

/// The youngest two keys, of those that are no younger than `created`.
pub(super) fn last_two(folder: &[u8], end: &[u8], created: Option<i64>) -> Value {
    json!({
        "key": text(folder),
        "range_end": text(end),
        "sort_target": "CREATE",
        "sort_order": "DESCEND",
        "limit": "2",
        "max_create_revision": created.unwrap_or(0).to_string(),
    })
}

/// A page of keys in their own order.
pub(super) fn page(from: &[u8], end: &[u8], limit: usize) -> Value {
    json!({
        "key": text(from),
        "range_end": text(end),
        "limit": limit.to_string(),
        "sort_target": "KEY",
        "sort_order": "ASCEND",
    })
}

pub(super) fn ranged(request: Value) -> Value {
    json!({ "request_range": request })
}

pub(super) fn put(key: &[u8], value: &str, lease: i64) -> Value {
    json!({ "request_put": {
        "key": text(key),
        "value": text(value.as_bytes()),
        "lease": lease.to_string(),
    }})
}

pub(super) fn delete(key: &[u8]) -> Value {
    json!({ "request_delete_range": { "key": text(key) } })
}

/// That a key was made at this revision; 0: that it is not there.
pub(super) fn is_of(key: &[u8], created: i64) -> Value {
    json!({
        "target": "CREATE",
        "result": "EQUAL",
        "key": text(key),
        "create_revision": created.to_string(),
    })
}

/// That a key was last changed at this revision.
pub(super) fn is_changed(key: &[u8], changed: i64) -> Value {
    json!({
        "target": "MOD",
        "result": "EQUAL",
        "key": text(key),
        "mod_revision": changed.to_string(),
    })
}

/// That a key has this value.
pub(super) fn says(key: &[u8], value: &[u8]) -> Value {
    json!({ "target": "VALUE", "result": "EQUAL", "key": text(key), "value": text(value) })
}

/// That there is no key from one to another.
pub(super) fn is_empty(folder: &[u8], end: &[u8]) -> Value {
    json!({
        "target": "CREATE",
        "result": "EQUAL",
        "key": text(folder),
        "range_end": text(end),
        "create_revision": "0",
    })
}

pub(super) fn txn(compare: &[Value], success: &[Value], failure: &[Value]) -> Value {
    json!({ "compare": compare, "success": success, "failure": failure })
}

pub(super) fn lease(id: i64) -> Value {
    json!({ "ID": id.to_string() })
}

pub(super) fn new_lease(id: i64, seconds: u64) -> Value {
    json!({ "ID": id.to_string(), "TTL": seconds.to_string() })
}

/// The first change after `revision` of one key, or of all up to `end`; a release alone unless `puts` too.
pub(super) fn watch(id: u64, key: &[u8], end: Option<&[u8]>, revision: i64, puts: bool) -> Value {
    let mut request = json!({
        "key": text(key),
        "start_revision": (revision + 1).to_string(),
        "watch_id": id.to_string(),
    });
    if let Some(end) = end {
        request["range_end"] = text(end);
    }
    if !puts {
        request["filters"] = json!(["NOPUT"]);
    }
    json!({ "create_request": request })
}

pub(super) fn number(value: &Value, key: &str) -> i64 {
    match value.get(key) {
        Some(Value::String(text)) => text.parse().unwrap_or(0),
        Some(value) => value.as_i64().unwrap_or(0),
        None => 0,
    }
}

pub(super) fn revision(value: &Value) -> i64 {
    value
        .get("header")
        .map_or(0, |header| number(header, "revision"))
}

/// What an answer may take in memory, as far as can be told before it is read.
const MOST: usize = 40 * 1024 * 1024;

/// Reads an answer; nothing if it is no JSON, or would take far more memory than an answer of etcd's: a body
/// of many small objects takes two hundred times its length.
pub(super) fn parse(body: &[u8]) -> Option<Value> {
    let weight = body.iter().fold(body.len(), |sum, byte| {
        sum + match byte {
            b'{' => 700,
            b'[' => 160,
            b',' => 110,
            _ => 0,
        }
    });
    if weight > MOST && !cfg!(canary = "trusts_length") {
        return None;
    }
    serde_json::from_slice(body).ok()
}

/// The keys in an answer.
pub(super) fn kvs(value: &Value) -> Result<Vec<Kv>> {
    let list = value.get("kvs").and_then(Value::as_array);
    list.map_or(&[][..], Vec::as_slice).iter().map(kv).collect()
}

fn kv(value: &Value) -> Result<Kv> {
    if !value.is_object() {
        return Err(protocol("a key that is none"));
    }
    let bytes = |key: &str| match value.get(key) {
        None => Ok(Vec::new()),
        Some(found) => found
            .as_str()
            .and_then(|text| BASE64.decode(text).ok())
            .ok_or_else(|| protocol("a key that is no base64")),
    };
    Ok(Kv {
        key: bytes("key")?,
        value: bytes("value")?,
        created: number(value, "create_revision"),
        changed: number(value, "mod_revision"),
        lease: number(value, "lease"),
    })
}

pub(super) fn outcome(value: &Value) -> Result<Outcome> {
    let list = value.get("responses").and_then(Value::as_array);
    let parts = list.map_or(&[][..], Vec::as_slice).iter();
    // There is none before the first, and it is the fencing token of what it made.
    if revision(value) <= 0 {
        return Err(protocol("an answer without a revision"));
    }
    Ok(Outcome {
        succeeded: value
            .get("succeeded")
            .and_then(Value::as_bool)
            .unwrap_or(false),
        revision: revision(value),
        parts: parts
            .map(|part| part.get("response_range").map_or(Ok(Vec::new()), kvs))
            .collect::<Result<_>>()?,
    })
}

/// An answer of a watch: whose it is, and whether there is anything to look at.
pub(super) fn told(line: &[u8]) -> Option<(u64, bool)> {
    let value = parse(line)?;
    let result = value.get("result")?;
    let id = u64::try_from(number(result, "watch_id")).ok()?;
    let has = |key: &str| {
        result.get(key).is_some_and(|value| match value {
            Value::Array(list) => !list.is_empty(),
            value => value.as_bool().unwrap_or(false),
        })
    };
    Some((id, has("events") || has("canceled")))
}

/// Why the server would not, or could not tell.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The lease has run out.
    LeaseGone,
    /// There is a lease of this number.
    LeaseExists,
    /// Log in again.
    Stranger,
    /// It did nothing.
    No(Error),
    /// It may have done it, or do it yet.
    Unsure(Error),
}

/// The meaning of an answer that is not 200.
pub(super) fn refusal(status: u16, body: &[u8]) -> Refusal {
    let Some(value) = parse(body) else {
        let error = protocol("the answer is not etcd's");
        // A proxy says 502 or 504 when it has passed the request on.
        return if status >= 500 {
            Refusal::Unsure(error)
        } else {
            Refusal::No(error)
        };
    };
    let words = ["message", "error"]
        .iter()
        .find_map(|key| value.get(key)?.as_str())
        .unwrap_or("an error without words");
    let no = |code| Refusal::No(Error::new(code, words));
    match number(&value, "code") {
        5 if words.contains("lease not found") => Refusal::LeaseGone,
        9 if words.contains("lease already exists") => Refusal::LeaseExists,
        3 if words.contains("revision of auth store is old") => Refusal::Stranger,
        3 if words.contains("authentication failed") || words.contains("user name is empty") => {
            no(Code::Permission)
        }
        3 => no(Code::InvalidArgument),
        7 => no(Code::Permission),
        8 if words.contains("too many requests") => no(Code::Unavailable),
        8 => no(Code::Exhausted),
        5 | 9 | 11 | 12 => no(Code::Protocol),
        16 => Refusal::Stranger,
        _ => Refusal::Unsure(Error::new(Code::Unavailable, words)),
    }
}

/// Whether the youngest two keys say all about a claim of this mode.
pub(super) fn sees_by_two(mode: Mode) -> bool {
    mode == Mode::Exclusive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_zero_is_left_out() {
        let value: Value = serde_json::from_str(
            r#"{"header":{"revision":"7"},"responses":[{"response_put":{}},
                {"response_range":{"kvs":[{"key":"cC8x","create_revision":"6","mod_revision":"7","lease":"18"}],"count":"1"}}]}"#,
        )
        .unwrap();
        let found = outcome(&value).unwrap();
        assert!(!found.succeeded && found.revision == 7 && found.part(0).is_empty());
        let one = Kv {
            key: b"p/1".to_vec(),
            value: Vec::new(),
            created: 6,
            changed: 7,
            lease: 18,
        };
        assert_eq!(found.part(1), [one]);
        assert!(kvs(&json!({"kvs": [{"key": 3}]})).is_err());
        assert_eq!(kvs(&json!({})).unwrap(), []);
    }

    #[test]
    fn a_watch_tells_of_events_and_of_its_end() {
        let told = |text: &str| told(text.as_bytes());
        assert_eq!(
            told(r#"{"result":{"watch_id":"7","created":true}}"#),
            Some((7, false))
        );
        assert_eq!(
            told(r#"{"result":{"watch_id":"7","events":[{"type":"DELETE"}]}}"#),
            Some((7, true))
        );
        assert_eq!(
            told(r#"{"result":{"watch_id":"7","canceled":true,"compact_revision":"9"}}"#),
            Some((7, true))
        );
        assert_eq!(told("junk"), None);
    }

    #[test]
    fn refusals_are_told_from_doubt() {
        let meant = |code: u32, words: &str| {
            refusal(
                400,
                format!(r#"{{"error":"{words}","code":{code}}}"#).as_bytes(),
            )
        };
        assert!(matches!(
            meant(5, "etcdserver: requested lease not found"),
            Refusal::LeaseGone
        ));
        assert!(matches!(
            meant(14, "etcdserver: request timed out"),
            Refusal::Unsure(_)
        ));
        assert!(matches!(
            meant(16, "etcdserver: invalid auth token"),
            Refusal::Stranger
        ));
        let code = |refusal| match refusal {
            Refusal::No(error) => error.code(),
            other => panic!("{other:?}"),
        };
        assert_eq!(code(meant(7, "permission denied")), Code::Permission);
        assert_eq!(
            code(meant(8, "mvcc: database space exceeded")),
            Code::Exhausted
        );
        assert_eq!(code(refusal(404, b"<html>")), Code::Protocol);
        assert!(matches!(refusal(502, b"<html>"), Refusal::Unsure(_)));
    }
}
