//! For programs that feed the readers of replies with noise.

use super::config::Dialect;
use super::{record, wire};
use crate::owner::OwnerToken;

/// Reads replies as the store does; how many there were before the first that is none.
pub fn read_noise(bytes: &[u8]) -> usize {
    let mut buffer = bytes.to_vec();
    let mut lines = bytes.to_vec();
    while let Ok(Some(line)) = wire::take_line(&mut lines) {
        let _ = wire::changed(&line);
    }
    let mut replies = 0;
    while let Ok(Some(reply)) = wire::take_response(&mut buffer) {
        replies += 1;
        let Ok(Some(item)) = wire::item(reply) else {
            continue;
        };
        for dialect in [Dialect::Native, Dialect::Symfony] {
            let _ = record::holder(dialect, &item.value, item.cas, item.left);
            let _ = record::renew(dialect, &item.value, item.cas, OwnerToken::NONE);
            let _ = record::is_of(dialect, &item.value, OwnerToken::NONE);
        }
    }
    replies
}
