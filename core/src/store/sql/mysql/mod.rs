//! MySQL and MariaDB: a grant and a release are one statement each, whose answer says by
//! `LAST_INSERT_ID` or by the rows changed whether it acted; a refusal takes a read beside it. Waiters
//! poll, by a read that locks nothing.

use super::book::Row;
use super::config::{Common, TABLE, quoted, take_table};
use super::engine::{Engine, Grab, Id, Listed, Swap, Traits, Wrote};
use super::limit::Limit;
use super::native::Native;
use super::peer::{self, Kind};
use super::server::{Server, listed, number, odd, read_row};
use crate::capability::Scope;
use crate::lease::BootTime;
use crate::store::Backend;
use crate::store::db::{self, Config, Value};
use crate::url::Url;
use crate::{Code, Result};
use std::sync::Arc;

/// The server's time; not by way of its time zone, which may leap.
const NOW: &str = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))";

/// Opens a `mysql:` or `mariadb:` URL; connects to nothing.
///
/// # Errors
/// `InvalidUrl`, `InvalidArgument`.
pub fn open(url: &mut Url) -> Result<Arc<dyn Backend>> {
    let config = Config::read(url, db::Engine::Mysql)?;
    if config.database.is_none() {
        return Err(crate::Error::new(
            crate::Code::InvalidUrl,
            "the URL lacks the database: write `mysql://user@host/database`",
        ));
    }
    let place = format!("mysql:{}", config.place());
    if let Some(dialect) = peer::take_dialect(url)? {
        return peer::open(url, dialect, Kind::Mysql, &place, |ddl| {
            Server::new(config, ddl)
        });
    }
    let table = take_table(url, TABLE)?;
    let fingerprint = format!("{place}#{table}");
    let engine = Mysql::new(config, &table);
    let common = Common::read(url, fingerprint, table)?;
    Ok(Arc::new(Native::new(engine, common)))
}

#[derive(Debug)]
struct Mysql {
    server: Server,
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

impl Mysql {
    fn new(config: Config, table: &str) -> Self {
        let whole = |text: &str| {
            text.replace("{table}", &quoted(table, '`'))
                .replace("{now}", NOW)
        };
        Mysql {
            server: Server::new(config, super::ddl("mysql", table).unwrap_or_default()),
            sql: Sql {
                grab: whole(include_str!("grab.sql")),
                free: whole(include_str!("free.sql")),
                touch: whole(include_str!("touch.sql")),
                read: whole(include_str!("read.sql")),
                swap: whole(include_str!("swap.sql")),
                list: whole(include_str!("list.sql")),
                window: whole(include_str!("window.sql")),
                floor: whole(include_str!("floor.sql")),
                purge: whole(include_str!("purge.sql")),
            },
        }
    }

    /// Drops those of some rows that are still free and idle: by their keys, so that no other row is locked.
    fn drop_rows(&self, ids: &[&[u8]], more: &[Value<'_>; 2], limit: Limit) -> Result<()> {
        let more_keys = " UNION ALL SELECT ?".repeat(ids.len().saturating_sub(1));
        let keys = format!("SELECT ? AS id{more_keys}");
        let sql = self.sql.purge.replace("{keys}", &keys);
        let ids = ids.iter().map(|id| Value::Bytes(id));
        let params: Vec<_> = ids.chain(more.iter().copied()).collect();
        self.server.query(&sql, &params, limit).map(drop)
    }

    /// A statement that acted on one row, or what that says.
    fn write(&self, sql: &str, params: &[Value<'_>], id: &Id, limit: Limit) -> Result<Wrote<()>> {
        match self.server.query(sql, params, limit)?.affected {
            0 => Ok(Wrote::Found(self.read(id, limit)?)),
            _ => Ok(Wrote::Done(())),
        }
    }
}

impl Engine for Mysql {
    fn traits(&self) -> Traits {
        Traits {
            store: "mysql",
            scope: Scope::Cluster,
            clock: "server",
            wakes: false,
        }
    }

    fn limit(&self, deadline: Option<BootTime>) -> Limit {
        self.server.limit(deadline)
    }

    fn ping(&self, limit: Limit) -> Result<()> {
        self.server.ping(limit)
    }

    fn take_caution(&self) -> Option<String> {
        self.server.config.cautions.take()
    }

    fn clock(&self, limit: Limit) -> Result<i64> {
        self.server.number(&format!("SELECT {NOW}"), limit)
    }

    fn create_table(&self, limit: Limit) -> Result<()> {
        self.server.create_table(limit)
    }

    fn grab(&self, grab: &Grab<'_>, limit: Limit) -> Result<Wrote<i64>> {
        if grab.asked_before {
            // Likely refused again: by a read, which is in nobody's way.
            let found = self.read(grab.id, limit)?;
            if found.as_ref().is_some_and(|row| row.until > row.now) {
                return Ok(Wrote::Found(found));
            }
        }
        let params = [
            Value::Bytes(grab.id),
            Value::Bytes(grab.name),
            Value::Int(grab.block),
            Value::Int(grab.ttl),
            Value::Bytes(grab.state.as_bytes()),
            Value::Int(grab.block),
        ];
        match self.server.query(&self.sql.grab, &params, limit)?.last_id {
            // Where a table has triggers, it may say so of what it has granted as well. To be told that the lock is
            // taken then would leave it to nobody.
            0 => match self.read(grab.id, limit) {
                Ok(Some(row)) if row.state == grab.state => Ok(Wrote::Done(row.fence)),
                Err(error) => Err(peer::unread(&error)),
                Ok(found) => Ok(Wrote::Found(found)),
            },
            fence => Ok(Wrote::Done(i64::try_from(fence).map_err(|_| odd())?)),
        }
    }

    fn free(&self, id: &Id, state: &str, limit: Limit) -> Result<Wrote<()>> {
        let params = [Value::Bytes(id), Value::Bytes(state.as_bytes())];
        self.write(&self.sql.free, &params, id, limit)
    }

    fn touch(&self, id: &Id, state: &str, ttl: i64, limit: Limit) -> Result<Wrote<()>> {
        let params = [
            Value::Int(ttl),
            Value::Bytes(id),
            Value::Bytes(state.as_bytes()),
        ];
        self.write(&self.sql.touch, &params, id, limit)
    }

    fn read(&self, id: &Id, limit: Limit) -> Result<Option<Row>> {
        let rows = self
            .server
            .query(&self.sql.read, &[Value::Bytes(id)], limit)?;
        rows.first().map(|row| read_row(row, 0)).transpose()
    }

    fn swap(&self, swap: &Swap<'_>, limit: Limit) -> Result<bool> {
        let params = [
            Value::Int(swap.fence),
            Value::Int(swap.since),
            Value::Int(swap.until),
            Value::Bytes(swap.state.as_bytes()),
            Value::Bytes(swap.id),
            Value::Int(swap.version),
            Value::Int(swap.seen_fence),
        ];
        Ok(self.server.query(&self.sql.swap, &params, limit)?.affected > 0)
    }

    fn list(&self, after: &[u8], prefix: &[u8], limit: usize, until: Limit) -> Result<Vec<Listed>> {
        let int = |number: usize| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
        let params = [
            Value::Bytes(after),
            int(prefix.len()),
            Value::Bytes(prefix),
            int(limit),
        ];
        let rows = self.server.query(&self.sql.list, &params, until)?;
        rows.rows.iter().map(listed).collect()
    }

    fn purge(&self, after: &Id, idle: i64, limit: Limit) -> Result<()> {
        let (after, idle) = (Value::Bytes(after), Value::Int(idle));
        let found = self.server.query(&self.sql.window, &[after, idle], limit)?;
        let mut old = Vec::new();
        let mut fence = 0;
        for row in &found.rows {
            old.push(row.bytes(0)?.ok_or_else(odd)?);
            fence = fence.max(number(row, 1)?);
        }
        if old.is_empty() {
            return Ok(());
        }
        let fence = Value::Int(fence);
        self.server.query(&self.sql.floor, &[fence], limit)?;
        // Nobody is waited for with rows locked: those who work on other rows would wait too.
        match self.drop_rows(&old, &[idle, fence], limit.once()) {
            Err(error) if error.code() == Code::Busy => {}
            done => return done,
        }
        for id in old {
            match self.drop_rows(&[id], &[idle, fence], limit.once()) {
                // Somebody works on it: another time.
                Err(error) if error.code() == Code::Busy => {}
                done => done?,
            }
        }
        Ok(())
    }
}
