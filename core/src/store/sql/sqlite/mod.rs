//! SQLite: a file on this host. No server and no round trips, so a busy lock is seen by a read alone,
//! which waits for nobody; writers wait for each other, an attempt for a moment and the others within the caller's time.
//!
//! Time is the host's wall clock, as for everybody else who opens the file.

mod gate;
mod path;
mod pool;
#[cfg(test)]
mod tests;

use super::book::Row;
use super::config::{Common, TABLE, quoted, take_table};
use super::engine::{Engine, Grab, Id, Listed, Swap, Traits, Wrote};
use super::limit::Limit;
use super::native::Native;
use super::peer::{self, Database, Kind, Outcome, Param};
use crate::capability::Scope;
use crate::codes::Code;
use crate::lease::BootTime;
use crate::store::Backend;
use crate::url::Url;
use crate::{Error, Result};
use gate::Pass;
use pool::Source;
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OptionalExtension, params, params_from_iter};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Opens a `sqlite:` URL; opens no file.
///
/// # Errors
/// `InvalidUrl`, `InvalidArgument`, `Unsupported` for a database in memory.
pub fn open(url: &mut Url) -> Result<Arc<dyn Backend>> {
    let path = path::take(url, "sqlite:/path/to/locks.db")?;
    let full_sync = match url.take("sync").as_deref() {
        None | Some("normal") => false,
        Some("full") => true,
        Some(_) => return Err(Error::invalid("the option `sync` is normal or full")),
    };
    let dialect = peer::take_dialect(url)?;
    let source = Source {
        path,
        wal: dialect.is_none(),
        full_sync,
        allow_network_fs: url.take_bool("allow_network_fs")?.unwrap_or(false),
    };
    let io_timeout = url
        .take_millis("io_timeout")?
        .unwrap_or(Duration::from_secs(2));
    let place = format!("sqlite:{}", source.path);
    if let Some(dialect) = dialect {
        return peer::open(url, dialect, Kind::Sqlite, &place, |ddl| File {
            source,
            io_timeout,
            ddl,
        });
    }
    let table = take_table(url, TABLE)?;
    let fingerprint = format!("{place}#{table}");
    let engine = Sqlite::new(source, &table, io_timeout);
    let common = Common::read(url, fingerprint, table)?;
    Ok(Arc::new(Native::new(engine, common)))
}

/// A file with a table, which is made if it lacks.
#[derive(Debug)]
struct File {
    source: Source,
    io_timeout: Duration,
    ddl: String,
}

#[derive(Debug)]
struct Sqlite {
    file: File,
    sql: Sql,
}

/// The statements, with the table's name in them.
#[derive(Debug)]
struct Sql {
    grab: String,
    free: String,
    touch: String,
    read: String,
    swap: String,
    list: String,
    window: String,
    floor: String,
    purge: String,
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX / 4)
    })
}

/// What an error of SQLite means, other than that the file is locked.
fn trouble(error: &rusqlite::Error) -> Error {
    let code = match error.sqlite_error_code() {
        Some(
            ErrorCode::PermissionDenied
            | ErrorCode::ReadOnly
            | ErrorCode::CannotOpen
            | ErrorCode::AuthorizationForStatementDenied,
        ) => Code::Permission,
        Some(ErrorCode::DiskFull | ErrorCode::OutOfMemory | ErrorCode::TooBig) => Code::Exhausted,
        Some(ErrorCode::SystemIoFailure | ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Code::Storage
        }
        _ => Code::Protocol,
    };
    Error::new(code, format!("SQLite: {error}"))
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

fn lacks_table(error: &rusqlite::Error) -> bool {
    error.to_string().contains("no such table")
}

/// How an operation ended on its connection.
enum Ended<T> {
    With(T),
    /// Its last statement has done nothing: one that gets no lock at its commit is rolled back.
    Busy,
    NoTable,
    Failed(Error),
}

impl File {
    fn once<T>(&self, work: &mut impl FnMut(&Connection) -> rusqlite::Result<T>) -> Ended<T> {
        let _pass = match Pass::get() {
            Ok(pass) => pass,
            Err(error) => return Ended::Failed(error),
        };
        let kept = match pool::take(&self.source) {
            Some(kept) => kept,
            None => {
                let file = match pool::prepare(&self.source) {
                    Ok(file) => file,
                    Err(error) => return Ended::Failed(error),
                };
                match pool::open(&self.source, file) {
                    Ok(kept) => kept,
                    Err(error) if is_busy(&error) => return Ended::Busy,
                    Err(error) => return Ended::Failed(trouble(&error)),
                }
            }
        };
        match work(&kept.connection) {
            Ok(done) => {
                pool::give_back(&self.source, kept);
                Ended::With(done)
            }
            Err(error) if is_busy(&error) => {
                pool::give_back(&self.source, kept);
                Ended::Busy
            }
            Err(error) if lacks_table(&error) => {
                pool::give_back(&self.source, kept);
                Ended::NoTable
            }
            // A connection that failed otherwise is closed.
            Err(error) => Ended::Failed(trouble(&error)),
        }
    }

    /// Works on a connection, again and again while others write; makes the table if it lacks. `Busy` if others keep
    /// the file for longer than an attempt lets them.
    fn run<T>(
        &self,
        limit: Limit,
        mut work: impl FnMut(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let (mut made, mut times) = (false, 0);
        let mut pause = Duration::from_micros(100);
        loop {
            match self.once(&mut work) {
                Ended::With(done) => return Ok(done),
                Ended::Failed(error) => return Err(error),
                Ended::NoTable if made => {
                    return Err(Error::new(
                        Code::Protocol,
                        "the table is not there although it was made just now",
                    ));
                }
                Ended::NoTable => {
                    self.create_table(limit)?;
                    made = true;
                }
                Ended::Busy => {
                    times += 1;
                    if limit.is_spent_after(times) {
                        return Err(if limit.is_brief() {
                            Error::outcome(Code::Busy)
                        } else {
                            Error::new(
                                Code::Unavailable,
                                "another program keeps the database locked",
                            )
                        });
                    }
                    if !Pass::is_wanted_back() {
                        std::thread::sleep(spread(pause).min(limit.left()));
                        pause = (pause * 2).min(Duration::from_millis(5));
                    }
                }
            }
        }
    }

    fn limit(&self, deadline: Option<BootTime>) -> Limit {
        let own = BootTime::now().after(self.io_timeout);
        deadline.map_or(own, |deadline| deadline.min(own)).into()
    }

    fn ping(&self, limit: Limit) -> Result<()> {
        self.run(limit, |connection| {
            connection.query_row("PRAGMA schema_version", [], |_| Ok(()))
        })
    }

    fn create_table(&self, limit: Limit) -> Result<()> {
        self.run(limit, |connection| connection.execute_batch(&self.ddl))
    }
}

impl Sqlite {
    fn new(source: Source, table: &str, io_timeout: Duration) -> Self {
        let with_table = |text: &str| text.replace("{table}", &quoted(table, '"'));
        Sqlite {
            file: File {
                source,
                io_timeout,
                ddl: super::ddl("sqlite", table).unwrap_or_default(),
            },
            sql: Sql {
                grab: with_table(include_str!("grab.sql")),
                free: with_table(include_str!("free.sql")),
                touch: with_table(include_str!("touch.sql")),
                read: with_table(include_str!("read.sql")),
                swap: with_table(include_str!("swap.sql")),
                list: with_table(include_str!("list.sql")),
                window: with_table(include_str!("window.sql")),
                floor: with_table(include_str!("floor.sql")),
                purge: with_table(include_str!("purge.sql")),
            },
        }
    }

    fn read_on(&self, connection: &Connection, id: &Id) -> rusqlite::Result<Option<Row>> {
        let row = connection
            .prepare_cached(&self.sql.read)?
            .query_row(params![&id[..]], |row| read_row(row, 0))
            .optional()?;
        // Read after the row: what had ended then has ended now.
        Ok(row.map(|row| Row { now: now(), ..row }))
    }
}

/// Between half of it and all of it, differently for each thread and time.
fn spread(pause: Duration) -> Duration {
    static TURN: AtomicU32 = AtomicU32::new(0);
    let turn = TURN
        .fetch_add(1, Ordering::Relaxed)
        .wrapping_mul(0x9E37_79B9)
        ^ std::process::id();
    pause / 2 + pause * (turn >> 8 & 0xff) / 512
}

fn read_row(row: &rusqlite::Row<'_>, at: usize) -> rusqlite::Result<Row> {
    let state: Vec<u8> = row.get(at + 4)?;
    Ok(Row {
        version: row.get(at)?,
        fence: row.get(at + 1)?,
        since: row.get(at + 2)?,
        until: row.get(at + 3)?,
        state: String::from_utf8_lossy(&state).into_owned(),
        now: 0,
    })
}

impl Engine for Sqlite {
    fn traits(&self) -> Traits {
        Traits {
            store: "sqlite",
            scope: Scope::Host,
            clock: "host",
            wakes: false,
        }
    }

    fn limit(&self, deadline: Option<BootTime>) -> Limit {
        self.file.limit(deadline)
    }

    fn ping(&self, limit: Limit) -> Result<()> {
        self.file.ping(limit)
    }

    fn clock(&self, _: Limit) -> Result<i64> {
        Ok(now())
    }

    fn create_table(&self, limit: Limit) -> Result<()> {
        self.file.create_table(limit)
    }

    fn grab(&self, grab: &Grab<'_>, limit: Limit) -> Result<Wrote<i64>> {
        self.file.run(limit, |connection| {
            // A reader waits for nobody.
            let found = self.read_on(connection, grab.id)?;
            if found.as_ref().is_some_and(|row| row.until > row.now) {
                return Ok(Wrote::Found(found));
            }
            let now = now();
            let mut statement = connection.prepare_cached(&self.sql.grab)?;
            let until = now.saturating_add(grab.ttl);
            let given = params![
                &grab.id[..],
                grab.name,
                grab.block,
                now,
                until,
                grab.state.as_bytes()
            ];
            let taken = if cfg!(canary = "first_row") {
                statement.query_row(given, |row| row.get(0))
            } else {
                // To its end: only then it has been written, and has failed if the file system is full.
                statement.query_one(given, |row| row.get(0))
            };
            let taken = taken.optional()?;
            match taken {
                Some(fence) => Ok(Wrote::Done(fence)),
                None => Ok(Wrote::Found(self.read_on(connection, grab.id)?)),
            }
        })
    }

    fn free(&self, id: &Id, state: &str, limit: Limit) -> Result<Wrote<()>> {
        self.file.run(limit, |connection| {
            let freed = connection.prepare_cached(&self.sql.free)?.execute(params![
                &id[..],
                state.as_bytes(),
                now()
            ])?;
            match freed {
                0 => Ok(Wrote::Found(self.read_on(connection, id)?)),
                _ => Ok(Wrote::Done(())),
            }
        })
    }

    fn touch(&self, id: &Id, state: &str, ttl: i64, limit: Limit) -> Result<Wrote<()>> {
        self.file.run(limit, |connection| {
            let now = now();
            let touched = connection
                .prepare_cached(&self.sql.touch)?
                .execute(params![
                    &id[..],
                    state.as_bytes(),
                    now,
                    now.saturating_add(ttl)
                ])?;
            match touched {
                0 => Ok(Wrote::Found(self.read_on(connection, id)?)),
                _ => Ok(Wrote::Done(())),
            }
        })
    }

    fn read(&self, id: &Id, limit: Limit) -> Result<Option<Row>> {
        self.file
            .run(limit, |connection| self.read_on(connection, id))
    }

    fn swap(&self, swap: &Swap<'_>, limit: Limit) -> Result<bool> {
        self.file.run(limit, |connection| {
            let written = connection.prepare_cached(&self.sql.swap)?.execute(params![
                &swap.id[..],
                swap.version,
                swap.fence,
                swap.since,
                swap.until,
                swap.state.as_bytes(),
                swap.seen_fence
            ])?;
            Ok(written > 0)
        })
    }

    fn list(&self, after: &[u8], prefix: &[u8], limit: usize, until: Limit) -> Result<Vec<Listed>> {
        self.file.run(until, |connection| {
            let now = now();
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let length = i64::try_from(prefix.len()).unwrap_or(i64::MAX);
            connection
                .prepare_cached(&self.sql.list)?
                .query_map(params![after, prefix, length, now, limit], |row| {
                    Ok(Listed {
                        id: row.get(0)?,
                        name: row.get(1)?,
                        row: Row {
                            now,
                            ..read_row(row, 2)?
                        },
                    })
                })?
                .collect()
        })
    }

    fn purge(&self, after: &Id, idle: i64, limit: Limit) -> Result<()> {
        let before = now().saturating_sub(idle);
        let found: Option<(Vec<u8>, i64)> = self.file.run(limit, |connection| {
            connection
                .prepare_cached(&self.sql.window)?
                .query_row(params![&after[..], before], |row| {
                    Ok((
                        row.get::<_, Option<Vec<u8>>>(0)?,
                        row.get::<_, Option<i64>>(1)?,
                    ))
                })
                .map(|(last, fence)| last.zip(fence))
        })?;
        let Some((last, fence)) = found else {
            return Ok(());
        };
        self.file.run(limit, |connection| {
            connection
                .prepare_cached(&self.sql.floor)?
                .execute(params![fence, now()])?;
            connection
                .prepare_cached(&self.sql.purge)?
                .execute(params![&after[..], last, before, fence])
                .map(drop)
        })
    }
}

impl ToSql for Param<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Param::Int(number) => ToSqlOutput::from(*number),
            Param::Text(text) => ToSqlOutput::from(*text),
        })
    }
}

fn text_of(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => {
            Some(String::from_utf8_lossy(bytes).into_owned())
        }
    }
}

impl Database for File {
    fn limit(&self, deadline: Option<BootTime>) -> Limit {
        File::limit(self, deadline)
    }

    fn ask(&self, sql: &str, given: &[Param<'_>], limit: Limit) -> Result<Outcome> {
        self.run(limit, |connection| {
            let mut statement = connection.prepare_cached(sql)?;
            let width = statement.column_count();
            if width == 0 {
                let affected = statement.execute(params_from_iter(given))?;
                return Ok(Outcome {
                    rows: Vec::new(),
                    affected: affected as u64,
                });
            }
            let rows = statement
                .query_map(params_from_iter(given), |row| {
                    (0..width)
                        .map(|index| Ok(text_of(row.get_ref(index)?)))
                        .collect()
                })?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            Ok(Outcome { rows, affected: 0 })
        })
    }

    fn create_table(&self, limit: Limit) -> Result<()> {
        File::create_table(self, limit)
    }

    fn ping(&self, limit: Limit) -> Result<()> {
        File::ping(self, limit)
    }
}
