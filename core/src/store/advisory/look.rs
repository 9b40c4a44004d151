//! Who holds and who waits, by the server's own tables and by ours.

use super::keys::Key;
use super::store::Advisory;
use super::table::{Hold, On, Table};
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::store::db::{Engine, Row, Value};
use crate::store::{Holder, Inspection, Page};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::time::Duration;

/// Between looks at a lock that somebody watches: the first, and the longest.
const SOON: Duration = Duration::from_millis(20);
const LATER: Duration = Duration::from_millis(250);

/// A lock as the server shows it.
#[derive(Debug)]
struct Seen {
    session: i64,
    shared: bool,
    waits: bool,
    /// How the session calls itself.
    client: String,
    host: Option<String>,
}

impl Seen {
    /// Session, mode, whether it waits, its name, its host.
    fn read(row: &Row) -> Result<Self> {
        Ok(Seen {
            session: row.int(0)?.unwrap_or(0),
            shared: row.text(1)? == Some("ShareLock"),
            waits: row.bool(2)? == Some(false),
            client: row.text(3)?.unwrap_or_default().to_owned(),
            host: row.text(4)?.map(str::to_owned),
        })
    }

    /// Somebody else's hold.
    fn holder(&self) -> Holder {
        let pid = self.client.strip_prefix("synlock-");
        Holder {
            owner: self.session.to_string(),
            mode: if self.shared { "shared" } else { "exclusive" },
            permits: 1,
            host: self.host.clone(),
            pid: pid.and_then(|pid| pid.parse().ok()),
            ..Holder::default()
        }
    }
}

fn own_holder(hold: &Hold) -> Holder {
    let host = nix::unistd::gethostname().ok();
    Holder {
        owner: hold.token.to_hex().get(..8).unwrap_or_default().to_owned(),
        mode: if hold.mode == Mode::Shared {
            "shared"
        } else {
            "exclusive"
        },
        permits: 1,
        host: host.and_then(|host| host.into_string().ok()),
        pid: Some(std::process::id()),
        label: hold.label.as_deref().map(str::to_owned),
        remaining: None,
        held: Some(BootTime::now().since(hold.since)),
        fence: hold.fence,
        brand: hold.token.brand(),
    }
}

/// What the server shows of one key, with the names that this process knows.
fn inspection(table: &Table, shared: i64, key: &Key, name: &[u8], seen: &[Seen]) -> Inspection {
    let mut holders = Vec::new();
    for one in seen.iter().filter(|one| !one.waits) {
        let ours = table.holds().filter(|(at, hold)| {
            let session = match &hold.on {
                On::Shared => Some(shared),
                On::Own(session) => session.as_ref().map(|session| session.id),
            };
            *at == key && session == Some(one.session) && (hold.mode == Mode::Shared) == one.shared
        });
        let ours: Vec<Holder> = ours.map(|(_, hold)| own_holder(hold)).collect();
        if ours.is_empty() {
            holders.push(one.holder());
        } else {
            holders.extend(ours);
        }
    }
    let waiting = seen.iter().filter(|one| one.waits).count() + table.waiters_here(key);
    Inspection {
        name: name.to_vec(),
        holders,
        waiters: u32::try_from(waiting).ok(),
    }
}

impl Advisory {
    /// Runs a statement, and tells the number of the shared session.
    fn rows(&self, text: &str, values: &[Value<'_>], limit: BootTime) -> Result<(Vec<Row>, i64)> {
        let mut id = 0;
        let rows = self.on_shared(limit, |session| {
            id = session.id;
            session.ask(text, values, limit)
        })?;
        Ok((rows.rows, id))
    }

    /// The server's rows about one key.
    fn seen(&self, key: &Key, limit: BootTime) -> Result<(Vec<Seen>, i64)> {
        let (rows, id) = match key {
            Key::Name(name) => {
                // Waiters show what they run: ours in hexadecimal, others as they wrote it.
                let ours: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
                let (ours, theirs) = (format!("%x'{ours}'%"), format!("%'{name}'%"));
                self.rows(
                    "SELECT p.ID, 'ExclusiveLock', p.ID = IS_USED_LOCK(?), CONCAT('synlock-', a.ATTR_VALUE), p.HOST \
                     FROM information_schema.PROCESSLIST p \
                     LEFT JOIN performance_schema.session_account_connect_attrs a \
                     ON a.PROCESSLIST_ID = p.ID AND a.ATTR_NAME = '_pid' \
                     WHERE p.ID = IS_USED_LOCK(?) OR (p.STATE = 'User lock' AND (p.INFO LIKE ? OR p.INFO LIKE ?))",
                    &[
                        Value::Text(name),
                        Value::Text(name),
                        Value::Text(&ours),
                        Value::Text(&theirs),
                    ],
                    limit,
                )?
            }
            key => {
                let here = self.sql(key).here();
                self.rows(
                    &format!(
                        "SELECT l.pid, l.mode, l.granted, a.application_name, host(a.client_addr) \
                         FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid WHERE {here}"
                    ),
                    &key.values(),
                    limit,
                )?
            }
        };
        let seen = rows.iter().map(Seen::read).collect::<Result<_>>()?;
        Ok((seen, id))
    }

    pub(super) fn look(&self, name: &Name, deadline: Option<BootTime>) -> Result<Inspection> {
        let key = self.key(name)?;
        let (seen, id) = self.seen(&key, self.config.database.limit(deadline))?;
        let table = self.process()?.table.lock();
        Ok(inspection(&table, id, &key, name.as_bytes(), &seen))
    }

    pub(super) fn watch(&self, name: &Name, until: BootTime) -> Result<bool> {
        let key = self.key(name)?;
        let mut pause = SOON;
        loop {
            let (seen, _) = self.seen(&key, self.config.database.limit(None))?;
            if seen.iter().all(|one| one.waits) {
                return Ok(true);
            }
            let left = until.left();
            if left.is_zero() {
                return Ok(false);
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(LATER);
        }
    }

    pub(super) fn page(
        &self,
        prefix: &[u8],
        cursor: Option<&str>,
        most: usize,
        deadline: Option<BootTime>,
    ) -> Result<Page> {
        let start: usize = match cursor {
            None => 0,
            Some(cursor) => cursor
                .parse()
                .map_err(|_| Error::invalid("this is no cursor of ours"))?,
        };
        let limit = self.config.database.limit(deadline);
        let (all, id) = match self.config.database.engine {
            Engine::Postgres => self.all_numbers(limit)?,
            Engine::Mysql => self.all_names(limit)?,
        };
        let table = self.process()?.table.lock();
        let named = |key: &Key| {
            let mut holds = table.holds();
            let known = holds.find(|(at, _)| *at == key);
            known.map_or_else(
                || self.spelled(key),
                |(_, hold)| hold.name.as_bytes().to_vec(),
            )
        };
        let mut locks = all
            .iter()
            .filter(|(_, seen)| seen.iter().any(|one| !one.waits))
            .map(|(key, seen)| (key, named(key), seen))
            .filter(|(_, name, _)| name.starts_with(prefix))
            .skip(start);
        let page: Vec<_> = locks
            .by_ref()
            .take(most)
            .map(|(key, name, seen)| inspection(&table, id, key, &name, seen))
            .collect();
        Ok(Page {
            cursor: locks.next().map(|_| (start + page.len()).to_string()),
            locks: page,
        })
    }

    /// What stands for a name that this process does not know: the server knows numbers, or hashes.
    fn spelled(&self, key: &Key) -> Vec<u8> {
        match key {
            Key::Number(number) => format!("{number:016x}").into_bytes(),
            Key::Pair(first, second) => format!("{first:08x},{second:08x}").into_bytes(),
            Key::Name(name) => {
                let bare = name.strip_prefix(&self.config.prefix).unwrap_or(name);
                bare.as_bytes().to_vec()
            }
        }
    }

    fn all_numbers(&self, limit: BootTime) -> Result<(BTreeMap<Key, Vec<Seen>>, i64)> {
        let (rows, id) = self.rows(
            "SELECT l.pid, l.mode, l.granted, a.application_name, host(a.client_addr), \
             l.classid::bigint, l.objid::bigint, l.objsubid \
             FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid WHERE locktype = 'advisory' \
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
            &[],
            limit,
        )?;
        let mut all = BTreeMap::<Key, Vec<Seen>>::new();
        for row in &rows {
            let half = |index| Ok::<_, Error>(row.int(index)?.unwrap_or(0) as u32);
            let (class, object) = (half(5)?, half(6)?);
            let key = if row.int(7)? == Some(1) {
                Key::Number((u64::from(class) << 32 | u64::from(object)) as i64)
            } else {
                Key::Pair(class as i32, object as i32)
            };
            all.entry(key).or_default().push(Seen::read(row)?);
        }
        Ok((all, id))
    }

    fn all_names(&self, limit: BootTime) -> Result<(BTreeMap<Key, Vec<Seen>>, i64)> {
        let mariadb = "SELECT THREAD_ID, 'ExclusiveLock', TRUE, '', NULL, TABLE_SCHEMA \
                       FROM information_schema.METADATA_LOCK_INFO WHERE LOCK_TYPE = 'User lock'";
        let mysql = "SELECT t.PROCESSLIST_ID, 'ExclusiveLock', TRUE, '', NULL, l.OBJECT_NAME \
                     FROM performance_schema.metadata_locks l \
                     JOIN performance_schema.threads t ON t.THREAD_ID = l.OWNER_THREAD_ID \
                     WHERE l.OBJECT_TYPE = 'USER LEVEL LOCK' AND l.LOCK_STATUS = 'GRANTED'";
        let (mut is_mariadb, mut id) = (true, 0);
        let asked = self.on_shared(limit, |session| {
            (is_mariadb, id) = (session.is_mariadb(), session.id);
            session.ask(if is_mariadb { mariadb } else { mysql }, &[], limit)
        });
        let rows = asked.map_err(|error| {
            if is_mariadb && error.message().contains("METADATA_LOCK_INFO") {
                return Error::unsupported(
                    "MariaDB lists named locks only with its plugin: INSTALL SONAME 'metadata_lock_info'",
                );
            }
            error
        })?;
        let mut all = BTreeMap::<Key, Vec<Seen>>::new();
        for row in &rows.rows {
            let name = row.text(5)?.unwrap_or_default();
            if name.starts_with(&self.config.prefix) {
                let seen = all.entry(Key::Name(name.to_owned())).or_default();
                seen.push(Seen::read(row)?);
            }
        }
        Ok((all, id))
    }
}
