//! The holds of one lock object, and the short way to and from one: what is free is taken and given back
//! in one native call. Whatever is not so plain is the package's.

use crate::errors::raise;
use crate::lock::Handle;
use pyo3::PyTraverseError;
use pyo3::exceptions::PyValueError;
use pyo3::gc::PyVisit;
use pyo3::intern;
use pyo3::prelude::*;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use synlock_core::{Acquired, Code, Error, State};

/// How the last acquire went: (waited, contended, attempts, recovered).
type How = (f64, bool, u32, bool);

struct Hold {
    /// The thread or task that acquired it.
    owner: Py<PyAny>,
    handle: Py<Handle>,
}

#[derive(Default)]
struct Pages {
    /// Oldest first; more than one only for shared locks and permits.
    holds: Vec<Hold>,
    idle: Vec<Py<Handle>>,
    /// The thread that acquired last, and what stands for it; `None` if owners are no threads.
    last: Option<(u64, Py<PyAny>)>,
    how: Option<How>,
}

/// The holds and the idle handles of a lock object.
///
/// Nothing of Python's runs while the pages are locked, and the interpreter is not let go of then. On the
/// short way it is not let go of at all: a store that answers at once never waits for another thread's
/// turn, and letting go costs more than the pair.
#[pyclass(subclass, frozen, module = "synlock._synlock")]
#[derive(Default)]
pub struct Book(Mutex<Pages>);

/// Whatever counts as true or false.
struct Truth(bool);

impl<'py> FromPyObject<'_, 'py> for Truth {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        value.is_truthy().map(Truth)
    }
}

impl std::fmt::Debug for Book {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Book").finish_non_exhaustive()
    }
}

/// Of the calling thread; never used again after it has ended.
fn thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local!(static MINE: Cell<u64> = const { Cell::new(0) });
    MINE.with(|mine| {
        if mine.get() == 0 {
            mine.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        mine.get()
    })
}

impl Book {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle handle of a store that answers at once, if the calling thread was the last to acquire.
    fn lend_quickly(&self, py: Python<'_>) -> Option<(Py<Handle>, Py<PyAny>)> {
        let mut pages = self.pages();
        let (last, me) = pages.last.as_ref()?;
        let lock = &pages.idle.last()?.get().lock;
        if *last != thread() || !lock.answers_at_once() || lock.state() != State::Idle {
            return None;
        }
        let me = me.clone_ref(py);
        Some((pages.idle.pop()?, me))
    }

    /// Takes what is free; `None` if that is not so plain. `tells`: whoever listens is told of a refusal.
    fn acquire_quickly(&self, py: Python<'_>, tells: bool) -> PyResult<Option<bool>> {
        let Some((handle, owner)) = self.lend_quickly(py) else {
            return Ok(None);
        };
        let lock = &handle.get().lock;
        let run = || match tells {
            true => lock.try_acquire(),
            false => lock.acquire_at_once(),
        };
        match contain(run) {
            Ok(Some(acquired)) => {
                let mut pages = self.pages();
                pages.how = Some(how(&acquired));
                pages.holds.push(Hold { owner, handle });
                Ok(Some(true))
            }
            Ok(None) => {
                self.pages().idle.push(handle);
                Ok(tells.then_some(false))
            }
            Err(error) => Err(raise(py, &error)),
        }
    }

    /// Lets the caller's hold go, if it is the newest one; `None` if that is not so plain.
    fn release_quickly(&self) -> Option<Result<(), Error>> {
        let hold = {
            let mut pages = self.pages();
            let (last, me) = pages.last.as_ref()?;
            let hold = pages.holds.last()?;
            let is_ours = *last == thread() && hold.owner.is(me);
            if !is_ours || !hold.handle.get().lock.answers_at_once() {
                return None;
            }
            pages.holds.pop()?
        };
        let released = contain(|| hold.handle.get().lock.release());
        match &released {
            Ok(_) => self.pages().idle.push(hold.handle),
            Err(error) if error.code() == Code::ConcurrentUse => self.pages().holds.push(hold),
            Err(_) => {}
        }
        Some(released.map(drop))
    }
}

fn how(acquired: &Acquired) -> How {
    (
        acquired.waited.as_secs_f64(),
        acquired.contended,
        acquired.attempts,
        acquired.recovered,
    )
}

fn contain<T>(run: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        std::mem::forget(panic);
        Err(Error::new(Code::Internal, "a bug in synlock was contained"))
    })
}

#[pymethods]
impl Book {
    #[new]
    #[pyo3(signature = (*_args, **_options))]
    fn new(_args: &Bound<'_, PyAny>, _options: Option<&Bound<'_, PyAny>>) -> Self {
        Book::default()
    }

    // ---- the short way, for threads

    /// Acquires; False if the lock was not free at once (or in time).
    #[pyo3(
        signature = (blocking=Truth(true), timeout=-1.0),
        text_signature = "($self, blocking=True, timeout=-1)"
    )]
    fn _acquire_as_thread(slf: &Bound<'_, Self>, blocking: Truth, timeout: f64) -> PyResult<bool> {
        let py = slf.py();
        let Truth(blocking) = blocking;
        if !blocking && timeout != -1.0 {
            return Err(PyValueError::new_err(
                "can't specify a timeout for a non-blocking call",
            ));
        }
        if timeout < 0.0 && timeout != -1.0 {
            return Err(PyValueError::new_err(
                "timeout value must be a non-negative number",
            ));
        }
        if !timeout.is_nan()
            && let Some(done) = slf.get().acquire_quickly(py, !blocking)?
        {
            return Ok(done);
        }
        let wait = match (blocking, timeout) {
            (false, _) => Some(0.0),
            (true, -1.0) => None,
            (true, timeout) => Some(timeout),
        };
        slf.call_method1(intern!(py, "_acquire"), (wait,))?
            .extract()
    }

    /// Releases; raises `NotHeld`, or `LockLost` if the lock was not ours any more.
    #[pyo3(text_signature = "($self)")]
    fn _release_as_thread(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        match slf.get().release_quickly() {
            Some(released) => released.map_err(|error| raise(py, &error)),
            None => slf
                .call_method1(intern!(py, "_release"), (false,))
                .map(drop),
        }
    }

    #[pyo3(text_signature = "($self)")]
    fn _enter_as_thread<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        if slf.get().acquire_quickly(slf.py(), false)? == Some(true) {
            return Ok(slf.clone().into_any());
        }
        slf.call_method0(intern!(slf.py(), "_enter"))
    }

    #[pyo3(text_signature = "($self, kind, value, traceback)")]
    fn _exit_as_thread(
        slf: &Bound<'_, Self>,
        kind: &Bound<'_, PyAny>,
        value: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = slf.py();
        let again = || slf.call_method1(intern!(py, "_exit"), (kind, value, traceback));
        match slf.get().release_quickly() {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) if error.code() == Code::ConcurrentUse => again().map(drop),
            Some(Err(error)) if error.code() == Code::NotHeld || !kind.is_none() => Ok(()),
            Some(Err(error)) => Err(raise(py, &error)),
            None => again().map(drop),
        }
    }

    // ---- the pages

    /// Owner and handle of every hold, oldest first.
    fn _holds(&self, py: Python<'_>) -> Vec<(Py<PyAny>, Py<Handle>)> {
        let pages = self.pages();
        let holds = pages.holds.iter();
        holds
            .map(|hold| (hold.owner.clone_ref(py), hold.handle.clone_ref(py)))
            .collect()
    }

    /// Notes a hold, and how it was acquired.
    #[pyo3(signature = (owner, handle, how=None, as_thread=false))]
    fn _note(
        &self,
        owner: Py<PyAny>,
        handle: Py<Handle>,
        how: Option<How>,
        as_thread: bool,
        py: Python<'_>,
    ) {
        let last = as_thread.then(|| (thread(), owner.clone_ref(py)));
        let before = {
            let mut pages = self.pages();
            pages.holds.push(Hold { owner, handle });
            pages.how = how.or(pages.how);
            std::mem::replace(&mut pages.last, last)
        };
        drop(before);
    }

    /// Takes a hold out of the book; False if it is not in it.
    fn _strike(&self, handle: &Bound<'_, Handle>) -> bool {
        let struck = {
            let mut pages = self.pages();
            let at = pages.holds.iter().position(|hold| hold.handle.is(handle));
            at.map(|at| pages.holds.remove(at))
        };
        struck.is_some()
    }

    /// An idle handle.
    fn _lend(&self) -> Option<Py<Handle>> {
        self.pages().idle.pop()
    }

    /// Keeps a handle that is idle now.
    fn _keep(&self, handle: Py<Handle>) {
        self.pages().idle.push(handle);
    }

    /// The idle handles.
    fn _idle(&self, py: Python<'_>) -> Vec<Py<Handle>> {
        let pages = self.pages();
        pages
            .idle
            .iter()
            .map(|handle| handle.clone_ref(py))
            .collect()
    }

    /// Takes all handles out of the book.
    fn _clear(&self) {
        let cleared = std::mem::take(&mut *self.pages());
        drop(cleared);
    }

    fn _how(&self) -> Option<How> {
        self.pages().how
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Ok(pages) = self.0.try_lock() else {
            return Ok(());
        };
        for hold in &pages.holds {
            visit.call(&hold.owner)?;
            visit.call(&hold.handle)?;
        }
        for handle in &pages.idle {
            visit.call(handle)?;
        }
        if let Some((_, owner)) = &pages.last {
            visit.call(owner)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        self._clear();
    }
}
