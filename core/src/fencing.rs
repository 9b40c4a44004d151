//! The other half of fencing: a resource that refuses the writes of a holder that is one no more.
//!
//! A holder that was stopped for longer than its lease cannot know it at the instant of its write. The
//! resource can, if it keeps the highest fencing token that it has seen and refuses lower ones, in the
//! same transaction as the write. These are the texts that make databases and Redis do so; they are sent
//! by the program, on its own connections.
//!
//! In SQL, one row for each lock keeps the token, and a trigger makes the *database* refuse to lower it:
//! the refusal is an error that ends the transaction, which nobody can overlook. A table whose rows carry
//! a token of their own can have the same trigger.
//!
//! ```
//! use synlock_core::fencing::{Engine, ddl, statement};
//!
//! for sql in ddl(Engine::Sqlite, "synlock_fence")? {
//!     println!("{sql};");
//! }
//! // In the transaction that writes, with the lock's name and its fencing token:
//! println!("{};", statement(Engine::Sqlite, "synlock_fence")?);
//! # Ok::<(), synlock_core::Error>(())
//! ```

use crate::{Error, Result};

/// Name of the table if the program has no other.
pub const TABLE: &str = "synlock_fence";
/// Name of the column of the token.
pub const COLUMN: &str = "token";
/// How long a name may be on PostgreSQL.
const LONGEST_NAME: usize = 63;
/// Stands in the error of every refusal.
pub const STALE: &str = "stale fencing token";

/// Whose SQL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Engine {
    /// SQLite 3.24 or later.
    Sqlite,
    /// PostgreSQL 11 or later.
    Postgres,
    /// MySQL 5.7 or later, MariaDB 10.2 or later, with InnoDB.
    Mysql,
}

impl Engine {
    /// From `sqlite`, `postgres` (`postgresql`, `pgsql`), `mysql` (`mariadb`).
    ///
    /// # Errors
    /// `InvalidArgument` for anything else.
    pub fn read(name: &str) -> Result<Self> {
        match name {
            "sqlite" => Ok(Engine::Sqlite),
            "postgres" | "postgresql" | "pgsql" => Ok(Engine::Postgres),
            "mysql" | "mariadb" => Ok(Engine::Mysql),
            _ => Err(Error::invalid(
                "the engine is one of sqlite, postgres, mysql",
            )),
        }
    }

    fn quote(self, name: &str) -> String {
        let mark = if self == Engine::Mysql { '`' } else { '"' };
        let quoted: Vec<_> = name
            .split('.')
            .map(|part| format!("{mark}{part}{mark}"))
            .collect();
        quoted.join(".")
    }
}

/// Names are made of letters, digits and `_`, so that quoting them is enough on every engine.
fn check_name(name: &str, what: &str, parts: usize) -> Result<()> {
    let is_word = |part: &str| {
        (1..=48).contains(&part.len())
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !part.starts_with(|first: char| first.is_ascii_digit())
    };
    if name.split('.').count() <= parts && name.split('.').all(is_word) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "{what} is a word of at most 48 letters, digits and `_`{}",
        if parts > 1 {
            ", with a schema before a dot at most"
        } else {
            ""
        }
    )))
}

/// Statements that make the table of tokens and its trigger; run again, they change nothing, and the guard is
/// there all the time. (MySQL before 8.0.29 says then that it has the trigger.)
///
/// # Errors
/// `InvalidArgument` for a name that is not made of letters, digits and `_`.
pub fn ddl(engine: Engine, table: &str) -> Result<Vec<String>> {
    check_name(table, "the table", 2)?;
    let name = engine.quote(table);
    let create = match engine {
        Engine::Sqlite => format!(
            "CREATE TABLE IF NOT EXISTS {name} (\"name\" TEXT NOT NULL PRIMARY KEY, \"token\" INTEGER NOT NULL)"
        ),
        Engine::Postgres => format!(
            "CREATE TABLE IF NOT EXISTS {name} (\"name\" TEXT NOT NULL PRIMARY KEY, \"token\" BIGINT NOT NULL)"
        ),
        // Bytes: no collation takes two names for one.
        Engine::Mysql => format!(
            "CREATE TABLE IF NOT EXISTS {name} (`name` VARBINARY(512) NOT NULL PRIMARY KEY, `token` BIGINT NOT NULL) ENGINE=InnoDB"
        ),
    };
    let mut statements = vec![create];
    statements.extend(trigger(engine, table, COLUMN)?);
    Ok(statements)
}

/// Statements that make a trigger on a table of the program's own: no update lowers the token in `column`
/// of a row, or takes it away. On PostgreSQL the table and the column have at most 56 letters together.
///
/// # Errors
/// As [`ddl`].
pub fn trigger(engine: Engine, table: &str, column: &str) -> Result<Vec<String>> {
    check_name(table, "the table", 2)?;
    check_name(column, "the column", 1)?;
    let (name, token) = (engine.quote(table), engine.quote(column));
    let (schema, bare) = table
        .rsplit_once('.')
        .map_or((None, table), |(schema, bare)| (Some(schema), bare));
    let label = format!("{bare}_{column}_grows");
    // PostgreSQL cuts longer names short, and two guards could become one. MySQL refuses them itself.
    if engine == Engine::Postgres && label.len() > LONGEST_NAME {
        let most = LONGEST_NAME - "__grows".len();
        return Err(Error::invalid(format!(
            "on PostgreSQL the table and the column have at most {most} letters together"
        )));
    }
    let qualified = engine.quote(&match schema {
        Some(schema) => format!("{schema}.{label}"),
        None => label.clone(),
    });
    let label = engine.quote(&label);
    let lower =
        format!("(NEW.{token} IS NULL AND OLD.{token} IS NOT NULL) OR NEW.{token} < OLD.{token}");
    Ok(match engine {
        Engine::Sqlite => vec![format!(
            "CREATE TRIGGER IF NOT EXISTS {qualified} BEFORE UPDATE ON {} WHEN {lower} \
             BEGIN SELECT RAISE(ABORT, '{STALE}'); END",
            engine.quote(bare)
        )],
        Engine::Postgres => vec![
            format!(
                "CREATE OR REPLACE FUNCTION {qualified}() RETURNS trigger LANGUAGE plpgsql AS $$ \
                 BEGIN IF {lower} THEN RAISE EXCEPTION '{STALE}' USING ERRCODE = 'SL001'; END IF; \
                 RETURN NEW; END $$"
            ),
            // Made only where it is not: there is no moment without it.
            format!(
                "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = '{name}'::regclass \
                 AND tgname = '{bare}_{column}_grows') THEN \
                 CREATE TRIGGER {label} BEFORE UPDATE ON {name} FOR EACH ROW EXECUTE FUNCTION {qualified}(); \
                 END IF; END $$"
            ),
        ],
        // As MariaDB and MySQL know each other's comments. A MySQL that cannot be told so refuses a second one.
        Engine::Mysql => vec![format!(
            "CREATE TRIGGER /*M!100104 IF NOT EXISTS */ /*!80029 IF NOT EXISTS */ {qualified} \
             BEFORE UPDATE ON {name} FOR EACH ROW \
             IF {lower} THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{STALE}'; END IF"
        )],
    })
}

/// The statement to run first in each transaction that writes under the lock: with the lock's name and
/// its fencing token as parameters (`?`; `$1` and `$2` on PostgreSQL). It notes the token, and holds its
/// row until the transaction ends; a token lower than one before is an error with [`STALE`] in it. The name
/// must be text, on MySQL of at most 512 bytes: give a hash of others.
///
/// # Errors
/// As [`ddl`].
pub fn statement(engine: Engine, table: &str) -> Result<String> {
    check_name(table, "the table", 2)?;
    let name = engine.quote(table);
    Ok(match engine {
        Engine::Sqlite => format!(
            "INSERT INTO {name} (\"name\", \"token\") VALUES (?, ?) \
             ON CONFLICT (\"name\") DO UPDATE SET \"token\" = excluded.\"token\""
        ),
        Engine::Postgres => format!(
            "INSERT INTO {name} (\"name\", \"token\") VALUES ($1, $2) \
             ON CONFLICT (\"name\") DO UPDATE SET \"token\" = excluded.\"token\""
        ),
        Engine::Mysql => format!(
            "INSERT INTO {name} (`name`, `token`) VALUES (?, ?) \
             ON DUPLICATE KEY UPDATE `token` = VALUES(`token`)"
        ),
    })
}

/// A script that makes Redis run a command unless the token is stale: `KEYS` is the key that keeps the
/// highest token, then every key of the command; `ARGV` the token, then the command and its arguments.
/// A stale token is an error that begins with `STALE`.
pub const REDIS: &str = include_str!("fencing.lua");

/// Whether words of an error come from a refusal of ours.
pub fn is_stale(words: &str) -> bool {
    words.contains(STALE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words() {
        for name in ["fence", "app.fence_2", "_x"] {
            ddl(Engine::Postgres, name).unwrap();
        }
        for name in [
            "",
            "a.b.c",
            "a-b",
            "a b",
            "a\"b",
            "a`b",
            "1a",
            "a.",
            &"a".repeat(49),
        ] {
            assert!(ddl(Engine::Mysql, name).is_err(), "{name}");
            assert!(statement(Engine::Mysql, name).is_err(), "{name}");
        }
        assert!(trigger(Engine::Sqlite, "t", "a.b").is_err());
        let (table, column) = ("t".repeat(28), "c".repeat(28));
        trigger(Engine::Postgres, &format!("app.{table}"), &column).unwrap();
        assert!(trigger(Engine::Postgres, &table, &format!("{column}c")).is_err());
        trigger(Engine::Sqlite, &table, &format!("{column}c")).unwrap();
        assert!(Engine::read("oracle").is_err());
    }

    /// Whoever joins the statements by an empty line must be able to take them apart.
    #[test]
    fn no_statement_has_an_empty_line() {
        for engine in ["sqlite", "postgres", "mysql"] {
            let engine = Engine::read(engine).unwrap();
            for sql in ddl(engine, TABLE).unwrap() {
                assert!(!sql.contains('\n') && !sql.ends_with(';'), "{sql}");
            }
        }
    }
}
