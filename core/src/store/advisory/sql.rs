//! The statements, for either engine. Numbers are answers: see [`Sql::answers`].

use super::config::Config;
use super::keys::Key;
use crate::mode::Mode;
use crate::store::db::{Engine, Value};

/// Makes statements about one key. Its parameters come first, the session's mark last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sql<'a> {
    pub engine: Engine,
    pub key: &'a Key,
    /// Where fencing tokens come from.
    pub sequence: Option<&'a str>,
}

/// Twenty days, in ms: who waits for ever asks again then. PostgreSQL counts to 2³¹.
pub(super) const EVER: u64 = 20 * 24 * 3600 * 1000;

/// The server's answers to `try_lock`, `wait` and `unlock`: a token, or 1, is *yes*.
pub(super) const NO: i64 = 0;
/// The statement reached another session.
pub(super) const ELSEWHERE: i64 = -1;

/// What is answered for a lock that somebody has; otherwise by the canary of row 10.
const TAKEN: u8 = if cfg!(canary = "always_fits") { 1 } else { 0 };

impl<'a> Sql<'a> {
    pub fn of(config: &'a Config, key: &'a Key) -> Self {
        Sql {
            engine: config.database.engine,
            key,
            sequence: config.sequence.as_deref(),
        }
    }

    fn is_pair(&self) -> bool {
        matches!(self.key, Key::Pair(..))
    }

    fn args(&self) -> &'static str {
        if self.is_pair() {
            "$1::int, $2::int"
        } else {
            "$1::bigint"
        }
    }

    fn mark(&self) -> &'static str {
        if self.is_pair() { "$3" } else { "$2" }
    }

    /// How a session knows itself: by a setting on PostgreSQL, a variable on MySQL. Behind a pooler a
    /// statement may reach another session than the last one did.
    fn marked(&self) -> String {
        let mark = self.mark();
        if cfg!(canary = "no_mark") {
            return format!("{mark}::text IS NOT NULL");
        }
        format!("current_setting('synlock.session', true) = {mark}")
    }

    /// The parameters of every statement below.
    pub fn params<'b>(&'b self, mark: &'b str) -> Vec<Value<'b>> {
        match self.engine {
            Engine::Postgres => {
                let mut values = self.key.values();
                values.push(Value::Text(mark));
                values
            }
            // There they stand in the order of the text.
            Engine::Mysql => {
                let mut values = vec![Value::Text(mark)];
                values.extend(self.key.values());
                values
            }
        }
    }

    /// Takes the lock if it is free. `beside`: the session holds it shared already, and would pass those who wait, which
    /// `fair` forbids.
    pub fn try_lock(&self, mode: Mode, beside: bool, fair: bool) -> String {
        let shared = if mode == Mode::Shared { "_shared" } else { "" };
        match self.engine {
            Engine::Postgres => {
                let (args, marked, token) = (self.args(), self.marked(), self.token());
                let lock = format!("pg_try_advisory_lock{shared}({args})");
                let taken = if beside {
                    // The token first: if it fails, the lock of the other hold is as it was.
                    let taken = format!(
                        "(SELECT CASE WHEN {lock} THEN token ELSE 0 END FROM (SELECT {token} AS token OFFSET 0) drawn)"
                    );
                    let here = self.here();
                    if fair {
                        format!(
                            "CASE WHEN EXISTS (SELECT 1 FROM pg_locks WHERE {here} AND NOT granted) THEN 0 ELSE {taken} END"
                        )
                    } else {
                        taken
                    }
                } else {
                    format!("CASE WHEN {lock} THEN {token} ELSE {TAKEN} END")
                };
                format!("SELECT CASE WHEN {marked} THEN {taken} ELSE -1 END")
            }
            Engine::Mysql => self.get_lock("0"),
        }
    }

    /// Waits in the server's queue, for so many ms. Whoever dies while waiting leaves then at the latest.
    pub fn wait(&self, mode: Mode, millis: u64) -> String {
        let shared = if mode == Mode::Shared { "_shared" } else { "" };
        match self.engine {
            Engine::Postgres => {
                let (args, marked, token) = (self.args(), self.marked(), self.token());
                let time = if self.is_pair() { "$4" } else { "$3" };
                format!(
                    "SELECT CASE WHEN {marked} AND set_config('lock_timeout', {time}, false) IS NOT NULL \
                     THEN CASE WHEN pg_advisory_lock{shared}({args})::text IS NOT NULL THEN {token} ELSE 0 END ELSE -1 END"
                )
            }
            // MariaDB knows no endless time, and takes a negative one for a mistake.
            Engine::Mysql => self.get_lock(&format!("{}.{:03}", millis / 1000, millis % 1000)),
        }
    }

    /// The parameters of `wait` and `change`.
    pub fn wait_params<'b>(&'b self, mark: &'b str, millis: &'b str) -> Vec<Value<'b>> {
        let mut params = self.params(mark);
        if self.engine == Engine::Postgres {
            params.push(Value::Text(millis));
        }
        params
    }

    fn get_lock(&self, seconds: &str) -> String {
        let token = self.token();
        format!(
            "SELECT IF(@synlock_session = ?, CASE GET_LOCK(?, {seconds}) WHEN 1 THEN {token} WHEN 0 THEN {TAKEN} ELSE -2 END, -1)"
        )
    }

    fn token(&self) -> String {
        match (self.engine, self.sequence) {
            (_, None) => "1".to_owned(),
            (Engine::Postgres, Some(sequence)) => format!("nextval('{sequence}')"),
            (Engine::Mysql, Some(sequence)) => format!("NEXT VALUE FOR {sequence}"),
        }
    }

    /// Turns the lock into one of the other mode, on PostgreSQL; the others have none. In one statement, so that
    /// there is no moment at which it is cut off with both. Down, it need not wait; up, it has it if nobody else reads.
    pub fn change(&self, from: Mode, to: Mode) -> String {
        let (args, marked, token) = (self.args(), self.marked(), self.token());
        let taken = match to {
            // One that does not wait would be refused while others do.
            Mode::Shared => format!("pg_advisory_lock_shared({args})::text IS NOT NULL"),
            _ => format!("pg_try_advisory_lock({args})"),
        };
        let shared = if from == Mode::Shared { "_shared" } else { "" };
        let time = if self.is_pair() { "$4" } else { "$3" };
        // The token first: if it fails, the lock is as it was.
        format!(
            "SELECT CASE WHEN {marked} AND set_config('lock_timeout', {time}, false) IS NOT NULL THEN \
             (SELECT CASE WHEN {taken} AND pg_advisory_unlock{shared}({args}) IS NOT NULL THEN token ELSE 0 END \
             FROM (SELECT {token} AS token OFFSET 0) drawn) ELSE -1 END"
        )
    }

    /// Lets go of it once.
    pub fn unlock(&self, mode: Mode) -> String {
        let shared = if mode == Mode::Shared { "_shared" } else { "" };
        match self.engine {
            Engine::Postgres => {
                let (args, marked) = (self.args(), self.marked());
                format!(
                    "SELECT CASE WHEN {marked} THEN CASE WHEN pg_advisory_unlock{shared}({args}) THEN 1 ELSE 0 END ELSE -1 END"
                )
            }
            Engine::Mysql => {
                "SELECT IF(@synlock_session = ?, CASE RELEASE_LOCK(?) WHEN 1 THEN 1 ELSE 0 END, -1)"
                    .to_owned()
            }
        }
    }

    /// Whether this session holds it in that mode.
    pub fn is_mine(&self, mode: Mode) -> String {
        match self.engine {
            Engine::Postgres => {
                let (here, marked) = (self.here(), self.marked());
                let kind = match mode {
                    Mode::Shared => "ShareLock",
                    _ => "ExclusiveLock",
                };
                format!(
                    "SELECT CASE WHEN {marked} THEN (SELECT count(*) FROM pg_locks WHERE {here} AND pid = pg_backend_pid() AND granted AND mode = '{kind}') ELSE -1 END"
                )
            }
            Engine::Mysql => {
                "SELECT IF(@synlock_session = ?, COALESCE(IS_USED_LOCK(?) = CONNECTION_ID(), 0), -1)"
                    .to_owned()
            }
        }
    }

    /// Which rows of `pg_locks` are about the key.
    pub fn here(&self) -> String {
        let (class, object) = match self.key {
            Key::Pair(..) => (
                "($1::int)::bigint & 4294967295",
                "($2::int)::bigint & 4294967295",
            ),
            _ => (
                "(($1::bigint) >> 32) & 4294967295",
                "($1::bigint) & 4294967295",
            ),
        };
        let sub = if self.is_pair() { 2 } else { 1 };
        format!(
            "locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND classid::bigint = {class} AND objid::bigint = {object} AND objsubid = {sub}"
        )
    }

    /// Makes the sequence.
    pub fn create(&self) -> Option<String> {
        let sequence = self.sequence?;
        Some(match self.engine {
            // Cached numbers are a session's there, and would not grow from hold to hold.
            Engine::Postgres => format!("CREATE SEQUENCE IF NOT EXISTS {sequence} CACHE 1"),
            // And the server's here; one of InnoDB begins anew after a crash.
            Engine::Mysql => format!("CREATE SEQUENCE IF NOT EXISTS {sequence} ENGINE = Aria"),
        })
    }
}
