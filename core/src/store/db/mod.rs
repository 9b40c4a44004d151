//! Clients of PostgreSQL and MySQL/MariaDB, for every store that keeps its locks there.
//!
//! A small seam: SQL and parameters in, rows out, over the byte streams of `net`, so that every wait is
//! bounded by a deadline, no signal reaches the host, and no child inherits a connection. `start` and
//! `finish` take an exchange apart, so that a thread can wait for a server's answer and for other
//! things at once.
//!
//! ```text
//! let mut connection = Connection::open(&config, deadline)?;
//! let rows = connection.query("SELECT expires FROM locks WHERE name = $1", &[Value::Bytes(name)], deadline)?;
//! ```
//! PostgreSQL counts its parameters (`$1`), MySQL writes `?`. A [`Fault`] tells what the server said,
//! and whether the connection can be used again; if not, whoever has it drops it.

mod config;
mod fault;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(feature = "postgres")]
mod postgres;
mod rows;
#[cfg(test)]
mod tests;

#[cfg(all(feature = "fuzz", feature = "mysql"))]
pub use mysql::read_noise as read_mysql_noise;
#[cfg(all(feature = "fuzz", feature = "postgres"))]
pub use postgres::read_noise as read_postgres_noise;

pub(crate) use config::{Config, Engine};
pub(crate) use fault::Fault;
pub(crate) use rows::{Row, Rows, Value};

use crate::Result;
use crate::lease::BootTime;
use std::os::fd::RawFd;

/// Bytes of the longest message that is believed; answers are a few lines.
const LONGEST: usize = 16 * 1024 * 1024;

/// What came without having been asked for: `LISTEN` on PostgreSQL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Notice {
    pub channel: String,
    pub payload: String,
}

/// One session on a server. An exchange that failed in any other way than by the server's own word
/// makes it unusable.
#[derive(Debug)]
pub(crate) enum Connection {
    #[cfg(feature = "postgres")]
    Postgres(Box<postgres::Postgres>),
    #[cfg(feature = "mysql")]
    Mysql(Box<mysql::Mysql>),
}

macro_rules! each {
    ($self:expr, $connection:ident => $body:expr) => {
        match $self {
            #[cfg(feature = "postgres")]
            Connection::Postgres($connection) => $body,
            #[cfg(feature = "mysql")]
            Connection::Mysql($connection) => $body,
        }
    };
}

impl Connection {
    /// Connects and logs in.
    ///
    /// # Errors
    /// `Unavailable`, `Permission`, `InvalidUrl` (no such database), `Exhausted`, `Protocol`.
    pub fn open(config: &Config, deadline: BootTime) -> Result<Self> {
        let deadline = deadline.min(BootTime::now().after(config.connect_timeout));
        match config.engine {
            #[cfg(feature = "postgres")]
            Engine::Postgres => postgres::Postgres::open(config, deadline)
                .map(|made| Self::Postgres(Box::new(made))),
            #[cfg(feature = "mysql")]
            Engine::Mysql => {
                mysql::Mysql::open(config, deadline).map(|made| Self::Mysql(Box::new(made)))
            }
            #[cfg(not(all(feature = "postgres", feature = "mysql")))]
            _ => Err(crate::Error::outcome(crate::Code::NotInBuild)),
        }
    }

    /// Sends one statement and reads its rows.
    pub fn query(
        &mut self,
        sql: &str,
        params: &[Value<'_>],
        deadline: BootTime,
    ) -> std::result::Result<Rows, Fault> {
        self.start(sql, params, deadline)?;
        match self.finish(deadline) {
            // It did nothing; from now on the session prepares no statements.
            Err(fault) if fault.usable && fault.is_of_another_session() => {
                self.start(sql, params, deadline)?;
                self.finish(deadline)
            }
            done => done,
        }
    }

    /// Sends one statement; the next exchange must be its `finish`.
    pub fn start(
        &mut self,
        sql: &str,
        params: &[Value<'_>],
        deadline: BootTime,
    ) -> std::result::Result<(), Fault> {
        each!(self, connection => connection.start(sql, params, deadline))
    }

    /// Waits for the answer to what was sent; if it is late, it may be waited for again.
    pub fn finish(&mut self, deadline: BootTime) -> std::result::Result<Rows, Fault> {
        each!(self, connection => connection.finish(deadline))
    }

    /// The answer to what was sent, if it has arrived; never waits.
    pub fn finish_now(&mut self) -> std::result::Result<Option<Rows>, Fault> {
        each!(self, connection => connection.finish_now())
    }

    /// Several statements without parameters or rows, in one exchange where the server can.
    pub fn batch(
        &mut self,
        statements: &[&str],
        deadline: BootTime,
    ) -> std::result::Result<(), Fault> {
        each!(self, connection => connection.batch(statements, deadline))
    }

    /// On PostgreSQL: from now on this statement goes before each other one, in the same transaction and message.
    pub fn put_before_each(&mut self, sql: &'static str) {
        match self {
            #[cfg(feature = "postgres")]
            Connection::Postgres(connection) => connection.put_before_each(sql),
            #[cfg(feature = "mysql")]
            Connection::Mysql(_) => {
                let _ = sql;
            }
        }
    }

    /// Whether it is open and nothing has arrived that nobody asked for; takes in notices.
    pub fn is_quiet(&mut self) -> bool {
        each!(self, connection => connection.is_quiet())
    }

    /// What has come of `LISTEN`.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        each!(self, connection => connection.take_notices())
    }

    /// Number of the session on the server (`pg_backend_pid()`, `CONNECTION_ID()`).
    pub fn session(&self) -> i64 {
        each!(self, connection => connection.session())
    }

    /// What the server says of its version.
    pub fn version(&self) -> &str {
        each!(self, connection => connection.version())
    }

    /// Which server it is; MariaDB counts as MySQL.
    pub fn is_mariadb(&self) -> bool {
        self.version().contains("MariaDB")
    }

    /// Readable when an answer, a notice or the end has arrived.
    pub fn fd(&self) -> RawFd {
        each!(self, connection => connection.fd())
    }
}
