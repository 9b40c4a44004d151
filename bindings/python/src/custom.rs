//! Stores made of a Python object, which `synlock._custom` asks.

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use std::time::Duration;
use synlock_core::store::custom::{Ask, Callbacks, Reply, Traits, Verb};
use synlock_core::store::{Holder, Inspection};
use synlock_core::{Code, Error, Fence, Mode, Result, Scope};

/// What the object can do, as the package found out.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
#[expect(clippy::struct_excessive_bools, reason = "a record of what it can do")]
pub struct Can {
    shared: bool,
    permits: bool,
    frees_on_death: bool,
    survives_restart: bool,
    fence: Option<String>,
    scope: String,
    extend: bool,
    change_mode: bool,
    inspect: bool,
    list: bool,
    break_lock: bool,
    ping: bool,
}

impl Can {
    pub fn traits(self) -> Result<Traits> {
        let fences = [Fence::Ephemeral, Fence::Hybrid, Fence::Durable];
        let fence = match self.fence.as_deref() {
            None => Fence::None,
            Some(class) => fences
                .into_iter()
                .find(|fence| fence.class() == class)
                .ok_or_else(|| Error::invalid("fence is one of None, E, H, D"))?,
        };
        let scope = [Scope::Process, Scope::Host, Scope::Cluster]
            .into_iter()
            .find(|scope| scope.name() == self.scope)
            .ok_or_else(|| Error::invalid("scope is one of process, host, cluster"))?;
        Ok(Traits {
            shared: self.shared,
            permits: self.permits,
            ttl: self.extend,
            frees_on_death: self.frees_on_death,
            change_mode: self.change_mode,
            inspect: self.inspect,
            list: self.list,
            break_lock: self.break_lock,
            ping: self.ping,
            survives_restart: self.survives_restart,
            fence,
            scope,
        })
    }
}

/// The function that asks the object.
pub struct Object(pub Py<PyAny>);

#[derive(FromPyObject)]
struct Answer(
    i32,
    Option<u64>,
    bool,
    Option<f64>,
    Option<f64>,
    Vec<(Vec<u8>, Option<u32>, Vec<Row>)>,
);

#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Row {
    owner: String,
    mode: String,
    permits: u32,
    host: Option<String>,
    pid: Option<u32>,
    label: Option<String>,
    remaining: Option<f64>,
    held: Option<f64>,
    fencing_token: Option<u64>,
}

fn time(seconds: Option<f64>) -> Option<Duration> {
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds.max(0.0)).ok())
}

impl Row {
    fn holder(self) -> Holder {
        Holder {
            // The whole token is the right to release.
            owner: self.owner.chars().take(8).collect(),
            mode: match self.mode.as_str() {
                "shared" => "shared",
                "permits" => "permits",
                _ => "exclusive",
            },
            permits: self.permits,
            host: self.host,
            pid: self.pid,
            label: self.label,
            remaining: time(self.remaining),
            held: time(self.held),
            fence: self.fencing_token,
            brand: None,
        }
    }
}

impl Callbacks for Object {
    fn call(&self, verb: Verb, ask: &Ask<'_>) -> Result<Reply> {
        let permits = match ask.mode {
            Mode::Permits { take, of } => Some((take, of)),
            _ => None,
        };
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        let asked = Python::try_attach(|py| {
            let question = (
                verb.name(),
                ask.name,
                ask.owner.as_str(),
                ask.mode.kind(),
                permits,
                seconds(ask.ttl),
                seconds(ask.time),
                ask.label,
                ask.waits,
            );
            let answer = self.0.call1(py, question)?;
            let answer = answer.extract::<Answer>(py)?;
            PyResult::Ok(Reply {
                fence: answer.1,
                recovered: answer.2,
                until: time(answer.3),
                poll: time(answer.4),
                locks: answer
                    .5
                    .into_iter()
                    .map(|(name, waiters, rows)| Inspection {
                        name,
                        holders: rows.into_iter().map(Row::holder).collect(),
                        waiters,
                    })
                    .collect(),
                ..Reply::of(Code::from_number(answer.0).unwrap_or(Code::Internal))
            })
        });
        match asked {
            Some(Ok(reply)) => Ok(reply),
            Some(Err(thrown)) => Err(blame(verb, thrown)),
            None => Err(Error::new(Code::Unavailable, "the interpreter has ended")),
        }
    }
}

/// What the object threw, as the error that it stands for and with itself as the cause.
fn blame(verb: Verb, thrown: PyErr) -> Error {
    let (code, words) = Python::attach(|py| {
        let value = thrown.value(py);
        let status = value.getattr("status").and_then(|status| status.extract());
        let code = status
            .ok()
            .and_then(Code::from_number)
            .filter(|code| !code.is_outcome() && *code != Code::Ok);
        (code.unwrap_or(verb.failed()), value.to_string())
    });
    let words = format!("the custom store's {} failed: {words}", verb.name());
    Error::new(code, words).with_source(thrown)
}

/// The exception that an error came from: what interrupts a program goes on as it is, anything else is
/// the cause.
pub fn cause(py: Python<'_>, error: &Error, made: PyErr) -> PyErr {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<PyErr>());
    let Some(thrown) = source else { return made };
    if !thrown.is_instance_of::<PyException>(py) {
        return thrown.clone_ref(py);
    }
    made.set_cause(py, Some(thrown.clone_ref(py)));
    made
}
