//! The Python face: a private native module under the hand-written package `synlock`.

mod book;
mod custom;
mod dispatch;
mod errors;
mod guard;
mod lock;
mod manager;
mod session;
mod set;
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
    use super::guard::{Gate, Services, check_policy};
    #[pymodule_export]
    use super::lock::Handle;
    #[pymodule_export]
    use super::manager::{Errand, Semaphores, key_name, template_name};
    #[pymodule_export]
    use super::session::Owner;
    #[pymodule_export]
    use super::set::Set;
    #[pymodule_export]
    use super::store::Backing;

    use super::{PyResult, Python, pyfunction};
    use synlock_core::fencing;

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

    /// What was counted, as Prometheus reads it.
    #[pyfunction]
    fn metrics() -> String {
        synlock_core::metrics::text()
    }

    /// Reads the answers to releases that nobody waited for.
    #[pyfunction]
    fn collect_releases(py: Python<'_>) {
        py.detach(synlock_core::collect_releases);
    }

    /// Statements that make the table of fencing tokens.
    #[pyfunction]
    fn fencing_ddl(py: Python<'_>, engine: &str, table: &str) -> PyResult<Vec<String>> {
        super::errors::contained(py, || fencing::ddl(fencing::Engine::read(engine)?, table))
    }

    /// Statements that make the trigger alone.
    #[pyfunction]
    fn fencing_trigger(
        py: Python<'_>,
        engine: &str,
        table: &str,
        column: &str,
    ) -> PyResult<Vec<String>> {
        super::errors::contained(py, || {
            fencing::trigger(fencing::Engine::read(engine)?, table, column)
        })
    }

    /// The statement that notes a token.
    #[pyfunction]
    fn fencing_statement(py: Python<'_>, engine: &str, table: &str) -> PyResult<String> {
        super::errors::contained(py, || {
            fencing::statement(fencing::Engine::read(engine)?, table)
        })
    }

    /// The script for Redis.
    #[pyfunction]
    fn fencing_redis() -> &'static str {
        fencing::REDIS
    }

    /// Panics, for the test that a bug of ours stays an exception that can be caught.
    #[pyfunction]
    fn _panic(py: Python<'_>) -> PyResult<()> {
        super::errors::contained(py, || panic!("asked to"))
    }
}
