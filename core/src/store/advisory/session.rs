//! One session: made fit for locks, and known to be the same one from statement to statement.

use super::alarms::End;
use super::config::Config;
use super::sql::ELSEWHERE;
use crate::lease::BootTime;
use crate::owner::OwnerToken;
use crate::store::Life;
use crate::store::cautions::of_galera;
use crate::store::db::{Connection, Engine, Fault, Rows, Value};
use crate::{Code, Error, Result};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a pooler may take to show that it is one.
const PROBE: Duration = Duration::from_millis(300);

#[derive(Debug)]
pub(super) struct Session {
    connection: Connection,
    /// What only this session was told.
    mark: String,
    /// Its number on the server.
    pub id: i64,
    /// An answer is still to come.
    owes: bool,
    end: Arc<End>,
    /// Which life of the server it is of, as told at that time.
    life: Option<(Life, BootTime)>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end.comes();
    }
}

/// The statements of a session may reach other sessions of the server.
pub(super) fn pooled() -> Error {
    Error::unsupported(
        "a pooler hands each statement to another session of the server: advisory locks need a session of their own (pool_mode=session, or the server itself)",
    )
}

impl Session {
    pub fn open(config: &Config, limit: BootTime) -> Result<Self> {
        let mut session = Self::over(Connection::open(&config.database, limit)?)?;
        match config.database.engine {
            Engine::Postgres => session.prepare_postgres(config, limit)?,
            Engine::Mysql => session.prepare_mysql(config, limit)?,
        }
        Ok(session)
    }

    /// One that is not fit for locks yet.
    pub fn over(connection: Connection) -> Result<Self> {
        Ok(Session {
            end: End::of(connection.fd()),
            connection,
            mark: OwnerToken::draw()?.to_hex(),
            id: 0,
            owes: false,
            life: None,
        })
    }

    fn prepare_postgres(&mut self, config: &Config, limit: BootTime) -> Result<()> {
        // No time limit of the server's may end a wait or a session; a waiter whose client has died leaves within a second.
        let rows = self.connection.query(
            "SELECT pg_backend_pid(), pg_is_in_recovery(), COALESCE(current_setting('synlock.session', true), ''), \
             set_config('synlock.session', $1, false), set_config('lock_timeout', '0', false), \
             set_config('statement_timeout', '0', false), \
             (SELECT count(set_config(name, CASE name WHEN 'idle_session_timeout' THEN '0' ELSE '1000' END, false)) \
              FROM pg_settings WHERE name IN ('idle_session_timeout', 'client_connection_check_interval'))",
            &[Value::Text(&self.mark)],
            limit,
        )?;
        let row = rows.first().cloned().unwrap_or_default();
        self.id = row.int(0)?.unwrap_or(0);
        if row.bool(1)?.unwrap_or(true) {
            return Err(Error::new(
                Code::Unavailable,
                "the server is read-only, a standby: its advisory locks are not those of the primary",
            ));
        }
        if cfg!(canary = "no_mark") {
            return Ok(());
        }
        // Somebody else's mark: the session serves several clients.
        if row.text(2)?.is_some_and(|mark| !mark.is_empty()) {
            return Err(pooled());
        }
        // A server gives its own number as the one by which a statement is cancelled; a pooler makes one up.
        if self.connection.session() != self.id && !self.keeps_its_session(config, limit)? {
            return Err(pooled());
        }
        Ok(())
    }

    /// Whether a pooler leaves us our session while somebody else asks for one.
    fn keeps_its_session(&mut self, config: &Config, limit: BootTime) -> Result<bool> {
        let soon = limit.min(BootTime::now().after(PROBE));
        let rival = Connection::open(&config.database, soon).and_then(|mut rival| {
            rival.query("BEGIN", &[], soon)?;
            let rows = rival.query("SELECT pg_backend_pid()", &[], soon)?;
            Ok((rival, rows.number()?))
        });
        let same = |session: &mut Self| -> Result<bool> {
            let rows = session.connection.query(
                "SELECT pg_backend_pid(), COALESCE(current_setting('synlock.session', true), '')",
                &[],
                limit,
            )?;
            let row = rows.first().cloned().unwrap_or_default();
            Ok(row.int(0)? == Some(session.id) && row.text(1)? == Some(session.mark.as_str()))
        };
        Ok(match rival {
            Ok((_rival, theirs)) => theirs != Some(self.id) && same(self)? && same(self)?,
            // It waits for a session while we have ours: that is how pools of whole sessions are.
            Err(error) if error.is_trouble() => same(self)? && same(self)?,
            // No transactions: each statement goes where it likes.
            Err(_) => false,
        })
    }

    fn prepare_mysql(&mut self, config: &Config, limit: BootTime) -> Result<()> {
        // An idle holder keeps its session.
        let set = "SET SESSION wait_timeout = 31536000, @synlock_session = ?";
        self.connection
            .query(set, &[Value::Text(&self.mark)], limit)?;
        let rows = self.connection.query(
            "SELECT CONNECTION_ID(), @@global.read_only, @synlock_session = ?",
            &[Value::Text(&self.mark)],
            limit,
        )?;
        let row = rows.first().cloned().unwrap_or_default();
        self.id = row.int(0)?.unwrap_or(0);
        if row.bool(2)? != Some(true) || self.id != self.connection.session() {
            return Err(pooled());
        }
        if row.bool(1)?.unwrap_or(true) {
            return Err(Error::new(
                Code::Unavailable,
                "the server is read-only, a replica: its named locks are not those of the primary",
            ));
        }
        if config.sequence.is_some() && !self.connection.is_mariadb() {
            return Err(Error::unsupported(
                "MySQL has no sequences to draw fencing tokens from: say `fencing=0`",
            ));
        }
        let cautions = &config.database.cautions;
        if !cautions.has_looked().load(Ordering::Relaxed) {
            let asked = "SHOW GLOBAL STATUS LIKE 'wsrep_cluster_size'";
            let rows = self.connection.query(asked, &[], limit)?;
            let size = rows.first().and_then(|row| row.text(1).ok().flatten());
            cautions.add(of_galera(size.unwrap_or_default()));
            cautions.has_looked().store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Asks once: no session outlasts the life of its server.
    pub fn life(&mut self, engine: Engine, limit: BootTime) -> std::result::Result<Life, Fault> {
        let (told, since) = match self.life.take() {
            Some(known) => known,
            None => {
                let asked = BootTime::now();
                let rows = self.ask(life_of(engine, self.is_mariadb()), &[], limit)?;
                (as_life(&rows), asked)
            }
        };
        self.life = Some((told.clone(), since));
        Ok(Life {
            up: told.up + BootTime::now().since(since),
            ..told
        })
    }

    pub fn mark(&self) -> &str {
        &self.mark
    }

    pub fn is_mariadb(&self) -> bool {
        self.connection.is_mariadb()
    }

    pub fn end(&self) -> &Arc<End> {
        &self.end
    }

    pub fn fd(&self) -> RawFd {
        self.connection.fd()
    }

    /// Whether it is open, and owes nothing.
    pub fn is_fit(&mut self) -> bool {
        !self.owes && self.connection.is_quiet()
    }

    /// Whether an answer is still to come.
    pub fn owes(&self) -> bool {
        self.owes
    }

    /// The late answer.
    pub fn settle(&mut self, limit: BootTime) -> std::result::Result<Rows, Fault> {
        let done = self.connection.finish(limit);
        self.owes = done.as_ref().is_err_and(|fault| fault.late);
        done
    }

    /// One statement. If its answer is late, the session owes it, and `settle` comes before the next.
    pub fn ask(
        &mut self,
        sql: &str,
        params: &[Value<'_>],
        limit: BootTime,
    ) -> std::result::Result<Rows, Fault> {
        self.start(sql, params, limit)?;
        self.settle(limit)
    }

    /// As `ask`, for statements that answer with a number.
    pub fn number(
        &mut self,
        sql: &str,
        params: &[Value<'_>],
        limit: BootTime,
    ) -> std::result::Result<i64, Fault> {
        self.ask(sql, params, limit).map(|rows| number(&rows))
    }

    /// Sends a statement and leaves its answer for later.
    pub fn start(
        &mut self,
        sql: &str,
        params: &[Value<'_>],
        limit: BootTime,
    ) -> std::result::Result<(), Fault> {
        self.connection.start(sql, params, limit)?;
        self.owes = true;
        Ok(())
    }

    /// The late answer, if it has arrived.
    pub fn settle_now(&mut self) -> Option<std::result::Result<Rows, Fault>> {
        match self.connection.finish_now() {
            Ok(None) => None,
            Ok(Some(rows)) => {
                self.owes = false;
                Some(Ok(rows))
            }
            Err(fault) => {
                self.owes = fault.late;
                Some(Err(fault))
            }
        }
    }
}

/// Asks for the life of the server: a name that no other life of it has, and how old it is, in ms.
fn life_of(engine: Engine, is_mariadb: bool) -> &'static str {
    match engine {
        // A session that crashes takes all others with it, and leaves the age of the server as it was; statistics
        // begin anew.
        Engine::Postgres => {
            "SELECT born::text, (extract(epoch FROM clock_timestamp() - born) * 1000)::bigint FROM \
             (SELECT greatest(pg_postmaster_start_time(), (SELECT stats_reset FROM pg_stat_bgwriter)) AS born) life"
        }
        // Both are of whole seconds, and of one moment.
        Engine::Mysql if is_mariadb => {
            "SELECT UNIX_TIMESTAMP() - CAST(VARIABLE_VALUE AS SIGNED), CAST(VARIABLE_VALUE AS SIGNED) * 1000 - 1000 \
             FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'UPTIME'"
        }
        Engine::Mysql => {
            "SELECT UNIX_TIMESTAMP() - CAST(VARIABLE_VALUE AS SIGNED), CAST(VARIABLE_VALUE AS SIGNED) * 1000 - 1000 \
             FROM performance_schema.global_status WHERE VARIABLE_NAME = 'Uptime'"
        }
    }
}

fn as_life(rows: &Rows) -> Life {
    let row = rows.first().cloned().unwrap_or_default();
    let up = row.int(1).ok().flatten();
    // An age that is not told is none.
    let up = up.and_then(|up| u64::try_from(up).ok()).unwrap_or(0);
    Life {
        id: row.text(0).ok().flatten().unwrap_or_default().to_owned(),
        up: Duration::from_millis(up),
        // Nothing ends by it.
        clock: None,
    }
}

/// The number that a statement answered with; anything else came from elsewhere.
pub(super) fn number(rows: &Rows) -> i64 {
    rows.number().ok().flatten().unwrap_or(ELSEWHERE)
}
