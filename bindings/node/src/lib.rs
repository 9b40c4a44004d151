//! The Node face: a private addon under the hand-written package `synlock`.

#![expect(
    missing_docs,
    missing_debug_implementations,
    reason = "private; index.d.ts documents what users see"
)]

mod custom;
pub mod guard;
mod hub;
mod lock;
pub mod manager;
pub mod seats;
mod session;
mod set;
mod store;
mod switch;
mod uv;

use napi::bindgen_prelude::BigInt;
use napi_derive::napi;
use std::time::Duration;
use synlock_core::{Code, Error, Result, Wait};

/// One row of the table of codes.
#[napi(object)]
pub struct CodeRow {
    pub status: i32,
    pub name: String,
    pub class: String,
    pub text: String,
    pub retriable: bool,
}

#[napi(catch_unwind)]
pub fn codes() -> Vec<CodeRow> {
    let row = |code: &Code| CodeRow {
        status: code.number(),
        name: code.name().to_owned(),
        class: code.class().to_owned(),
        text: code.text().to_owned(),
        retriable: code.is_retriable(),
    };
    Code::ALL.iter().map(row).collect()
}

#[napi(catch_unwind)]
pub fn schemes() -> Vec<String> {
    synlock_core::registry::schemes()
        .into_iter()
        .map(str::to_owned)
        .collect()
}

/// Statements of the checking half of fencing: `ddl`, `trigger` or `statement`, joined by empty lines.
#[napi(catch_unwind)]
pub fn fencing(what: String, engine: String, table: String, column: String) -> Outcome {
    use synlock_core::fencing::{Engine, ddl, statement, trigger};
    let text = Engine::read(&engine).and_then(|engine| {
        Ok(match what.as_str() {
            "ddl" => ddl(engine, &table)?.join("\n\n"),
            "trigger" => trigger(engine, &table, &column)?.join("\n\n"),
            _ => statement(engine, &table)?,
        })
    });
    Outcome::of(text, |text, outcome| outcome.value = Some(text))
}

#[napi(catch_unwind)]
pub fn fencing_redis() -> String {
    synlock_core::fencing::REDIS.to_owned()
}

/// What a call came to; errors are made into exceptions by the package, from `status`.
#[napi(object)]
#[derive(Default)]
pub struct Outcome {
    pub status: i32,
    pub message: Option<String>,
    pub store: Option<String>,
    pub resource: Option<String>,
    pub operation: Option<String>,
    pub waited: Option<f64>,
    pub contended: Option<bool>,
    pub attempts: Option<u32>,
    /// The process held it already.
    pub extended: Option<bool>,
    pub late: Option<bool>,
    /// JSON of an inspection, a page, an event or a flag.
    pub value: Option<String>,
}

impl Outcome {
    fn of<T>(result: Result<T>, fill: impl FnOnce(T, &mut Outcome)) -> Self {
        let mut outcome = Outcome::default();
        match result {
            Ok(value) => fill(value, &mut outcome),
            Err(error) => outcome = Outcome::refused(&error),
        }
        outcome
    }

    fn refused(error: &Error) -> Self {
        Outcome {
            status: error.code().number(),
            message: Some(error.to_string()),
            store: error.store().map(str::to_owned),
            resource: error.resource().map(str::to_owned),
            operation: error.operation().map(str::to_owned),
            ..Outcome::default()
        }
    }

    fn acquired(acquired: synlock_core::Acquired, outcome: &mut Outcome) {
        outcome.waited = Some(acquired.waited.as_secs_f64() * 1000.0);
        outcome.contended = Some(acquired.contended);
        outcome.attempts = Some(acquired.attempts);
        outcome.extended = Some(acquired.extended);
    }
}

/// A wait in ms; negative waits for ever.
fn wait(ms: f64) -> Result<Wait> {
    if ms < 0.0 || ms == f64::INFINITY {
        return Ok(Wait::Forever);
    }
    if ms == 0.0 {
        return Ok(Wait::No);
    }
    Ok(Wait::For(millis(ms, "the timeout")?))
}

fn millis(ms: f64, what: &str) -> Result<Duration> {
    Duration::try_from_secs_f64(ms / 1000.0)
        .map_err(|_| Error::invalid(format!("{what} is no number of milliseconds")))
}

fn big(token: Option<u64>) -> Option<BigInt> {
    token.map(BigInt::from)
}
