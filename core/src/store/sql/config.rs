//! Options that every table store has.

use crate::url::Url;
use crate::{Error, Result};
use std::time::Duration;

/// The table of the native format.
pub(super) const TABLE: &str = "synlock_locks";

#[derive(Clone, Debug)]
pub(super) struct Common {
    /// For messages.
    pub url: String,
    pub fingerprint: String,
    pub table: String,
    /// For how long a row is kept after its lock came free; zero keeps it for ever.
    pub purge_after: Duration,
}

impl Common {
    pub fn read(url: &mut Url, fingerprint: String, table: String) -> Result<Self> {
        let purge_after = match url.take_int("purge_after")? {
            None => Duration::from_secs(24 * 3600),
            Some(ms) => Duration::from_millis(u64::try_from(ms).map_err(|_| {
                Error::invalid("the option `purge_after` is ms, or 0 to keep all rows")
            })?),
        };
        Ok(Common {
            url: url.redacted(),
            fingerprint,
            table,
            purge_after,
        })
    }
}

/// Whether text can stand as a name in SQL, in quotes, whatever the engine.
fn is_identifier(text: &str) -> bool {
    let first = text.bytes().next().unwrap_or(b'0');
    text.len() <= 63
        && (first.is_ascii_alphabetic() || first == b'_')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Takes the name of a column.
pub(super) fn take_column(url: &mut Url, key: &'static str, default: &str) -> Result<String> {
    let name = url.take(key).unwrap_or_else(|| default.to_owned());
    if is_identifier(&name) {
        Ok(name)
    } else {
        Err(refused(key))
    }
}

/// Takes the name of the table, perhaps with its schema before a dot.
pub(super) fn take_table(url: &mut Url, default: &str) -> Result<String> {
    let name = url.take("table").unwrap_or_else(|| default.to_owned());
    let parts: Vec<&str> = name.split('.').collect();
    if parts.len() <= 2 && parts.iter().all(|part| is_identifier(part)) {
        Ok(name)
    } else {
        Err(refused("table"))
    }
}

fn refused(key: &str) -> Error {
    Error::invalid(format!(
        "the option `{key}` is no name of letters, digits and `_` (at most 63, not beginning with a digit)"
    ))
}

/// A name in an engine's quotes.
pub(super) fn quoted(name: &str, quote: char) -> String {
    name.split('.')
        .map(|part| format!("{quote}{part}{quote}"))
        .collect::<Vec<_>>()
        .join(".")
}
