//! Lives of a server. One that starts again with a snapshot, or takes the place of one that it had not caught up
//! with, has counters that are behind tokens given before. Whoever connects to it first raises them, once for each of
//! its lives, before anything is granted there. Decision 0335.

use super::client::Redis;
use super::config::{Config, Dialect, Place};
use super::connection::{Connection, map_error, pack, says};
use crate::Result;
use crate::lease::BootTime;
use redis::{ServerError, Value};

const NEW_LIFE: &str = include_str!("scripts/new_life.lua");

/// Where it stands whose counters the server has. Not on a Cluster, which lets no script see all of them; a dialect's
/// follow the clock by themselves.
pub(super) fn key(config: &Config) -> Option<Vec<u8>> {
    let is_one = !matches!(config.place, Place::Cluster(_)) && !cfg!(canary = "one_life");
    (config.dialect == Dialect::Native && is_one).then(|| format!("{}life", config.prefix).into())
}

/// What `INFO replication` calls a life: it is another one after each start, and after each failover.
pub(super) fn id(info: &str) -> Option<&str> {
    let mut lines = info.lines();
    lines
        .find_map(|line| line.strip_prefix("master_replid:"))
        .filter(|id| !id.is_empty())
}

/// Whether it is a replica, whose life is its master's.
pub(super) fn is_replica(info: &str) -> bool {
    info.lines().any(|line| line == "role:slave") && !cfg!(canary = "keep_replica")
}

/// Whether the server cannot say so now, but may serve soon.
pub(super) fn is_refused_now(error: &ServerError) -> bool {
    let soon = ["LOADING", "BUSY", "MASTERDOWN", "READONLY"];
    soon.iter().any(|code| says(error, code)) && !cfg!(canary = "take_early")
}

/// Whether the server cannot write now. What is held can be given back there all the same.
fn is_unwritable(error: &ServerError) -> bool {
    let unwritable = ["OOM", "MISCONF", "NOREPLICAS"];
    unwritable.iter().any(|code| says(error, code))
}

impl Redis {
    /// Raises the counters of a server that has begun anew. One that does not let us write this key lets us grant
    /// nevertheless.
    ///
    /// # Errors
    /// If that is not known, or not possible now.
    pub fn greet_life(&self, connection: &mut Connection, limit: BootTime) -> Result<()> {
        let Some((key, life)) = connection.new_life.take() else {
            return Ok(());
        };
        let prefix = self.config.prefix.as_bytes();
        let request = pack(&[
            b"EVAL",
            NEW_LIFE.as_bytes(),
            b"1",
            &key,
            life.as_bytes(),
            prefix,
        ]);
        let answer = connection.exchange(&request, limit);
        let Value::ServerError(error) = answer.map_err(|broken| broken.error)? else {
            return Ok(());
        };
        if is_refused_now(&error) {
            return Err(map_error(&error, true));
        }
        if is_unwritable(&error) {
            connection.refuse(error);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{id, is_replica};

    #[test]
    fn a_life_is_named_by_what_replicas_follow() {
        let info = "# Replication\r\nrole:master\r\nmaster_replid:ab12\r\nmaster_replid2:00\r\n";
        assert_eq!(id(info), Some("ab12"));
        assert!(!is_replica(info) && is_replica("role:slave\r\n"));
        assert_eq!(id("role:master\r\nmaster_replid:\r\n"), None);
        assert_eq!(id(""), None);
    }
}
