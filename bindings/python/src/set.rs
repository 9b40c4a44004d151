//! Several lock handles at once.

use crate::errors::{contained, detached, wait};
use crate::lock::{Handle, How, acquire_in_turns};
use pyo3::prelude::*;
use std::sync::Arc;
use synlock_core::LockSet;

/// One claim on several locks; the package's `LockSet` makes one per acquire.
#[pyclass(frozen, module = "synlock._synlock")]
#[derive(Debug)]
pub struct Set {
    pub set: Arc<LockSet>,
}

#[pymethods]
impl Set {
    #[new]
    fn new(py: Python<'_>, handles: Vec<PyRef<'_, Handle>>) -> PyResult<Self> {
        let locks: Vec<_> = handles.iter().map(|handle| &*handle.lock).collect();
        contained(py, || {
            Ok(Set {
                set: Arc::new(LockSet::new(&locks)?),
            })
        })
    }

    /// Acquires within `timeout` seconds; (waited, contended, attempts, recovered).
    #[pyo3(signature = (timeout))]
    fn acquire(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<How> {
        let wait = contained(py, || wait(timeout))?;
        acquire_in_turns(
            py,
            wait,
            |turn| self.set.acquire(turn, None),
            || self.set.abandon(),
            None,
        )
    }

    /// Releases; whether it was late.
    fn release(&self, py: Python<'_>) -> PyResult<bool> {
        detached(py, || self.set.release().map(|released| released.late))
    }

    fn ensure_held(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || self.set.ensure_held())
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        // What it gives back may take a server's time: not with the interpreter in hand. Its own drop follows. Where
        // others have it still, an operation is under way, which ends it.
        if Arc::strong_count(&self.set) == 1 {
            Python::try_attach(|py| py.detach(|| self.set.end()));
        }
    }
}
