//! The tables of peers: Symfony's `lock_keys`, Drupal's `semaphore`, Laravel's `cache_locks`. A row is
//! a key, an owner and an end, so there are exclusive locks with a lease alone, and waiters poll.
//!
//! Symfony's rows follow the database's clock. Drupal's and Laravel's follow the wall clock of whoever
//! writes them, as those peers do: their hosts' clocks must agree.

mod dialect;
mod sql;
mod values;

use super::config::Common;
use super::limit::Limit;
use super::native::{next_poll, read_cursor};
use crate::capability::{Capabilities, Fence, Scope};
use crate::codes::Code;
use crate::lease::BootTime;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::Signal;
use crate::store::cautions::{Cautions, of_clocks};
use crate::store::{
    Answer, Attempt, Backend, Busy, Cancelled, Claim, Grant, Holder, Inspection, Page,
};
use crate::url::Url;
use crate::{Error, Result, hex};
use dialect::Columns;
use sql::{Statement, Statements};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use values::{Values, wall_micros};

pub(super) use dialect::{Dialect, take_dialect};
pub(super) use sql::Kind;
pub(super) use values::Param;

/// How many releases of a process pass between two purges.
const PURGE_EVERY: u32 = 100;

/// What a statement brought: rows of texts, and how many rows it changed.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub rows: Vec<Vec<Option<String>>>,
    pub affected: u64,
}

/// A database that carries statements out.
pub(super) trait Database: Send + Sync + std::fmt::Debug {
    fn limit(&self, deadline: Option<BootTime>) -> Limit;

    /// Runs one statement; the table is made if it lacks.
    fn ask(&self, sql: &str, params: &[Param<'_>], limit: Limit) -> Result<Outcome>;

    fn create_table(&self, limit: Limit) -> Result<()>;

    fn ping(&self, limit: Limit) -> Result<()>;

    /// Where words about its server are kept, if it has one.
    fn cautions(&self) -> Option<&Cautions> {
        None
    }
}

/// A table, and as whom it is used.
#[derive(Debug)]
pub(super) struct Peer<D> {
    table: Arc<Table<D>>,
    /// The session whose id stands in the owner's column.
    session: Option<Arc<str>>,
}

#[derive(Debug)]
pub(super) struct Table<D> {
    database: D,
    kind: Kind,
    dialect: Dialect,
    columns: Columns,
    /// Before the names of a cache.
    prefix: String,
    statements: Statements,
    common: Common,
    releases: AtomicU32,
    /// The clocks of this host and of the server have been compared.
    compared: AtomicBool,
}

impl<D> Deref for Peer<D> {
    type Target = Table<D>;

    fn deref(&self) -> &Table<D> {
        &self.table
    }
}

/// Reads the options that the dialects have, and puts the store over a database that is made with the
/// statements of its table.
pub(super) fn open<D: Database + 'static>(
    url: &mut Url,
    dialect: Dialect,
    kind: Kind,
    place: &str,
    database: impl FnOnce(String) -> D,
) -> Result<Arc<dyn Backend>> {
    let columns = dialect.columns(url)?;
    let prefix = if dialect == Dialect::Laravel {
        url.take("prefix").unwrap_or_default()
    } else {
        String::new()
    };
    let fingerprint = format!("{place}#{}:{}{prefix}", dialect.name(), columns.table);
    let common = Common::read(url, fingerprint, columns.table.clone())?;
    let statements = Statements::new(dialect, kind, &columns);
    let table = Table {
        database: database(sql::ddl(dialect, kind, &columns)),
        kind,
        dialect,
        columns,
        prefix,
        statements,
        common,
        releases: AtomicU32::new(0),
        compared: AtomicBool::new(false),
    };
    Ok(Arc::new(Peer {
        table: Arc::new(table),
        session: None,
    }))
}

/// Seconds as a database writes them.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    Duration::try_from_secs_f64(seconds.clamp(0.0, 1e9)).ok()
}

fn odd() -> Error {
    Error::new(
        Code::Protocol,
        "a row of the table is not as the dialect has it",
    )
}

/// A grant may have gone by unseen.
pub(super) fn unread(error: &Error) -> Error {
    let words = error.message();
    Error::new(
        Code::Uncertain,
        format!("it could not be read whether the lock was granted: {words}"),
    )
}

/// A row that is there: whose it is, and how long it still counts.
struct Found {
    owner: String,
    left: Option<Duration>,
}

impl<D: Database> Peer<D> {
    /// The owner's column for a claim.
    fn owner(&self, token: OwnerToken) -> String {
        match &self.session {
            Some(id) => id.as_ref().to_owned(),
            None => self.dialect.owner(token),
        }
    }

    fn key(&self, name: &Name) -> String {
        self.dialect.key(self.kind, &self.prefix, name)
    }

    fn ask(&self, statement: &Statement, values: &Values<'_>, limit: Limit) -> Result<Outcome> {
        let params: Vec<Param<'_>> = statement.order.iter().map(|word| values.of(word)).collect();
        self.database.ask(&statement.sql, &params, limit)
    }

    fn find(&self, key: &str, limit: Limit) -> Result<Option<Found>> {
        let values = Values::new(key);
        let outcome = self.ask(&self.statements.read, &values, limit)?;
        let Some(row) = outcome.rows.first() else {
            return Ok(None);
        };
        let [Some(owner), Some(left)] = row.as_slice() else {
            return Err(odd());
        };
        let ended = left.starts_with('-') || left.parse::<f64>().map_err(|_| odd())? <= 0.0;
        Ok(Some(Found {
            owner: owner.clone(),
            left: (!ended).then(|| seconds(left)).flatten(),
        }))
    }

    fn look(&self, claim: &Claim) -> Result<Attempt> {
        let before = BootTime::now();
        let limit = self.database.limit(claim.deadline).brief();
        let (key, owner) = (self.key(&claim.name), self.owner(claim.token));
        let ttl = Self::ttl(claim);
        let values = Values::owned(&key, &owner, ttl);
        let granted = Attempt::Granted(Grant {
            lease: Some(before.after(ttl)),
            fence: None,
            recovered: false,
        });
        let taken = self.ask(&self.statements.take, &values, limit)?;
        self.compare_clocks(limit);
        if !taken.rows.is_empty() {
            return Ok(granted);
        }
        // MySQL does not say whether it acted: until it does, the lock may be ours.
        let found = match self.find(&key, limit) {
            Err(error) if self.kind == Kind::Mysql => return Err(unread(&error)),
            found => found?,
        };
        let ours = |found: &Found| found.owner == owner && found.left.is_some();
        if self.kind == Kind::Mysql && found.as_ref().is_some_and(ours) {
            return Ok(granted);
        }
        let left = found.and_then(|found| found.left);
        Ok(self.busy(claim, left))
    }

    fn busy(&self, claim: &Claim, left: Option<Duration>) -> Attempt {
        // A little later, so that the server has surely ended it.
        let ends = |left| BootTime::now().after(left + Duration::from_millis(1));
        Attempt::Busy(Busy {
            until: left.map(ends),
            poll: Some(self.poll(claim)),
            ..Busy::default()
        })
    }

    fn holder(&self, owner: &str, left: Duration) -> Holder {
        let mut shown = owner.to_owned();
        shown.truncate(
            shown
                .char_indices()
                .nth(8)
                .map_or(shown.len(), |(at, _)| at),
        );
        Holder {
            owner: shown,
            mode: "exclusive",
            permits: 1,
            remaining: Some(left),
            brand: OwnerToken::brand_of(owner),
            ..Holder::default()
        }
    }

    /// Once: whether this host's clock, by which its rows end, is the server's. All hosts that are right
    /// are near that one.
    fn compare_clocks(&self, limit: Limit) {
        let sql = match self.kind {
            Kind::Sqlite => return,
            Kind::Postgres => "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1e6 AS bigint)",
            Kind::Mysql => "SELECT TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))",
        };
        if self.dialect == Dialect::Symfony || self.compared.swap(true, Ordering::Relaxed) {
            return;
        }
        let before = wall_micros();
        // What cannot be looked at is not spoken of.
        let Ok(answer) = self.database.ask(sql, &[], limit) else {
            return;
        };
        let theirs = answer.rows.first().and_then(|row| row.first()?.as_deref());
        if let (Some(cautions), Some(Ok(theirs))) =
            (self.database.cautions(), theirs.map(str::parse))
        {
            cautions.add(of_clocks(before, theirs, wall_micros()));
        }
    }

    fn purge_now_and_then(&self) {
        if self.common.purge_after.is_zero() {
            return;
        }
        let releases = self.releases.fetch_add(1, Ordering::Relaxed);
        if releases % PURGE_EVERY == PURGE_EVERY - 1 {
            let soon = BootTime::now().after(Duration::from_millis(200));
            // What cannot be dropped now can be later.
            let _ = self.purge(self.database.limit(Some(soon)));
        }
    }

    /// Drops some rows that have ended, each by itself, so that no two locks are held at once.
    fn purge(&self, limit: Limit) -> Result<()> {
        let ended = self.ask(&self.statements.ended, &Values::new(""), limit)?;
        for row in ended.rows {
            if let Some(Some(key)) = row.first() {
                match self.ask(&self.statements.drop, &Values::new(key), limit.once()) {
                    // Somebody works on it: another time.
                    Err(error) if error.code() == Code::Busy => {}
                    done => drop(done?),
                }
            }
        }
        Ok(())
    }

    /// Drops a row that has ended; false if it went or was renewed meanwhile.
    fn drop_ended(&self, key: &str) -> Result<bool> {
        let limit = self.database.limit(None);
        let dropped = self.ask(&self.statements.drop, &Values::new(key), limit)?;
        Ok(dropped.affected > 0)
    }

    /// The name of the store in its capability record.
    fn name(&self) -> &'static str {
        match (self.kind, self.dialect) {
            (Kind::Sqlite, Dialect::Symfony) => "sqlite-symfony",
            (Kind::Sqlite, Dialect::Drupal) => "sqlite-drupal",
            (Kind::Sqlite, Dialect::Laravel) => "sqlite-laravel",
            (Kind::Postgres, Dialect::Symfony) => "postgres-symfony",
            (Kind::Postgres, Dialect::Drupal) => "postgres-drupal",
            (Kind::Postgres, Dialect::Laravel) => "postgres-laravel",
            (Kind::Mysql, Dialect::Symfony) => "mysql-symfony",
            (Kind::Mysql, Dialect::Drupal) => "mysql-drupal",
            (Kind::Mysql, Dialect::Laravel) => "mysql-laravel",
        }
    }

    fn ttl(claim: &Claim) -> Duration {
        claim.ttl.unwrap_or(crate::lock::DEFAULT_LEASE)
    }
}

impl<D: Database + 'static> Backend for Peer<D> {
    fn capabilities(&self) -> Capabilities {
        let local = self.kind == Kind::Sqlite;
        Capabilities {
            store: self.name(),
            shared: false,
            promote: false,
            permits: false,
            ttl: true,
            frees_on_death: false,
            fence: Fence::None,
            wakes: false,
            fair: false,
            export: true,
            list: self.dialect.shows_names(),
            break_lock: true,
            survives_restart: true,
            clock: if local || self.dialect != Dialect::Symfony {
                "host"
            } else {
                "server"
            },
            scope: if local { Scope::Host } else { Scope::Cluster },
        }
    }

    fn url(&self) -> &str {
        &self.common.url
    }

    fn fingerprint(&self) -> String {
        self.common.fingerprint.clone()
    }

    fn ping(&self, deadline: Option<BootTime>) -> Result<()> {
        self.database.ping(self.database.limit(deadline))
    }

    fn take_caution(&self) -> Option<String> {
        self.database.cautions()?.take()
    }

    fn attempt(&self, claim: &Claim, _bell: Option<&Arc<Signal>>) -> Result<Attempt> {
        match self.look(claim) {
            // Another's transaction has the row or the table.
            Err(error) if error.code() == Code::Busy => Ok(self.busy(claim, None)),
            looked => looked,
        }
    }

    fn cancel(&self, claim: &Claim) -> Result<Cancelled> {
        // Nobody queues here, but an attempt whose answer was lost may have been granted. A file's is never lost,
        // and others may have it locked.
        if self.kind == Kind::Sqlite {
            return Ok(Cancelled::Gone);
        }
        self.release(claim).map(|_| Cancelled::Gone)
    }

    fn check_ttl(&self, ttl: Duration) -> Result<()> {
        if self.dialect != Dialect::Drupal && ttl < Duration::from_secs(1) {
            return Err(Error::invalid(
                "the TTL is below a second, and this table counts whole ones",
            ));
        }
        Ok(())
    }

    fn extend(&self, claim: &Claim, ttl: Duration) -> Result<Answer> {
        let (before, limit) = (BootTime::now(), self.database.limit(claim.deadline));
        let (key, owner) = (self.key(&claim.name), self.owner(claim.token));
        let values = Values::owned(&key, &owner, ttl);
        Ok(
            match self.ask(&self.statements.extend, &values, limit)?.affected {
                0 => Answer::NotOurs,
                _ => Answer::Done(Some(before.after(ttl))),
            },
        )
    }

    fn release(&self, claim: &Claim) -> Result<Answer> {
        let limit = self.database.limit(claim.deadline);
        let (key, owner) = (self.key(&claim.name), self.owner(claim.token));
        let values = Values::owned(&key, &owner, Duration::ZERO);
        let freed = self.ask(&self.statements.free, &values, limit)?.affected;
        self.purge_now_and_then();
        Ok(if freed == 0 {
            Answer::NotOurs
        } else {
            Answer::Done(None)
        })
    }

    fn is_held(&self, claim: &Claim) -> Result<bool> {
        let limit = self.database.limit(claim.deadline);
        let found = self.find(&self.key(&claim.name), limit)?;
        let owner = self.owner(claim.token);
        Ok(found.is_some_and(|found| found.owner == owner && found.left.is_some()))
    }

    fn wait_free(&self, name: &Name, until: BootTime) -> Result<bool> {
        let (key, token) = (self.key(name), OwnerToken::draw()?);
        for polls in 0.. {
            let found = self.find(&key, self.database.limit(None))?;
            match found {
                None => return Ok(true),
                Some(found) if found.left.is_none() && self.dialect == Dialect::Drupal => {
                    // As Drupal does: whoever holds it still must learn that it is over.
                    if self.drop_ended(&key)? {
                        return Ok(true);
                    }
                }
                Some(found) if found.left.is_none() => return Ok(true),
                Some(_) => {}
            }
            if until.has_passed() {
                break;
            }
            Signal::new().sleep(next_poll(polls, &token).min(until));
        }
        Ok(false)
    }

    fn inspect(&self, name: &Name, deadline: Option<BootTime>) -> Result<Inspection> {
        let found = self.find(&self.key(name), self.database.limit(deadline))?;
        let holder = found.and_then(|found| Some(self.holder(&found.owner, found.left?)));
        Ok(Inspection {
            name: name.as_bytes().to_vec(),
            holders: holder.into_iter().collect(),
            waiters: None,
        })
    }

    fn list(
        &self,
        prefix: &[u8],
        cursor: Option<&str>,
        limit: usize,
        deadline: Option<BootTime>,
    ) -> Result<Page> {
        if !self.dialect.shows_names() {
            return Err(Error::unsupported(
                "rows of this dialect do not show the names of their locks",
            ));
        }
        let bad = || Error::invalid("this is no cursor of ours");
        let after = match cursor {
            None => String::new(),
            Some(text) => String::from_utf8(read_cursor(text)?).map_err(|_| bad())?,
        };
        let text = format!("{}{}", self.prefix, String::from_utf8_lossy(prefix));
        let values = Values {
            after: &after,
            prefix: &text,
            length: i64::try_from(text.chars().count()).unwrap_or(i64::MAX),
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
            ..Values::new("")
        };
        let found = self.ask(
            &self.statements.list,
            &values,
            self.database.limit(deadline),
        )?;
        let mut page = Page::default();
        let full = found.rows.len() >= limit;
        for row in found.rows {
            let [Some(key), Some(owner), Some(left)] = row.as_slice() else {
                return Err(odd());
            };
            let name = key.strip_prefix(&self.prefix).unwrap_or(key);
            page.locks.push(Inspection {
                name: name.as_bytes().to_vec(),
                holders: vec![self.holder(owner, seconds(left).unwrap_or_default())],
                waiters: None,
            });
            if full {
                page.cursor = Some(hex::encode(key.as_bytes()));
            }
        }
        Ok(page)
    }

    fn break_lock(&self, name: &Name, deadline: Option<BootTime>) -> Result<bool> {
        let (key, limit) = (self.key(name), self.database.limit(deadline));
        let broken = self.ask(&self.statements.r#break, &Values::new(&key), limit)?;
        Ok(broken.affected > 0)
    }

    fn as_session(&self, id: &str) -> Option<Arc<dyn Backend>> {
        (self.dialect == Dialect::Drupal).then(|| {
            Arc::new(Peer {
                table: self.table.clone(),
                session: Some(id.into()),
            }) as Arc<dyn Backend>
        })
    }

    fn release_session(&self, deadline: Option<BootTime>) -> Result<u64> {
        let Some(id) = &self.session else {
            return Err(Error::unsupported("this store is no session's"));
        };
        let values = Values::owned("", id, Duration::ZERO);
        let limit = self.database.limit(deadline);
        Ok(self
            .ask(&self.statements.free_all, &values, limit)?
            .affected)
    }

    /// Later holds of the session bear the same owner: a release that comes late would end one of those.
    /// The row ends with its lease, or with the session.
    fn release_later(&self, _claim: &Claim) -> bool {
        self.session.is_some()
    }

    /// As on a table of our own.
    fn may_be_late(&self) -> bool {
        self.kind != Kind::Sqlite
    }

    fn create_table(&self, deadline: Option<BootTime>) -> Result<()> {
        self.database.create_table(self.database.limit(deadline))
    }

    fn ddl(&self, engine: Option<&str>) -> Result<String> {
        let kind = match engine {
            None => self.kind,
            Some(name) => Kind::of(name).ok_or_else(super::unknown_engine)?,
        };
        Ok(sql::ddl(self.dialect, kind, &self.columns))
    }

    fn adopt(&self, claim: &Claim, heir: OwnerToken) -> Result<Option<Grant>> {
        let (before, limit) = (BootTime::now(), self.database.limit(claim.deadline));
        let (key, owner) = (self.key(&claim.name), self.dialect.owner(claim.token));
        let heir = self.owner(heir);
        let ttl = Self::ttl(claim);
        let values = Values {
            heir: &heir,
            ..Values::owned(&key, &owner, ttl)
        };
        let adopted = self.ask(&self.statements.adopt, &values, limit)?;
        Ok((adopted.affected > 0).then(|| Grant {
            lease: Some(before.after(ttl)),
            fence: None,
            recovered: false,
        }))
    }
}

/// How often a handle asked in vain.
struct Polls(u32);

impl<D> Peer<D> {
    fn poll(&self, claim: &Claim) -> BootTime {
        let polls = claim.seat.with(|polls: &mut Polls| {
            polls.0 += 1;
            polls.0
        });
        if polls.is_none() {
            claim.seat.put(Polls(0));
        }
        next_poll(polls.unwrap_or(0), &claim.token)
    }
}
