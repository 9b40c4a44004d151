//! The Python face: a private native module under the hand-written package `synlock`.

mod book;
mod custom;
mod dispatch;
mod errors;
mod lock;
mod store;

use pyo3::prelude::*;

/// The native half of `synlock`.
#[pymodule(gil_used = false)]
mod _synlock {
    #[pymodule_export]
    use super::book::Book;
    #[pymodule_export]
    use super::dispatch::Dispatch;
    #[pymodule_export]
    use super::lock::Handle;
    #[pymodule_export]
    use super::store::Backing;

    use super::{PyResult, Python, pyfunction};

    /// The table of codes: number, name, class, text, retriable.
    #[pyfunction]
    fn codes() -> Vec<(i32, &'static str, &'static str, &'static str, bool)> {
        let all = synlock_core::Code::ALL.iter();
        all.map(|code| {
            (
                code.number(),
                code.name(),
                code.class(),
                code.text(),
                code.is_retriable(),
            )
        })
        .collect()
    }

    /// URL schemes that this build can open.
    #[pyfunction]
    fn schemes() -> Vec<&'static str> {
        synlock_core::registry::schemes()
    }

    /// Panics, for the test that a bug of ours stays an exception that can be caught.
    #[pyfunction]
    fn _panic(py: Python<'_>) -> PyResult<()> {
        super::errors::contained(py, || panic!("asked to"))
    }
}
