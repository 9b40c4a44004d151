//! Stores.

use crate::custom::{Can, Object};
use crate::errors::{contained, detached, wait};
use crate::lock::{Handle, Options};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use synlock_core::Store;
use synlock_core::store::{Holder, Inspection};

/// An opened store.
#[pyclass(frozen, module = "synlock._synlock")]
#[derive(Debug)]
pub struct Backing {
    pub store: Store,
}

fn describe(py: Python<'_>, found: &Inspection) -> PyResult<Py<PyAny>> {
    let lock = PyDict::new(py);
    lock.set_item("name", found.name.as_slice())?;
    lock.set_item("waiters", found.waiters)?;
    lock.set_item("holders", describe_holders(py, &found.holders)?)?;
    Ok(lock.into_any().unbind())
}

pub fn describe_holders(py: Python<'_>, holders: &[Holder]) -> PyResult<Vec<Py<PyAny>>> {
    let rows = holders.iter().map(|holder| {
        let row = PyDict::new(py);
        row.set_item("owner", &holder.owner)?;
        row.set_item("mode", holder.mode)?;
        row.set_item("permits", holder.permits)?;
        row.set_item("host", holder.host.as_deref())?;
        row.set_item("pid", holder.pid)?;
        row.set_item("label", holder.label.as_deref())?;
        row.set_item("remaining", holder.remaining.map(|left| left.as_secs_f64()))?;
        row.set_item("held", holder.held.map(|held| held.as_secs_f64()))?;
        row.set_item("fencing_token", holder.fence)?;
        Ok(row.into_any().unbind())
    });
    rows.collect()
}

/// Calls `callback(event: dict)` from whatever thread an event happens on.
pub fn observer(callback: Py<PyAny>) -> synlock_core::event::Observer {
    std::sync::Arc::new(move |event| {
        // At the interpreter's end there is nobody left to tell.
        Python::try_attach(|py| {
            let told = (|| -> PyResult<()> {
                let row = PyDict::new(py);
                row.set_item("kind", event.kind.name())?;
                row.set_item("level", event.level)?;
                row.set_item("status", event.code.number())?;
                row.set_item("pid", event.pid)?;
                row.set_item("store", &event.store)?;
                row.set_item("resource", event.resource.as_slice())?;
                row.set_item("owner", &event.owner)?;
                row.set_item("label", event.label.as_deref())?;
                row.set_item("caller", event.caller.as_deref())?;
                row.set_item("key", event.key.as_deref())?;
                row.set_item("operation", event.operation)?;
                row.set_item("line", event.line())?;
                row.set_item("waited", event.waited.as_secs_f64())?;
                row.set_item("held", event.held.as_secs_f64())?;
                row.set_item("attempts", event.attempts)?;
                row.set_item("message", &event.message)?;
                callback.call1(py, (row,)).map(drop)
            })();
            if let Err(error) = told {
                error.write_unraisable(py, None);
            }
        });
    })
}

#[pymethods]
impl Backing {
    #[new]
    fn new(py: Python<'_>, url: &str, options: Vec<(String, String)>) -> PyResult<Self> {
        contained(py, || {
            let options: Vec<(&str, &str)> = options
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect();
            Ok(Backing {
                store: Store::open_with(url, &options)?,
            })
        })
    }

    /// A store that `ask` answers for.
    #[staticmethod]
    fn custom(
        py: Python<'_>,
        name: &str,
        ask: Py<PyAny>,
        can: Can,
        options: Vec<(String, String)>,
    ) -> PyResult<Self> {
        contained(py, || {
            let options: Vec<(&str, &str)> = options
                .iter()
                .map(|(key, value)| (key.as_str(), value.as_str()))
                .collect();
            let store = Store::custom(name, can.traits()?, Box::new(Object(ask)), &options)?;
            Ok(Backing { store })
        })
    }

    #[getter]
    fn url(&self) -> &str {
        self.store.url()
    }

    #[getter]
    fn fingerprint(&self) -> String {
        self.store.fingerprint()
    }

    fn capabilities(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let can = self.store.capabilities();
        let row = PyDict::new(py);
        row.set_item("store", can.store)?;
        for (name, value) in [
            ("shared", can.shared),
            ("promote", can.promote),
            ("permits", can.permits),
            ("ttl", can.ttl),
            ("frees_on_death", can.frees_on_death),
            ("wakes", can.wakes),
            ("fair", can.fair),
            ("export", can.export),
            ("list", can.list),
            ("break_lock", can.break_lock),
            ("survives_restart", can.survives_restart),
        ] {
            row.set_item(name, value)?;
        }
        row.set_item("fence", can.fence.class())?;
        row.set_item("scope", can.scope.name())?;
        row.set_item("clock", can.clock)?;
        Ok(row.into_any().unbind())
    }

    #[pyo3(signature = (name, options))]
    fn lock(&self, py: Python<'_>, name: &[u8], options: Options) -> PyResult<Handle> {
        contained(py, || {
            Ok(Handle::new(
                self.store
                    .lock_with(name, options.over(self.store.defaults())?)?,
            ))
        })
    }

    fn adopt(&self, py: Python<'_>, text: &str, options: Options) -> PyResult<Handle> {
        detached(py, || {
            Ok(Handle::new(
                self.store
                    .adopt(text, options.over(self.store.defaults())?)?,
            ))
        })
    }

    #[pyo3(signature = (timeout=None))]
    fn ping(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        detached(py, || self.store.ping(wait(timeout)?))
    }

    fn is_locked(&self, py: Python<'_>, name: &[u8]) -> PyResult<bool> {
        detached(py, || self.store.is_locked(name))
    }

    fn check(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        detached(py, || self.store.check().map(|found| found.texts))
    }

    #[pyo3(signature = (timeout=None))]
    fn create_table(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<()> {
        detached(py, || self.store.create_table(wait(timeout)?))
    }

    #[pyo3(signature = (engine=None))]
    fn ddl(&self, py: Python<'_>, engine: Option<&str>) -> PyResult<String> {
        detached(py, || self.store.ddl(engine))
    }

    fn break_lock(&self, py: Python<'_>, name: &[u8]) -> PyResult<bool> {
        detached(py, || self.store.break_lock(name))
    }

    #[pyo3(signature = (name, timeout=None))]
    fn wait_free(&self, py: Python<'_>, name: &[u8], timeout: Option<f64>) -> PyResult<bool> {
        // In slices, so that Ctrl-C is heard.
        let wait = contained(py, || wait(timeout))?;
        let deadline = wait.deadline();
        loop {
            let slice = std::time::Duration::from_millis(200);
            let slice = deadline.map_or(slice, |deadline| deadline.left().min(slice));
            if detached(py, || {
                self.store.wait_free(name, synlock_core::Wait::For(slice))
            })? {
                return Ok(true);
            }
            py.check_signals()?;
            if deadline.is_some_and(synlock_core::BootTime::has_passed) {
                return Ok(false);
            }
        }
    }

    fn inspect(&self, py: Python<'_>, name: &[u8]) -> PyResult<Py<PyAny>> {
        let found = detached(py, || self.store.inspect(name))?;
        describe(py, &found)
    }

    #[pyo3(signature = (prefix, cursor, limit))]
    fn list(
        &self,
        py: Python<'_>,
        prefix: &[u8],
        cursor: Option<&str>,
        limit: usize,
    ) -> PyResult<(Vec<Py<PyAny>>, Option<String>)> {
        let page = detached(py, || self.store.list(prefix, cursor, limit))?;
        let rows = page
            .locks
            .iter()
            .map(|found| describe(py, found))
            .collect::<PyResult<_>>()?;
        Ok((rows, page.cursor))
    }

    /// Calls `callback(event: dict)` from whatever thread an event happens on; `unheard`, only with
    /// the warnings that nobody else is told of.
    #[pyo3(signature = (callback, unheard=false))]
    fn observe(&self, callback: Py<PyAny>, unheard: bool) -> u64 {
        match unheard {
            true => self.store.observe_warnings(observer(callback)),
            false => self.store.observe(observer(callback)),
        }
    }

    fn unobserve(&self, id: u64) {
        self.store.unobserve(id);
    }

    /// Counts what happens to the locks, or stops it.
    fn measure(&self, on: bool) {
        self.store.measure(on);
    }
}
