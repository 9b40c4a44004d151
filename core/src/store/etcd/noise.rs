//! For programs that feed the readers of answers with noise.

use super::{http, leases, names, record, wire};
use crate::lease::BootTime;

/// Reads answers as the store does; how many of them were etcd's.
pub fn read_noise(bytes: &[u8]) -> usize {
    let answers = http::read_all(bytes);
    let read = |(status, body): &&(u16, Vec<u8>)| {
        let _ = wire::refusal(*status, body);
        for line in body.split_inclusive(|byte| *byte == b'\n') {
            let _ = wire::told(line);
        }
        let Some(value) = wire::parse(body) else {
            return false;
        };
        let _ = leases::of(1, 1, BootTime::now(), &value);
        let mut found = wire::kvs(&value).unwrap_or_default();
        let outcome = wire::outcome(&value);
        if let Ok(outcome) = &outcome {
            found.extend_from_slice(outcome.part(0));
        }
        for kv in &found {
            let _ = (record::read(&kv.value), names::unescape(&kv.key));
        }
        outcome.is_ok() || !found.is_empty()
    };
    answers.iter().filter(read).count()
}
