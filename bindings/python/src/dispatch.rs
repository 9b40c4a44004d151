//! Dispatch, for event loops.

use crate::errors::{contained, raise, wait};
use crate::lock::Handle;
use crate::set::Set;
use pyo3::prelude::*;
use synlock_core::{Op, Outcome};

/// A queue of operations under way, with a descriptor to poll.
#[pyclass(frozen, module = "synlock._synlock")]
#[derive(Debug)]
pub struct Dispatch {
    dispatch: synlock_core::Dispatch,
}

/// What is acted on.
#[derive(FromPyObject)]
pub enum Target<'py> {
    Lock(PyRef<'py, Handle>),
    Set(PyRef<'py, Set>),
}

/// Ticket, exception or None, (waited, contended, attempts, recovered) or None.
type Finished = (u64, Option<Py<PyAny>>, Option<(f64, bool, u32, bool)>);

#[pymethods]
impl Dispatch {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        contained(py, || {
            Ok(Dispatch {
                dispatch: synlock_core::Dispatch::new()?,
            })
        })
    }

    fn fd(&self) -> i32 {
        self.dispatch.fd()
    }

    #[pyo3(signature = (target, op, argument=None))]
    fn submit(
        &self,
        py: Python<'_>,
        target: Target<'_>,
        op: &str,
        argument: Option<f64>,
    ) -> PyResult<u64> {
        contained(py, || {
            let op = match op {
                "acquire" => Op::Acquire(wait(argument)?),
                "release" => Op::Release,
                "refresh" => Op::Refresh(
                    argument
                        .map(|ttl| crate::errors::seconds(ttl, "ttl"))
                        .transpose()?,
                ),
                "promote" => Op::Promote(wait(argument)?),
                "demote" => Op::Demote,
                "check" => Op::Check,
                "abandon" => Op::Abandon,
                _ => return Err(synlock_core::Error::invalid("there is no such operation")),
            };
            match &target {
                Target::Lock(handle) => self.dispatch.submit(&handle.lock, op, 0),
                Target::Set(set) => self.dispatch.submit_set(&set.set, op, 0),
            }
        })
    }

    fn cancel(&self, py: Python<'_>, ticket: u64) {
        py.detach(|| self.dispatch.cancel(ticket));
    }

    fn reap(&self, py: Python<'_>, most: usize) -> Vec<Finished> {
        let reaped = py.detach(|| self.dispatch.reap(most));
        let shown = reaped
            .into_iter()
            .map(|completion| match completion.result {
                Ok(Outcome::Acquired(acquired)) => {
                    let how = (
                        acquired.waited.as_secs_f64(),
                        acquired.contended,
                        acquired.attempts,
                        acquired.recovered,
                    );
                    (completion.ticket, None, Some(how))
                }
                Ok(_) => (completion.ticket, None, None),
                Err(error) => (
                    completion.ticket,
                    Some(raise(py, &error).into_value(py).into_any()),
                    None,
                ),
            });
        shown.collect()
    }
}
