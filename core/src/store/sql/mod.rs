//! Locks in a table of a database. `native.rs` is the store contract over `engine.rs`, which each
//! database answers in its own SQL; `book.rs` is what a row says, and what becomes of it.

mod book;
mod config;
mod engine;
mod limit;
#[cfg(feature = "mysql")]
pub mod mysql;
mod native;
mod peer;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "postgres", feature = "mysql"))]
mod server;
#[cfg(feature = "sqlite")]
pub mod sqlite;

use crate::{Error, Result};

/// The statements that make a table of locks on an engine.
fn ddl(engine: &str, table: &str) -> Result<String> {
    let (text, quote) = match engine {
        "sqlite" => (include_str!("sqlite/table.sql"), '"'),
        "postgres" | "postgresql" | "pgsql" => (include_str!("postgres/table.sql"), '"'),
        "mysql" | "mariadb" => (include_str!("mysql/table.sql"), '`'),
        _ => return Err(unknown_engine()),
    };
    Ok(text.replace("{table}", &config::quoted(table, quote)))
}

fn unknown_engine() -> Error {
    Error::invalid("the engine is one of sqlite, postgres, mysql")
}
