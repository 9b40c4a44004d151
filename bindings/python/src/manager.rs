//! The manager of semaphores.

use crate::errors::{contained, detached, raise, seconds};
use crate::lock::{Handle, end_of_calls};
use crate::store::{Backing, observer};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple,
};
use std::sync::Arc;
use synlock_core::manager::{Asked, Manager, ManagerOptions, Repeat, Ticket};
use synlock_core::name::typed::Key;
use synlock_core::sync::Mutex;
use synlock_core::{BootTime, Code, Error, Lock, Result, Wait};

/// How deep lists may lie in lists.
const DEEPEST: usize = 64;

/// Settings as the package hands them over.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Settings {
    tries: u32,
    sleep: f64,
    jitter: f64,
    ttl: f64,
    prefix: Vec<u8>,
    repeat: String,
    demo: bool,
}

impl Settings {
    fn options(self) -> Result<ManagerOptions> {
        let mut options = ManagerOptions::default();
        options.tries = self.tries;
        options.sleep = seconds(self.sleep, "sleep")?;
        options.jitter = seconds(self.jitter, "jitter")?;
        options.ttl = seconds(self.ttl, "ttl")?;
        options.prefix = self.prefix;
        options.repeat = match self.repeat.as_str() {
            "error" => Repeat::Error,
            "extend" => Repeat::Extend,
            _ => return Err(Error::invalid("repeat is one of error, extend")),
        };
        options.demo = self.demo;
        // Every wait gives Python its turn.
        options.interruptible = true;
        Ok(options)
    }
}

/// A key of Python's objects.
pub struct PyKey(pub Key);

impl<'py> FromPyObject<'_, 'py> for PyKey {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        key(&value.to_owned(), 0).map(PyKey)
    }
}

fn text(value: &Bound<'_, PyAny>) -> PyResult<Option<Vec<u8>>> {
    Ok(if let Ok(text) = value.cast::<PyString>() {
        Some(text.to_str()?.as_bytes().to_vec())
    } else if let Ok(bytes) = value.cast::<PyBytes>() {
        Some(bytes.as_bytes().to_vec())
    } else if let Ok(bytes) = value.cast::<PyByteArray>() {
        Some(bytes.to_vec())
    } else {
        None
    })
}

fn key(value: &Bound<'_, PyAny>, depth: usize) -> PyResult<Key> {
    if depth > DEEPEST {
        return Err(PyValueError::new_err("a key has lists more than 64 deep"));
    }
    let parts = |items: Vec<Bound<'_, PyAny>>| -> PyResult<Key> {
        let parts = items.iter().map(|part| key(part, depth + 1));
        parts.collect::<PyResult<_>>().map(Key::List)
    };
    if value.is_none() {
        return Ok(Key::Null);
    }
    if let Some(text) = text(value)? {
        return Ok(Key::Text(text));
    }
    // A flag is a number too.
    if let Ok(flag) = value.cast::<PyBool>() {
        return Ok(Key::Bool(flag.is_true()));
    }
    if value.is_instance_of::<PyInt>() {
        return value
            .extract()
            .map(Key::Int)
            .map_err(|_| PyValueError::new_err("a key has a number of more than 64 bits"));
    }
    if let Ok(number) = value.cast::<PyFloat>() {
        let number = number.value();
        return if number.is_finite() {
            Ok(Key::Float(number))
        } else {
            Err(PyValueError::new_err(format!(
                "a key has the number {number}"
            )))
        };
    }
    if let Ok(list) = value.cast::<PyList>() {
        return parts(list.iter().collect());
    }
    if let Ok(list) = value.cast::<PyTuple>() {
        return parts(list.iter().collect());
    }
    if let Ok(map) = value.cast::<PyDict>() {
        let mut parts = Vec::with_capacity(map.len());
        for (name, part) in map.iter() {
            let name = match text(&name)? {
                Some(name) => name,
                None if name.is_instance_of::<PyInt>() => name.str()?.to_str()?.as_bytes().to_vec(),
                None => return Err(PyTypeError::new_err("names in a key are str")),
            };
            parts.push((name, key(&part, depth + 1)?));
        }
        return Ok(Key::Map(parts));
    }
    Err(PyTypeError::new_err(format!(
        "a key is made of str, int, float, bool, None, lists and dicts, not of {}",
        value.get_type().name()?
    )))
}

/// What an event loop acquires for a manager, or releases.
#[pyclass(frozen, module = "synlock._synlock")]
#[derive(Debug)]
pub struct Errand {
    ticket: Mutex<Option<Ticket>>,
    lock: Arc<Lock>,
}

impl Errand {
    fn new(ticket: Ticket) -> Self {
        Errand {
            lock: ticket.lock().clone(),
            ticket: Mutex::new(Some(ticket)),
        }
    }

    fn take(&self) -> PyResult<Ticket> {
        let ticket = self.ticket.lock().take();
        ticket.ok_or_else(|| PyValueError::new_err("this errand is done"))
    }
}

#[pymethods]
impl Errand {
    #[getter]
    fn handle(&self) -> Handle {
        Handle::of(self.lock.clone())
    }

    /// Seconds to wait for it.
    #[getter]
    fn patience(&self) -> Option<f64> {
        match self.ticket.lock().as_ref().map(Ticket::wait) {
            Some(Wait::For(time)) => Some(time.as_secs_f64()),
            Some(Wait::Forever) => None,
            _ => Some(0.0),
        }
    }
}

/// Locks by typed keys.
#[pyclass(frozen, weakref, module = "synlock._synlock")]
#[derive(Debug)]
pub struct Semaphores {
    manager: Manager,
}

#[pymethods]
impl Semaphores {
    #[new]
    fn new(py: Python<'_>, store: &Backing, settings: Settings) -> PyResult<Self> {
        contained(py, || {
            let manager = Manager::new(&store.store, settings.options()?)?;
            Ok(Semaphores { manager })
        })
    }

    #[getter]
    fn url(&self) -> &str {
        self.manager.store().url()
    }

    fn name(&self, py: Python<'_>, key: PyKey) -> PyResult<Vec<u8>> {
        contained(py, || {
            self.manager
                .name(&key.0)
                .map(|name| name.as_bytes().to_vec())
        })
    }

    /// Acquires; (waited, contended, attempts, recovered).
    #[pyo3(signature = (key, caller=None, ttl=None))]
    fn acquire(
        &self,
        py: Python<'_>,
        key: PyKey,
        caller: Option<String>,
        ttl: Option<f64>,
    ) -> PyResult<(f64, bool, u32, bool)> {
        let ttl = ttl.map(|ttl| contained(py, || seconds(ttl, "ttl")));
        let ttl = ttl.transpose()?;
        loop {
            let result = detached(py, || {
                match self.manager.acquire(&key.0, caller.as_deref(), ttl, None) {
                    // The place in the queue is kept: Python gets its turn.
                    Err(error) if error.code() == Code::Interrupted => Ok(None),
                    other => other.map(Some),
                }
            })?;
            if let Some(how) = result {
                let waited = how.waited.as_secs_f64();
                return Ok((waited, how.contended, how.attempts, how.recovered));
            }
            if let Err(signal) = py.check_signals() {
                // Whoever handles the exception does not come back for the place.
                detached(py, || self.manager.abandon(&key.0))?;
                return Err(signal);
            }
        }
    }

    /// Releases; whether it was late.
    #[pyo3(signature = (key, caller=None))]
    fn release(&self, py: Python<'_>, key: PyKey, caller: Option<String>) -> PyResult<bool> {
        detached(py, || {
            self.manager
                .release(&key.0, caller.as_deref())
                .map(|released| released.late)
        })
    }

    #[pyo3(signature = (key, ttl=None))]
    fn refresh(&self, py: Python<'_>, key: PyKey, ttl: Option<f64>) -> PyResult<()> {
        detached(py, || {
            let ttl = ttl.map(|ttl| seconds(ttl, "ttl")).transpose()?;
            self.manager.refresh(&key.0, ttl)
        })
    }

    fn is_acquired(&self, py: Python<'_>, key: PyKey) -> PyResult<bool> {
        detached(py, || self.manager.is_acquired(&key.0))
    }

    /// For event loops: what to acquire and then `keep`; or the handle and the time to refresh.
    #[pyo3(signature = (key, caller=None, ttl=None))]
    fn ask(
        &self,
        py: Python<'_>,
        key: PyKey,
        caller: Option<String>,
        ttl: Option<f64>,
    ) -> PyResult<(Option<Errand>, Option<Handle>, Option<f64>)> {
        detached(py, || {
            let ttl = ttl.map(|ttl| seconds(ttl, "ttl")).transpose()?;
            Ok(match self.manager.ask(&key.0, caller.as_deref(), ttl)? {
                Asked::Ticket(ticket) => (Some(Errand::new(ticket)), None, None),
                Asked::Extend(lock, ttl) => (
                    None,
                    Some(Handle::of(lock)),
                    ttl.map(|ttl| ttl.as_secs_f64()),
                ),
            })
        })
    }

    /// Keeps what was acquired.
    fn keep(&self, py: Python<'_>, errand: &Errand) -> PyResult<()> {
        let ticket = errand.take()?;
        // Lets go of an old hold, perhaps: that asks a server.
        py.detach(|| self.manager.keep(ticket));
        Ok(())
    }

    /// Tells of an acquire that was refused because another manager of this process holds the key.
    fn refuse(&self, errand: &Errand) -> PyResult<()> {
        let ticket = errand.take()?;
        let name = ticket.lock().name().clone();
        // The exception has been raised already.
        let _ = self
            .manager
            .refused(&name, &ticket, Error::outcome(Code::Reentered));
        Ok(())
    }

    /// For event loops: what to release; nothing in a demo.
    #[pyo3(signature = (key, caller=None))]
    fn take(&self, py: Python<'_>, key: PyKey, caller: Option<String>) -> PyResult<Option<Errand>> {
        detached(py, || {
            let ticket = self.manager.take(&key.0, caller.as_deref())?;
            Ok(ticket.map(Errand::new))
        })
    }

    /// Takes back what was not released after all.
    fn put_back(&self, py: Python<'_>, errand: &Errand) -> PyResult<()> {
        let ticket = errand.take()?;
        py.detach(|| self.manager.put_back(ticket));
        Ok(())
    }

    /// The handle under a key that is held, and whether it has a lease.
    fn holding(&self, py: Python<'_>, key: PyKey) -> PyResult<(Handle, bool)> {
        detached(py, || {
            let lock = self.manager.lock(&key.0)?;
            let has_lease = self.manager.store().capabilities().ttl;
            Ok((Handle::of(lock), has_lease))
        })
    }

    /// Names that are held, and who acquired them.
    fn held(&self, py: Python<'_>) -> Vec<(Vec<u8>, Option<String>)> {
        let list = py.detach(|| self.manager.list());
        let row = |(name, caller): (synlock_core::Name, Option<std::sync::Arc<str>>)| {
            (
                name.as_bytes().to_vec(),
                caller.map(|caller| caller.to_string()),
            )
        };
        list.into_iter().map(row).collect()
    }

    #[pyo3(signature = (callback, unheard=false))]
    fn observe(&self, callback: Py<PyAny>, unheard: bool) -> u64 {
        let store = self.manager.store();
        match unheard {
            true => store.observe_warnings(observer(callback)),
            false => store.observe(observer(callback)),
        }
    }

    fn unobserve(&self, id: u64) {
        self.manager.store().unobserve(id);
    }

    fn measure(&self, on: bool) {
        self.manager.store().measure(on);
    }

    /// At the interpreter's end, and when the manager is done with.
    fn end(&self, py: Python<'_>) {
        py.detach(|| self.manager.end_with_process(end_of_calls()));
    }
}

impl Drop for Semaphores {
    fn drop(&mut self) {
        // A release may wait for a server: not with the interpreter in hand.
        Python::try_attach(|py| py.detach(|| self.manager.end_with_process(BootTime::now())));
    }
}

/// The name that a typed key stands for.
#[pyfunction]
pub fn key_name(py: Python<'_>, key: PyKey, prefix: Vec<u8>) -> PyResult<Vec<u8>> {
    key.0.render(&prefix).map_err(|error| raise(py, &error))
}

/// The name that a template makes of values.
#[pyfunction]
pub fn template_name(
    py: Python<'_>,
    template: Vec<u8>,
    values: Vec<(Vec<u8>, Vec<u8>)>,
) -> PyResult<Vec<u8>> {
    contained(py, || {
        synlock_core::name::template::render_with(&template, &values)
    })
}
