//! Errors of the core as exceptions of the package.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use std::panic::{AssertUnwindSafe, catch_unwind};
use synlock_core::{Code, Error, Result};

/// Makes the exception that the package's table has for the error's code.
pub fn raise(py: Python<'_>, error: &Error) -> PyErr {
    static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let made = MAKE
        .get_or_try_init(py, || {
            Ok::<_, PyErr>(py.import("synlock._errors")?.getattr("make")?.unbind())
        })
        .and_then(|make| {
            let arguments = (
                error.code().number(),
                error.to_string(),
                error.store(),
                error.resource(),
                error.operation(),
            );
            make.bind(py).call1(arguments)
        });
    match made {
        Ok(exception) => crate::custom::cause(py, error, PyErr::from_value(exception)),
        Err(broken) => broken,
    }
}

/// Runs `work` without the interpreter; a panic becomes an exception that `except Exception` sees.
pub fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    let result = py.detach(|| catch_unwind(AssertUnwindSafe(work)));
    settle(py, result)
}

/// As `detached`, for work that is too short to let go of the interpreter for.
pub fn contained<T>(py: Python<'_>, work: impl FnOnce() -> Result<T>) -> PyResult<T> {
    settle(py, catch_unwind(AssertUnwindSafe(work)))
}

fn settle<T>(py: Python<'_>, result: std::thread::Result<Result<T>>) -> PyResult<T> {
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(raise(py, &error)),
        Err(panic) => {
            std::mem::forget(panic);
            Err(raise(
                py,
                &Error::new(Code::Internal, "a bug in synlock was contained"),
            ))
        }
    }
}

/// Seconds as Python counts them.
pub fn seconds(value: f64, what: &str) -> Result<std::time::Duration> {
    std::time::Duration::try_from_secs_f64(value)
        .map_err(|_| Error::invalid(format!("{what} is negative or too large")))
}

/// A wait in seconds; `None` waits for ever.
pub fn wait(timeout: Option<f64>) -> Result<synlock_core::Wait> {
    Ok(match timeout {
        None => synlock_core::Wait::Forever,
        Some(0.0) => synlock_core::Wait::No,
        Some(timeout) => synlock_core::Wait::For(seconds(timeout, "the timeout")?),
    })
}
