//! Exchanges with a server that has a table of locks: kept connections, statements that were in
//! another one's way, a table that is not there yet.

use super::book;
use super::engine::Listed;
use super::limit::Limit;
use super::peer::{Database, Outcome, Param};
use crate::fork::PerProcess;
use crate::lease::BootTime;
use crate::store::cautions::Cautions;
use crate::store::db::{Config, Connection, Engine, Fault, Row, Rows, Value};
use crate::sync::Mutex;
use crate::{Code, Error, Result};
use std::time::Duration;

/// What a session on PostgreSQL begins with: short waits for others' transactions, after which a statement has done
/// nothing and is sent again; and no failures for want of an order of transactions, of which each statement is
/// one. Both only for the statement if the session is not ours, which a pooler's is not.
const POSTGRES: &str = "SELECT is_ours, set_config('lock_timeout', '25', NOT is_ours), \
    set_config('default_transaction_isolation', 'read committed', NOT is_ours) \
    FROM (SELECT pg_backend_pid() = $1::bigint AS is_ours) AS session";
/// Before each statement in a session that is a pooler's.
const POSTGRES_EACH: &str = "SELECT set_config('lock_timeout', '25', true)";
/// The same on MySQL, which counts whole seconds; MariaDB does not wait at all, except where a statement says so for
/// itself: that goes to the replicas too. Whatever the server's default, each statement is a transaction.
const MYSQL: &str = "SET autocommit = 1, innodb_lock_wait_timeout = 1 /*M!100300 - 1 */, \
    lock_wait_timeout = 1 /*M!100300 - 1 */";

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

    pub fn limit(&self, deadline: Option<BootTime>) -> Limit {
        self.config.limit(deadline).into()
    }

    fn take(&self, limit: Limit) -> Result<Connection> {
        loop {
            let kept = self.idle.get_or_init(Mutex::default).lock().pop();
            match kept {
                None => return self.open(limit.end),
                Some(mut connection) => {
                    // Else the server has closed it, by a restart for instance: nothing is lost yet.
                    if connection.is_quiet() || cfg!(canary = "keep_broken") {
                        return Ok(connection);
                    }
                }
            }
        }
    }

    fn open(&self, end: BootTime) -> Result<Connection> {
        let mut connection = Connection::open(&self.config, end)?;
        if cfg!(canary = "bare_session") {
            return Ok(connection);
        }
        let number = [Value::Int(connection.session())];
        let prepared = match self.config.engine {
            Engine::Postgres => connection.query(POSTGRES, &number, end),
            Engine::Mysql => connection.query(MYSQL, &[], end),
        };
        let rows = prepared.map_err(Fault::before_any_statement)?;
        if self.config.engine == Engine::Postgres && rows.number()? != Some(1) {
            connection.put_before_each(POSTGRES_EACH);
        }
        Ok(connection)
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.get_or_init(Mutex::default).lock();
        if idle.len() < MOST_IDLE {
            idle.push(connection);
        }
    }

    pub fn ping(&self, limit: Limit) -> Result<()> {
        self.query("SELECT 1", &[], limit).map(drop)
    }

    /// The only number that this asks for.
    pub fn number(&self, sql: &str, limit: Limit) -> Result<i64> {
        let number = self.query(sql, &[], limit)?.number();
        let odd = || Error::new(Code::Internal, "a number that is none");
        number.ok().flatten().ok_or_else(odd)
    }

    pub fn create_table(&self, limit: Limit) -> Result<()> {
        let mut connection = self.take(limit)?;
        for statement in self.ddl.split(';').map(str::trim) {
            if statement.is_empty() {
                continue;
            }
            let mut pause = FIRST_PAUSE;
            loop {
                // Not prepared: it comes once, and behind a pooler others have prepared it too.
                match connection.batch(&[statement], limit.end) {
                    // Two who make it at the same time may meet; what counts is that it is there.
                    Err(fault) if matches!(fault.state.as_str(), "23505" | "42P07" | "42710") => {}
                    Err(fault) if fault.is_retriable() && fault.usable && !limit.has_passed() => {
                        wait(&mut pause, limit);
                        continue;
                    }
                    done => done?,
                }
                break;
            }
        }
        self.give_back(connection);
        Ok(())
    }

    /// One statement, again if it was in another one's way; the table is made if it lacks. `Busy` if others were in
    /// its way for longer than the limit lets them.
    pub fn query(&self, sql: &str, params: &[Value<'_>], limit: Limit) -> Result<Rows> {
        let (mut made, mut pause, mut times) = (false, FIRST_PAUSE, 0);
        loop {
            let mut connection = self.take(limit)?;
            let mut answer = connection.query(sql, params, limit.end);
            if let (Err(fault), Some(end)) = (&answer, limit.last_words())
                && fault.late
            {
                answer = connection.finish(end);
            }
            let fault = match answer {
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
            times += 1;
            if fault.is_missing_table() && !made {
                self.create_table(limit.end.into())?;
                made = true;
            } else if fault.is_retriable() && limit.is_over_after(times) {
                return Err(Error::outcome(Code::Busy));
            } else if (fault.is_retriable() || unprepared) && !limit.has_passed() {
                wait(&mut pause, limit);
            } else {
                return Err(fault.into());
            }
        }
    }
}

/// Between two times that a statement was in another one's way.
fn wait(pause: &mut Duration, limit: Limit) {
    std::thread::sleep((*pause).min(limit.left()));
    *pause = (*pause * 2).min(LONGEST_PAUSE);
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
    fn limit(&self, deadline: Option<BootTime>) -> Limit {
        Server::limit(self, deadline)
    }

    fn ask(&self, sql: &str, params: &[Param<'_>], limit: Limit) -> Result<Outcome> {
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

    fn create_table(&self, limit: Limit) -> Result<()> {
        Server::create_table(self, limit)
    }

    fn ping(&self, limit: Limit) -> Result<()> {
        Server::ping(self, limit)
    }

    fn cautions(&self) -> Option<&Cautions> {
        Some(&self.config.cautions)
    }
}
