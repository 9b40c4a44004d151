//! Exchanges with a server that has a table of locks: kept connections, statements that were in
//! another one's way, a table that is not there yet.

use super::book;
use super::engine::Listed;
use super::peer::{Database, Outcome, Param};
use crate::fork::PerProcess;
use crate::lease::BootTime;
use crate::store::cautions::Cautions;
use crate::store::db::{Config, Connection, Row, Rows, Value};
use crate::sync::Mutex;
use crate::{Code, Error, Result};
use std::time::Duration;

/// Idle connections kept per process.
const MOST_IDLE: usize = 16;
/// Between statements that were in another one's way: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_micros(500);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Server {
    pub config: Config,
    /// Makes the table.
    pub ddl: String,
    idle: PerProcess<Mutex<Vec<Connection>>>,
}

impl Server {
    pub fn new(config: Config, ddl: String) -> Self {
        Server {
            config,
            ddl,
            idle: PerProcess::new(),
        }
    }

    pub fn limit(&self, deadline: Option<BootTime>) -> BootTime {
        self.config.limit(deadline)
    }

    fn take(&self, limit: BootTime) -> Result<Connection> {
        loop {
            let kept = self.idle.get_or_init(Mutex::default).lock().pop();
            match kept {
                None => return Connection::open(&self.config, limit),
                Some(mut connection) => {
                    // Else the server has closed it, by a restart for instance: nothing is lost yet.
                    if connection.is_quiet() || cfg!(canary = "keep_broken") {
                        return Ok(connection);
                    }
                }
            }
        }
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.get_or_init(Mutex::default).lock();
        if idle.len() < MOST_IDLE {
            idle.push(connection);
        }
    }

    pub fn ping(&self, limit: BootTime) -> Result<()> {
        self.query("SELECT 1", &[], limit).map(drop)
    }

    pub fn create_table(&self, limit: BootTime) -> Result<()> {
        let mut connection = self.take(limit)?;
        for statement in self.ddl.split(';').map(str::trim) {
            if statement.is_empty() {
                continue;
            }
            // Not prepared: it comes once, and behind a pooler others have prepared it too.
            match connection.batch(&[statement], limit) {
                // Two who make it at the same time may meet; what counts is that it is there.
                Err(fault)
                    if fault.is_retriable()
                        || matches!(fault.state.as_str(), "23505" | "42P07" | "42710") => {}
                done => done?,
            }
        }
        self.give_back(connection);
        Ok(())
    }

    /// One statement, again if it was in another one's way; the table is made if it lacks.
    pub fn query(&self, sql: &str, params: &[Value<'_>], limit: BootTime) -> Result<Rows> {
        let (mut made, mut pause) = (false, FIRST_PAUSE);
        loop {
            let mut connection = self.take(limit)?;
            let fault = match connection.query(sql, params, limit) {
                Ok(rows) => {
                    self.give_back(connection);
                    return Ok(rows);
                }
                Err(fault) => fault,
            };
            // Behind a pooler the statement was prepared in another session: it has not run.
            let unprepared = matches!(fault.state.as_str(), "26000" | "42P05");
            // One that takes no writes may lead to a server that was replaced: the next leads to its successor.
            let is_good = fault.usable && !fault.is_read_only();
            if is_good || cfg!(canary = "keep_broken") {
                self.give_back(connection);
            }
            if fault.is_missing_table() && !made {
                self.create_table(limit)?;
                made = true;
            } else if (fault.is_retriable() || unprepared) && !limit.has_passed() {
                std::thread::sleep(pause.min(limit.left()));
                pause = (pause * 2).min(LONGEST_PAUSE);
            } else {
                return Err(fault.into());
            }
        }
    }
}

/// A number that must be there.
pub(super) fn number(row: &Row, index: usize) -> Result<i64> {
    row.int(index)?.ok_or_else(odd)
}

pub(super) fn odd() -> Error {
    Error::new(Code::Protocol, "a row of the table lacks a value")
}

/// The columns version, fence, since, until, state, now from `at` on.
pub(super) fn read_row(row: &Row, at: usize) -> Result<book::Row> {
    Ok(book::Row {
        version: number(row, at)?,
        fence: number(row, at + 1)?,
        since: number(row, at + 2)?,
        until: number(row, at + 3)?,
        state: String::from_utf8_lossy(row.bytes(at + 4)?.ok_or_else(odd)?).into_owned(),
        now: number(row, at + 5)?,
    })
}

/// The columns id and name, and those of `read_row`.
pub(super) fn listed(row: &Row) -> Result<Listed> {
    let bytes = |index| -> Result<Vec<u8>> { Ok(row.bytes(index)?.ok_or_else(odd)?.to_vec()) };
    Ok(Listed {
        id: bytes(0)?,
        name: bytes(1)?,
        row: read_row(row, 2)?,
    })
}

impl Database for Server {
    fn limit(&self, deadline: Option<BootTime>) -> BootTime {
        Server::limit(self, deadline)
    }

    fn ask(&self, sql: &str, params: &[Param<'_>], limit: BootTime) -> Result<Outcome> {
        let params: Vec<Value<'_>> = params
            .iter()
            .map(|param| match param {
                Param::Int(number) => Value::Int(*number),
                Param::Text(text) => Value::Text(text),
            })
            .collect();
        let answer = self.query(sql, &params, limit)?;
        let rows = answer.rows.iter().map(|row| {
            (0..row.width())
                .map(|index| {
                    let bytes = row.bytes(index)?;
                    Ok(bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
                })
                .collect::<Result<Vec<_>>>()
        });
        Ok(Outcome {
            rows: rows.collect::<Result<_>>()?,
            affected: answer.affected,
        })
    }

    fn create_table(&self, limit: BootTime) -> Result<()> {
        Server::create_table(self, limit)
    }

    fn ping(&self, limit: BootTime) -> Result<()> {
        Server::ping(self, limit)
    }

    fn cautions(&self) -> Option<&Cautions> {
        Some(&self.config.cautions)
    }
}
