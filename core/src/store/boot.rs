//! Which boot of the host, and whose boot clock: what is written with its times means nothing to another.

use crate::codes::Code;
use crate::{Error, Result};

/// The kernel's name for the time from one start to the next.
pub(super) fn boot_id() -> Result<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_err(|error| Error::from_io(error, "the kernel does not tell its boot id"))?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    crate::OwnerToken::from_hex(digits.as_bytes())
        .map(|id| *id.as_bytes())
        .ok_or_else(|| Error::new(Code::Storage, "the kernel's boot id cannot be read"))
}

/// By how much this time namespace's boot clock differs from the host's, in nanoseconds.
pub(super) fn time_offset() -> i64 {
    let text = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("boottime"));
    let mut parts = line.unwrap_or("").split_whitespace().skip(1);
    let mut next = || parts.next().and_then(|part| part.parse::<i64>().ok());
    let (seconds, nanos) = (next().unwrap_or(0), next().unwrap_or(0));
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}
