//! PostgreSQL: each verb is one statement, waiters are told by `NOTIFY`.

mod listener;

use super::book::{Note, Row};
use super::config::{Common, TABLE, quoted, take_table};
use super::engine::{Engine, Grab, Id, Listed, Swap, Traits, Wrote};
use super::limit::Limit;
use super::native::Native;
use super::peer::{self, Kind};
use super::server::{Server, listed, number, odd, read_row};
use crate::Result;
use crate::capability::Scope;
use crate::fork::PerProcess;
use crate::lease::BootTime;
use crate::owner::OwnerToken;
use crate::signal::{Signal, Wake};
use crate::store::Backend;
use crate::store::db::{self, Config, Rows, Value};
use crate::url::Url;
use listener::Listener;
use std::os::fd::RawFd;
use std::sync::Arc;

/// Opens a `postgres:` URL; connects to nothing.
///
/// # Errors
/// `InvalidUrl`, `InvalidArgument`.
pub fn open(url: &mut Url) -> Result<Arc<dyn Backend>> {
    let config = Config::read(url, db::Engine::Postgres)?;
    let place = format!("postgres:{}", config.place());
    if let Some(dialect) = peer::take_dialect(url)? {
        return peer::open(url, dialect, Kind::Postgres, &place, |ddl| {
            Server::new(config, ddl)
        });
    }
    let table = take_table(url, TABLE)?;
    let fingerprint = format!("{place}#{table}");
    let engine = Postgres::new(config, &table);
    let common = Common::read(url, fingerprint, table)?;
    Ok(Arc::new(Native::new(engine, common)))
}

#[derive(Debug)]
struct Postgres {
    server: Server,
    listener: PerProcess<Listener>,
    sql: Sql,
}

const CLOCK: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// The statements, with the table's name in them.
#[derive(Debug)]
struct Sql {
    grab: String,
    free: String,
    touch: String,
    read: String,
    swap: String,
    swap_and_tell: String,
    list: String,
    window: String,
    floor: String,
    purge: String,
}

impl Postgres {
    fn new(config: Config, table: &str) -> Self {
        let with_table = |text: &str| text.replace("{table}", &quoted(table, '"'));
        Postgres {
            server: Server::new(config, super::ddl("postgres", table).unwrap_or_default()),
            listener: PerProcess::new(),
            sql: Sql {
                grab: with_table(include_str!("grab.sql")),
                free: with_table(include_str!("free.sql")),
                touch: with_table(include_str!("touch.sql")),
                read: with_table(include_str!("read.sql")),
                swap: with_table(include_str!("swap.sql")),
                swap_and_tell: with_table(include_str!("swap_and_tell.sql")),
                list: with_table(include_str!("list.sql")),
                window: with_table(include_str!("window.sql")),
                floor: with_table(include_str!("floor.sql")),
                purge: with_table(include_str!("purge.sql")),
            },
        }
    }

    fn listener(&self) -> Result<&Listener> {
        self.listener.get_or_try_init(Listener::new)
    }
}

/// `1, …` if it was done, `0, version, fence, since, until, state, now` if not, and nothing if the row
/// is not there or not to be seen yet.
fn wrote<T>(rows: &Rows, done: impl FnOnce(&db::Row) -> Result<T>) -> Result<Wrote<T>> {
    let Some(row) = rows.first() else {
        return Ok(Wrote::Found(None));
    };
    Ok(match number(row, 0)? {
        0 => Wrote::Found(Some(read_row(row, 1)?)),
        _ => Wrote::Done(done(row)?),
    })
}

fn told(notes: &[Note]) -> String {
    let notes: Vec<String> = notes
        .iter()
        .map(|note| format!("{} {}", note.channel, note.token))
        .collect();
    notes.join(",")
}

impl Engine for Postgres {
    fn traits(&self) -> Traits {
        Traits {
            store: "postgres",
            scope: Scope::Cluster,
            clock: "server",
            wakes: true,
        }
    }

    fn limit(&self, deadline: Option<BootTime>) -> Limit {
        self.server.limit(deadline)
    }

    fn ping(&self, limit: Limit) -> Result<()> {
        self.server.ping(limit)
    }

    fn clock(&self, limit: Limit) -> Result<i64> {
        self.server.number(CLOCK, limit)
    }

    fn create_table(&self, limit: Limit) -> Result<()> {
        self.server.create_table(limit)
    }

    fn grab(&self, grab: &Grab<'_>, limit: Limit) -> Result<Wrote<i64>> {
        let params = [
            Value::Bytes(grab.id),
            Value::Bytes(grab.name),
            Value::Int(grab.block),
            Value::Int(grab.ttl),
            Value::Bytes(grab.state.as_bytes()),
        ];
        let rows = self.server.query(&self.sql.grab, &params, limit)?;
        wrote(&rows, |row| number(row, 2))
    }

    fn free(&self, id: &Id, state: &str, limit: Limit) -> Result<Wrote<()>> {
        let params = [Value::Bytes(id), Value::Bytes(state.as_bytes())];
        let rows = self.server.query(&self.sql.free, &params, limit)?;
        wrote(&rows, |_| Ok(()))
    }

    fn touch(&self, id: &Id, state: &str, ttl: i64, limit: Limit) -> Result<Wrote<()>> {
        let params = [
            Value::Bytes(id),
            Value::Bytes(state.as_bytes()),
            Value::Int(ttl),
        ];
        let rows = self.server.query(&self.sql.touch, &params, limit)?;
        wrote(&rows, |_| Ok(()))
    }

    fn read(&self, id: &Id, limit: Limit) -> Result<Option<Row>> {
        let rows = self
            .server
            .query(&self.sql.read, &[Value::Bytes(id)], limit)?;
        rows.first().map(|row| read_row(row, 1)).transpose()
    }

    fn swap(&self, swap: &Swap<'_>, limit: Limit) -> Result<bool> {
        let notes = told(swap.notes);
        let params = [
            Value::Bytes(swap.id),
            Value::Int(swap.version),
            Value::Int(swap.fence),
            Value::Int(swap.since),
            Value::Int(swap.until),
            Value::Bytes(swap.state.as_bytes()),
            Value::Int(swap.seen_fence),
            Value::Text(&notes),
        ];
        let rows = if notes.is_empty() {
            self.server.query(&self.sql.swap, &params[..7], limit)?
        } else {
            self.server.query(&self.sql.swap_and_tell, &params, limit)?
        };
        Ok(rows.first().is_some())
    }

    fn list(&self, after: &[u8], prefix: &[u8], limit: usize, until: Limit) -> Result<Vec<Listed>> {
        let int = |number: usize| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
        let params = [
            Value::Bytes(after),
            Value::Bytes(prefix),
            int(prefix.len()),
            int(limit),
        ];
        let rows = self.server.query(&self.sql.list, &params, until)?;
        rows.rows.iter().map(listed).collect()
    }

    fn purge(&self, after: &Id, idle: i64, limit: Limit) -> Result<()> {
        let (after, idle) = (Value::Bytes(after), Value::Int(idle));
        let found = self.server.query(&self.sql.window, &[after, idle], limit)?;
        let Some(row) = found.first() else {
            return Ok(());
        };
        let (last, fence) = (row.text(0)?.ok_or_else(odd)?, Value::Int(number(row, 1)?));
        self.server.query(&self.sql.floor, &[fence], limit)?;
        let params = [after, Value::Text(last), idle, fence];
        self.server.query(&self.sql.purge, &params, limit).map(drop)
    }

    fn listens(&self) -> bool {
        self.listener.get().is_some_and(Listener::stands)
    }

    fn channel(&self, limit: Limit) -> Result<Option<&str>> {
        self.listener()?.ensure(&self.server.config, limit.end)
    }

    fn register(&self, token: OwnerToken, bell: &Arc<Signal>) {
        if let Some(listener) = self.listener.get() {
            listener.register(token, bell);
        }
    }

    fn unregister(&self, token: OwnerToken) {
        if let Some(listener) = self.listener.get() {
            listener.unregister(token);
        }
    }

    fn park(&self, bell: &Arc<Signal>, until: BootTime) -> Result<Wake> {
        match self.listener.get() {
            Some(listener) if listener.stands() => listener.park(bell, until),
            _ => Ok(bell.sleep(until)),
        }
    }

    fn pump_fd(&self) -> Option<RawFd> {
        self.listener.get()?.fd()
    }

    fn pump(&self) {
        if let Some(listener) = self.listener.get() {
            listener.pump();
        }
    }

    fn take_caution(&self) -> Option<String> {
        let pooled = self.listener.get().and_then(Listener::take_caution);
        pooled.or_else(|| self.server.config.cautions.take())
    }
}
