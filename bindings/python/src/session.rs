//! Sessions.

use crate::errors::{contained, detached, seconds};
use crate::store::Backing;
use pyo3::prelude::*;
use synlock_core::Session;
use synlock_core::session::Taken;

/// One owner of many names.
#[pyclass(frozen, module = "synlock._synlock")]
#[derive(Debug)]
pub struct Owner(Session);

#[pymethods]
impl Owner {
    #[new]
    #[pyo3(signature = (store, id=None))]
    fn new(py: Python<'_>, store: &Backing, id: Option<&str>) -> PyResult<Self> {
        contained(py, || match id {
            None => Ok(Owner(Session::new(&store.store))),
            Some(id) => Session::persistent(&store.store, id).map(Owner),
        })
    }

    #[getter]
    fn id(&self, py: Python<'_>) -> PyResult<String> {
        contained(py, || Ok(self.0.id()?.to_string()))
    }

    #[getter]
    fn is_persistent(&self) -> bool {
        self.0.is_persistent()
    }

    /// Whether it is held now, and whether it was not before.
    fn acquire(&self, py: Python<'_>, name: &[u8], ttl: f64) -> PyResult<(bool, bool)> {
        detached(py, || {
            let taken = self.0.acquire(name, seconds(ttl, "the ttl")?)?;
            Ok((taken.is_held(), taken == Taken::New))
        })
    }

    fn renew(&self, py: Python<'_>, name: &[u8], ttl: f64) -> PyResult<bool> {
        detached(py, || self.0.renew(name, seconds(ttl, "the ttl")?))
    }

    fn may_be_available(&self, py: Python<'_>, name: &[u8]) -> PyResult<bool> {
        detached(py, || self.0.may_be_available(name))
    }

    fn release(&self, py: Python<'_>, name: &[u8]) -> PyResult<bool> {
        detached(py, || self.0.release(name))
    }

    #[pyo3(signature = (id=None))]
    fn release_all(&self, py: Python<'_>, id: Option<&str>) -> PyResult<u64> {
        detached(py, || self.0.release_all(id))
    }

    /// At its end, and the interpreter's.
    fn end(&self, py: Python<'_>) {
        if !self.0.is_persistent() {
            // What cannot be released ends with its lease, or the process.
            let _ = py.detach(|| self.0.release_all(None));
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // A release may wait for a server: not with the interpreter in hand.
        Python::try_attach(|py| self.end(py));
    }
}
