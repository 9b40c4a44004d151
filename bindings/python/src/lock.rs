//! Lock handles: one hold each; the package's `Lock` makes one per acquire.

use crate::errors::{contained, detached, raise, seconds, wait};
use pyo3::prelude::*;
use std::sync::{Arc, OnceLock};
use synlock_core::{
    Acquired, BootTime, Code, Error, LAST_CALLS, Lock, LockOptions, Mode, Reentry, Result, Wait,
};

/// Until when calls that are under way may end, once the interpreter does.
pub fn end_of_calls() -> BootTime {
    static END: OnceLock<BootTime> = OnceLock::new();
    *END.get_or_init(|| BootTime::now().after(LAST_CALLS))
}

/// Options as the package hands them over.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Options {
    ttl: Option<f64>,
    renew: Option<bool>,
    shared: bool,
    permits: Option<(u32, u32)>,
    auto_release: Option<bool>,
    fair: Option<bool>,
    strict: Option<bool>,
    reentry: Option<String>,
    label: Option<String>,
}

impl Options {
    pub fn over(self, defaults: &LockOptions) -> Result<LockOptions> {
        let mut options = defaults.clone();
        if let Some(ttl) = self.ttl {
            options.ttl = Some(seconds(ttl, "ttl")?);
        }
        options.renew = self.renew.or(options.renew);
        options.mode = match (self.shared, self.permits) {
            (true, Some(_)) => {
                return Err(Error::invalid("a lock is either shared or has permits"));
            }
            (true, None) => Mode::Shared,
            (false, Some((take, of))) => Mode::Permits { take, of },
            (false, None) => options.mode,
        };
        options.auto_release = self.auto_release.unwrap_or(options.auto_release);
        options.fair = self.fair.unwrap_or(options.fair);
        options.strict = self.strict.unwrap_or(options.strict);
        options.reentry = match self.reentry.as_deref() {
            None => options.reentry,
            Some("independent") => Reentry::Independent,
            Some("error") => Reentry::Error,
            Some("extend") => Reentry::Extend,
            Some(_) => {
                return Err(Error::invalid(
                    "reentry is one of independent, error, extend",
                ));
            }
        };
        if let Some(label) = self.label {
            options.label = Some(label.into());
        }
        // Every wait gives Python its turn.
        options.interruptible = true;
        Ok(options)
    }
}

/// One claim.
#[pyclass(frozen, weakref, module = "synlock._synlock")]
#[derive(Debug)]
pub struct Handle {
    pub lock: Arc<Lock>,
}

impl Handle {
    pub fn new(lock: Lock) -> Self {
        Handle::of(Arc::new(lock))
    }

    /// One more handle of a lock.
    pub fn of(lock: Arc<Lock>) -> Self {
        Handle { lock }
    }
}

/// Waited, contended, attempts, recovered.
pub type How = (f64, bool, u32, bool);

/// Acquires, giving Python its turn now and then; `abandon` gives up what an acquire that was interrupted keeps.
/// What `check` raises then ends it too.
pub fn acquire_in_turns(
    py: Python<'_>,
    wait: Wait,
    acquire: impl Fn(Wait) -> Result<Acquired> + Sync,
    abandon: impl Fn() -> Result<()> + Sync,
    check: Option<&Py<PyAny>>,
) -> PyResult<How> {
    let deadline = wait.deadline();
    let mut turn = wait;
    loop {
        let result =
            py.detach(|| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| acquire(turn))));
        let error = match result {
            Ok(Ok(acquired)) => {
                return Ok((
                    acquired.waited.as_secs_f64(),
                    acquired.contended,
                    acquired.attempts,
                    acquired.recovered,
                ));
            }
            Ok(Err(error)) => error,
            Err(panic) => {
                std::mem::forget(panic);
                Error::new(Code::Internal, "a bug in synlock was contained")
            }
        };
        if error.code() != Code::Interrupted {
            return Err(raise(py, &error));
        }
        let checked = || check.map_or(Ok(()), |check| check.call0(py).map(drop));
        if let Err(raised) = py.check_signals().and_then(|()| checked()) {
            // Whoever handles the exception does not come back for the place in the queue.
            py.detach(|| abandon().ok());
            return Err(raised);
        }
        if let (Wait::For(_), Some(deadline)) = (wait, deadline) {
            turn = Wait::For(deadline.left().max(std::time::Duration::from_nanos(1)));
        }
    }
}

#[pymethods]
impl Handle {
    /// Handles of one lock are equal.
    fn __eq__(&self, other: &Handle) -> bool {
        Arc::ptr_eq(&self.lock, &other.lock)
    }

    fn __hash__(&self) -> usize {
        Arc::as_ptr(&self.lock).addr()
    }

    /// Acquires within `timeout` seconds; (waited, contended, attempts, recovered). `check` is called now and then
    /// while it waits.
    #[pyo3(signature = (timeout, check=None))]
    fn acquire(
        &self,
        py: Python<'_>,
        timeout: Option<f64>,
        check: Option<Py<PyAny>>,
    ) -> PyResult<How> {
        let wait = contained(py, || wait(timeout))?;
        acquire_in_turns(
            py,
            wait,
            |turn| self.lock.acquire(turn, None),
            || self.lock.abandon(),
            check.as_ref(),
        )
    }

    fn abandon(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || self.lock.abandon())
    }

    /// Releases; whether it was late.
    fn release(&self, py: Python<'_>) -> PyResult<bool> {
        detached(py, || self.lock.release().map(|released| released.late))
    }

    #[pyo3(signature = (ttl=None))]
    fn refresh(&self, py: Python<'_>, ttl: Option<f64>) -> PyResult<()> {
        detached(py, || {
            self.lock
                .refresh(ttl.map(|ttl| seconds(ttl, "ttl")).transpose()?)
        })
    }

    #[pyo3(signature = (timeout))]
    fn promote(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        detached(py, || self.lock.promote(wait(timeout)?))
    }

    fn demote(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || self.lock.demote())
    }

    fn is_acquired(&self, py: Python<'_>) -> PyResult<bool> {
        detached(py, || self.lock.is_acquired())
    }

    fn ensure_held(&self, py: Python<'_>) -> PyResult<()> {
        detached(py, || self.lock.ensure_held())
    }

    fn export(&self, py: Python<'_>) -> PyResult<String> {
        detached(py, || self.lock.export())
    }

    #[getter]
    fn state(&self, py: Python<'_>) -> &'static str {
        py.detach(|| self.lock.state()).name()
    }

    #[getter]
    fn remaining(&self, py: Python<'_>) -> Option<f64> {
        py.detach(|| self.lock.remaining())
            .map(|left| left.as_secs_f64())
    }

    #[getter]
    fn fencing_token(&self, py: Python<'_>) -> Option<u64> {
        py.detach(|| self.lock.fencing_token())
    }

    #[getter]
    fn owner_token(&self, py: Python<'_>) -> Option<String> {
        py.detach(|| self.lock.owner_token())
            .map(|token| token.to_hex())
    }

    #[getter]
    fn name(&self) -> &[u8] {
        self.lock.name().as_bytes()
    }

    /// What an acquire waits that does not say; `None` is for ever.
    #[getter]
    fn timeout(&self) -> Option<f64> {
        match self.lock.options().timeout {
            None | Some(Wait::Forever) => None,
            Some(Wait::No) => Some(0.0),
            Some(Wait::For(time)) => Some(time.as_secs_f64()),
        }
    }

    /// Taken and existing, if it is a semaphore's.
    #[getter]
    fn permits(&self, py: Python<'_>) -> Option<(u32, u32)> {
        match py.detach(|| self.lock.mode()) {
            Mode::Permits { take, of } => Some((take, of)),
            _ => None,
        }
    }

    #[getter]
    fn mode(&self, py: Python<'_>) -> &'static str {
        py.detach(|| self.lock.mode()).kind()
    }

    fn lost_fd(&self, py: Python<'_>) -> PyResult<i32> {
        detached(py, || self.lock.lost_fd())
    }

    /// Calls `callback()` once when the hold is lost, from the thread that finds out.
    fn on_lost(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<()> {
        detached(py, || {
            self.lock.on_lost(move || {
                Python::try_attach(|py| {
                    if let Err(error) = callback.call0(py) {
                        error.write_unraisable(py, None);
                    }
                });
            })
        })
    }

    fn set_auto_release(&self, on: bool) {
        self.lock.set_auto_release(on);
    }

    /// At the interpreter's end.
    fn end_with_process(&self, py: Python<'_>) {
        py.detach(|| self.lock.end_with_process(end_of_calls()));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // Others have it too: a manager, or whoever runs an operation for it.
        if Arc::strong_count(&self.lock) > 1 {
            return;
        }
        // A release may wait for a server: not with the interpreter in hand. `Lock`'s own drop follows.
        Python::try_attach(|py| {
            py.detach(|| {
                if self.lock.auto_release() && self.lock.state() == synlock_core::State::Held {
                    // Nobody else has it, and so nothing is under way.
                    self.lock.end_with_process(BootTime::now());
                }
            });
        });
    }
}
