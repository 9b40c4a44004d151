//! The statements of the dialects, put together for a table, its columns and an engine.

use super::{Columns, Dialect};
use crate::store::sql::config::quoted;

/// Which SQL is spoken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store::sql) enum Kind {
    Sqlite,
    Postgres,
    Mysql,
}

impl Kind {
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "sqlite" => Some(Kind::Sqlite),
            "postgres" | "postgresql" | "pgsql" => Some(Kind::Postgres),
            "mysql" | "mariadb" => Some(Kind::Mysql),
            _ => None,
        }
    }

    fn quote(self) -> char {
        if self == Kind::Mysql { '`' } else { '"' }
    }

    fn greatest(self) -> &'static str {
        if self == Kind::Sqlite {
            "max"
        } else {
            "greatest"
        }
    }
}

/// A statement, and the values that it wants, in order.
#[derive(Debug)]
pub(super) struct Statement {
    pub sql: String,
    pub order: Vec<&'static str>,
}

#[derive(Debug)]
pub(super) struct Statements {
    pub take: Statement,
    pub read: Statement,
    pub extend: Statement,
    pub free: Statement,
    pub free_all: Statement,
    pub adopt: Statement,
    pub r#break: Statement,
    pub list: Statement,
    pub ended: Statement,
    pub drop: Statement,
}

const WORDS: [&str; 10] = [
    "id", "owner", "heir", "ttl", "clock", "until", "after", "prefix", "length", "limit",
];

/// The time by which a row is judged, in seconds.
fn now(dialect: Dialect, kind: Kind) -> &'static str {
    match (dialect, kind) {
        (Dialect::Symfony, Kind::Sqlite) => "((julianday('now') - 2440587.5) * 86400.0)",
        (Dialect::Symfony, Kind::Postgres) => {
            "CAST(extract(epoch FROM clock_timestamp()) AS double precision)"
        }
        (Dialect::Symfony, Kind::Mysql) => {
            "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) / 1000000.0)"
        }
        // `expiration <= time()`: whole seconds.
        (Dialect::Laravel, Kind::Sqlite) => "({clock} / 1000000)",
        (Dialect::Laravel, Kind::Postgres) => "({clock}::bigint / 1000000)",
        (Dialect::Laravel, Kind::Mysql) => "({clock} DIV 1000000)",
        (Dialect::Drupal, Kind::Postgres) => "({clock}::bigint / 1000000.0)",
        (Dialect::Drupal, _) => "({clock} / 1000000.0)",
    }
}

/// When a hold of `{ttl}` ends, never earlier than asked: integer columns would round.
fn expires(dialect: Dialect, kind: Kind) -> String {
    let now = now(dialect, kind);
    match (dialect, kind) {
        (Dialect::Symfony, Kind::Mysql) => format!("CEILING({now} + {{ttl}} / 1000000.0)"),
        // Peers of before July 2025 round their clock to whole seconds: they are up to half a second ahead.
        (Dialect::Symfony, Kind::Postgres) => {
            format!("ceil({now} + {{ttl}}::bigint / 1000000.0 + 0.5)")
        }
        (Dialect::Laravel, Kind::Postgres) => "{until}::bigint".to_owned(),
        (Dialect::Laravel, _) => "{until}".to_owned(),
        (Dialect::Drupal, Kind::Postgres) => format!("{now} + {{ttl}}::bigint / 1000000.0"),
        (Dialect::Symfony | Dialect::Drupal, _) => format!("{now} + {{ttl}} / 1000000.0"),
    }
}

impl Statements {
    pub fn new(dialect: Dialect, kind: Kind, columns: &Columns) -> Self {
        let quote = |name: &str| quoted(name, kind.quote());
        let write = |text: &str| {
            let text = text
                .replace("NOW", now(dialect, kind))
                .replace("UNTIL", &expires(dialect, kind))
                .replace("GREATEST", kind.greatest())
                .replace("TABLE", &quote(&columns.table))
                .replace("KEY", &quote(&columns.id))
                .replace("OWNER", &quote(&columns.owner))
                .replace("ENDS", &quote(&columns.expires));
            number(&text, kind)
        };
        let take = if kind == Kind::Mysql {
            // The end says for itself whether it is over: MariaDB may assign both at once, or the owner first.
            "INSERT INTO TABLE (KEY, OWNER, ENDS) VALUES ({id}, {owner}, UNTIL) \
             ON DUPLICATE UPON OWNER = IF(ENDS <= NOW, VALUES(OWNER), OWNER), \
             ENDS = IF(OWNER = VALUES(OWNER) OR ENDS <= NOW, VALUES(ENDS), ENDS)"
        } else {
            "INSERT INTO TABLE AS kept (KEY, OWNER, ENDS) VALUES ({id}, {owner}, UNTIL) \
             ON CONFLICT (KEY) DO UPDATE SET OWNER = excluded.OWNER, ENDS = excluded.ENDS \
             WHERE kept.OWNER = excluded.OWNER OR kept.ENDS <= NOW RETURNING 1"
        };
        // Sessions on MariaDB wait for nobody; whoever holds a lock does, in the order of asking.
        let write_in_turn = |text: &str| {
            let mut statement = write(text);
            if kind == Kind::Mysql {
                let before = "/*M!100300 SET STATEMENT innodb_lock_wait_timeout = 1 FOR */ ";
                statement.sql.insert_str(0, before);
            }
            statement
        };
        Statements {
            take: {
                let mut take = write(take);
                take.sql = take
                    .sql
                    .replace("ON DUPLICATE UPON", "ON DUPLICATE KEY UPDATE");
                take
            },
            read: write("SELECT OWNER, ENDS - NOW FROM TABLE WHERE KEY = {id}"),
            extend: write_in_turn(
                "UPDATE TABLE SET ENDS = GREATEST(ENDS, UNTIL) \
                 WHERE KEY = {id} AND OWNER = {owner} AND ENDS > NOW",
            ),
            free: write_in_turn("DELETE FROM TABLE WHERE KEY = {id} AND OWNER = {owner}"),
            free_all: write("DELETE FROM TABLE WHERE OWNER = {owner}"),
            adopt: write(
                "UPDATE TABLE SET OWNER = {heir}, ENDS = GREATEST(ENDS, UNTIL) \
                 WHERE KEY = {id} AND OWNER = {owner} AND ENDS > NOW",
            ),
            r#break: write("DELETE FROM TABLE WHERE KEY = {id} AND ENDS > NOW"),
            list: write(
                "SELECT KEY, OWNER, ENDS - NOW FROM TABLE WHERE ENDS > NOW AND KEY > {after} \
                 AND substr(KEY, 1, {length}) = {prefix} ORDER BY KEY LIMIT {limit}",
            ),
            ended: write("SELECT KEY FROM TABLE WHERE ENDS <= NOW LIMIT 20"),
            drop: write("DELETE FROM TABLE WHERE KEY = {id} AND ENDS <= NOW"),
        }
    }
}

/// Puts the engine's marks in the place of `{word}`.
fn number(text: &str, kind: Kind) -> Statement {
    let mut order: Vec<&'static str> = Vec::new();
    let mut sql = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (word, after) = after.split_once('}').unwrap_or((after, ""));
        let word = WORDS
            .iter()
            .copied()
            .find(|known| *known == word)
            .unwrap_or("limit");
        sql.push_str(before);
        let place = order.iter().position(|known| *known == word);
        match kind {
            Kind::Mysql => {
                order.push(word);
                sql.push('?');
            }
            Kind::Sqlite | Kind::Postgres => {
                let place = place.unwrap_or_else(|| {
                    order.push(word);
                    order.len() - 1
                });
                let mark = if kind == Kind::Sqlite { '?' } else { '$' };
                sql.push_str(&format!("{mark}{}", place + 1));
            }
        }
        rest = after;
    }
    sql.push_str(rest);
    Statement { sql, order }
}

/// The table as the peer makes it.
pub(super) fn ddl(dialect: Dialect, kind: Kind, columns: &Columns) -> String {
    let text = match (dialect, kind) {
        (Dialect::Symfony, Kind::Mysql) => {
            "CREATE TABLE IF NOT EXISTS TABLE (KEY VARCHAR(64) NOT NULL PRIMARY_KEY, \
             OWNER VARCHAR(44) NOT NULL, ENDS INTEGER UNSIGNED NOT NULL) COLLATE utf8mb4_bin, ENGINE = InnoDB;"
        }
        (Dialect::Symfony, Kind::Sqlite) => {
            "CREATE TABLE IF NOT EXISTS TABLE (KEY TEXT NOT NULL PRIMARY_KEY, OWNER TEXT NOT NULL, ENDS INTEGER);"
        }
        (Dialect::Symfony, Kind::Postgres) => {
            "CREATE TABLE IF NOT EXISTS TABLE (KEY VARCHAR(64) NOT NULL PRIMARY_KEY, \
             OWNER VARCHAR(64) NOT NULL, ENDS INTEGER);"
        }
        (Dialect::Drupal, Kind::Mysql) => {
            "CREATE TABLE IF NOT EXISTS TABLE (\
             KEY VARCHAR(255) CHARACTER SET ascii COLLATE ascii_general_ci NOT NULL DEFAULT '' PRIMARY_KEY, \
             OWNER VARCHAR(255) CHARACTER SET ascii COLLATE ascii_general_ci NOT NULL DEFAULT '', \
             ENDS DOUBLE NOT NULL, INDEX (OWNER), INDEX (ENDS)) ENGINE = InnoDB;"
        }
        (Dialect::Drupal, Kind::Postgres) => {
            "CREATE TABLE IF NOT EXISTS TABLE (KEY varchar(255) NOT NULL DEFAULT '' PRIMARY_KEY, \
             OWNER varchar(255) NOT NULL DEFAULT '', ENDS double precision NOT NULL);"
        }
        (Dialect::Drupal, Kind::Sqlite) => {
            "CREATE TABLE IF NOT EXISTS TABLE (KEY VARCHAR(255) NOT NULL DEFAULT '' COLLATE NOCASE_UTF8 PRIMARY_KEY, \
             OWNER VARCHAR(255) NOT NULL DEFAULT '' COLLATE NOCASE_UTF8, ENDS FLOAT NOT NULL);"
        }
        (Dialect::Laravel, Kind::Mysql) => {
            "CREATE TABLE IF NOT EXISTS TABLE (KEY VARCHAR(255) NOT NULL PRIMARY_KEY, \
             OWNER VARCHAR(255) NOT NULL, ENDS BIGINT NOT NULL, INDEX (ENDS)) COLLATE utf8mb4_bin, ENGINE = InnoDB;"
        }
        (Dialect::Laravel, _) => {
            "CREATE TABLE IF NOT EXISTS TABLE (KEY varchar(255) NOT NULL PRIMARY_KEY, \
             OWNER varchar(255) NOT NULL, ENDS bigint NOT NULL);"
        }
    };
    let quote = |name: &str| quoted(name, kind.quote());
    // Last of all the words that contain others.
    text.replace("CREATE TABLE IF NOT EXISTS TABLE", "CREATE_IT")
        .replace("PRIMARY_KEY", "PRIMARY_IT")
        .replace("KEY", &quote(&columns.id))
        .replace("OWNER", &quote(&columns.owner))
        .replace("ENDS", &quote(&columns.expires))
        .replace("PRIMARY_IT", "PRIMARY KEY")
        .replace(
            "CREATE_IT",
            &format!("CREATE TABLE IF NOT EXISTS {}", quote(&columns.table)),
        )
        + &indexes(dialect, kind, columns)
}

/// Drupal's indexes, under the names that it gives them; MariaDB has them in its table.
fn indexes(dialect: Dialect, kind: Kind, columns: &Columns) -> String {
    if dialect != Dialect::Drupal || kind == Kind::Mysql {
        return String::new();
    }
    let (schema, table) = match columns.table.rsplit_once('.') {
        Some((schema, table)) => (format!("{schema}."), table),
        None => (String::new(), &*columns.table),
    };
    let index = |column: &str| {
        // PostgreSQL puts an index beside its table, SQLite finds the table beside its index.
        let (name, on) = match kind {
            Kind::Sqlite => (format!("{schema}{table}_{column}"), table),
            _ => (format!("{table}__{column}__idx"), &*columns.table),
        };
        let quote = |name: &str| quoted(name, kind.quote());
        let (name, on, column) = (quote(&name), quote(on), quote(column));
        format!(" CREATE INDEX IF NOT EXISTS {name} ON {on} ({column});")
    };
    index(&columns.owner) + &index(&columns.expires)
}
