//! Ids of sessions: drawn in the form of Drupal's lock ids, or given.

use crate::owner::OwnerToken;
use crate::{Error, Result};
use std::time::{SystemTime, UNIX_EPOCH};

/// `uniqid(mt_rand(), true)` by its looks: a number, 13 hexadecimal digits of the time, and a fraction. The
/// 61 random bits are the kernel's.
pub(super) fn draw() -> Result<String> {
    let random = u128::from_ne_bytes(*OwnerToken::draw()?.as_bytes());
    let number = random >> 97;
    let fraction = random % 1_000_000_000;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Ok(format!(
        "{number}{:08x}{:05x}{}.{:08}",
        now.as_secs() & 0xffff_ffff,
        now.subsec_micros(),
        fraction / 100_000_000,
        fraction % 100_000_000,
    ))
}

/// What columns and labels of every store can hold, and people can read.
pub(super) fn check(id: &str) -> Result<()> {
    if (1..=255).contains(&id.len()) && id.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        Ok(())
    } else {
        Err(Error::invalid(
            "a session's id is 1 to 255 printable characters of ASCII",
        ))
    }
}
