//! Options of the URLs of advisory locks.

use crate::store::db::{Config as Database, Engine};
use crate::url::Url;
use crate::{Code, Error, Result};

/// Whose names and numbers the locks have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Dialect {
    Native,
    Symfony,
    DistributedLock,
}

#[derive(Clone, Debug)]
pub(super) struct Config {
    pub database: Database,
    pub dialect: Dialect,
    pub prefix: String,
    /// The sequence that fencing tokens are drawn from.
    pub sequence: Option<String>,
    /// How many sessions of a process may wait at once.
    pub most_waits: usize,
}

impl Config {
    pub fn read(url: &mut Url, engine: Engine) -> Result<Self> {
        let dialect = match url.take("dialect").as_deref() {
            None | Some("native") => Dialect::Native,
            Some("symfony") => Dialect::Symfony,
            Some("distributedlock") => Dialect::DistributedLock,
            Some(_) => {
                return Err(Error::invalid(
                    "the option `dialect` is one of native, symfony, distributedlock",
                ));
            }
        };
        let is_native = dialect == Dialect::Native;
        let prefix = match url.take("prefix") {
            Some(_) if !is_native => {
                return Err(Error::invalid(
                    "the option `prefix` belongs to the native dialect: on others the name is the peer's",
                ));
            }
            Some(prefix) if prefix.len() > 20 || !prefix.bytes().all(super::keys::is_plain) => {
                return Err(Error::invalid(
                    "the option `prefix` has at most 20 characters: a-z, 0-9 and - _ . : / @",
                ));
            }
            Some(prefix) => prefix,
            None if is_native => "synlock:".to_owned(),
            None => String::new(),
        };
        // A peer's database gets no table or sequence of ours unless somebody says so.
        let fencing = url.take_bool("fencing")?.unwrap_or(is_native);
        let sequence = url
            .take("sequence")
            .unwrap_or_else(|| "synlock_fence".to_owned());
        let is_name = |part: &str| {
            !part.is_empty()
                && part.len() <= 48
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
                && !part.as_bytes().first().is_some_and(u8::is_ascii_digit)
        };
        if sequence.split('.').count() > 2 || !sequence.split('.').all(is_name) {
            return Err(Error::invalid(
                "the option `sequence` is a name of a-z, 0-9 and _, with a schema before it if need be",
            ));
        }
        let most_waits = match url.take_int("max_waits")? {
            None => 8,
            Some(number @ 1..=64) => usize::try_from(number).unwrap_or(8),
            Some(_) => return Err(Error::invalid("the option `max_waits` is 1 to 64")),
        };
        let database = Database::read(url, engine)?;
        if engine == Engine::Mysql && fencing && database.database.is_none() {
            return Err(Error::new(
                Code::InvalidUrl,
                "the URL lacks the database where the sequence of fencing tokens stands; `fencing=0` does without",
            ));
        }
        Ok(Config {
            database,
            dialect,
            prefix,
            sequence: fencing.then_some(sequence),
            most_waits,
        })
    }
}
