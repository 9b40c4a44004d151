//! For programs that feed the readers of replies with noise.

use super::config::Address;
use super::connection::check;
use super::{answers, frame, nodes, subscription};
use crate::mode::Mode;
use std::sync::Arc;

/// Reads replies as the store does; how many there were before the first that is none.
pub fn read_noise(bytes: &[u8]) -> usize {
    let mut buffer = bytes.to_vec();
    let mut replies = 0;
    while let Ok(Some(reply)) = frame::take(&mut buffer) {
        replies += 1;
        let Ok(reply) = check(reply) else { continue };
        let _ = answers::fence_or_lost(&reply);
        let _ = answers::inspection(b"name", &reply);
        let _ = answers::is_among("0", Mode::Exclusive, &reply);
        if let redis::Value::BulkString(lock) = &reply {
            let _ = answers::name_beside(lock);
            let here = Arc::new(Address::Unix(String::new()));
            let _ = nodes::parse_map(&String::from_utf8_lossy(lock), &here);
        }
        let _ = subscription::message(reply);
    }
    replies
}
