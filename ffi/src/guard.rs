//! What every export goes through: no unwinding into the host, no NULL, an error object on request.

use crate::error::{ErrorObject, synlock_error};
use crate::handle::{self, Object};
use crate::status::{status, synlock_status};
use std::panic::{AssertUnwindSafe, catch_unwind};
use synlock_core::{Code, Error, Result};

/// Runs the body of an export.
#[inline]
pub(crate) fn guard(
    name: &'static str,
    error: *mut *mut synlock_error,
    body: impl FnOnce() -> Result<()>,
) -> synlock_status {
    // Canary of row 38: one export lets a panic through.
    #[cfg(canary = "unguarded")]
    if name == "synlock_store_inspect" {
        inject(name);
    }
    let result = catch_unwind(AssertUnwindSafe(|| {
        inject(name);
        body()
    }));
    match result {
        Ok(Ok(())) => synlock_status::SYNLOCK_OK,
        failed => refuse(name, error, failed),
    }
}

/// What an export that has failed, or panicked, tells its caller.
#[cold]
fn refuse(
    name: &'static str,
    error: *mut *mut synlock_error,
    result: std::thread::Result<Result<()>>,
) -> synlock_status {
    let failed = match result {
        Ok(Ok(())) => return synlock_status::SYNLOCK_OK,
        Ok(Err(failed)) => failed,
        Err(panic) => {
            // A payload whose destructor panics must not reach the host either.
            std::mem::forget(panic);
            Error::new(Code::Internal, format!("{name} met a bug in synlock"))
        }
    };
    let failed = failed.with_operation(name);
    let code = failed.code();
    if !error.is_null() {
        // A host that cannot get an object still gets the status.
        let made = catch_unwind(AssertUnwindSafe(|| {
            handle::insert(Object::Error(ErrorObject::new(failed)))
        }));
        let handle = made.ok().and_then(Result::ok).unwrap_or(0);
        // SAFETY: the caller gave a pointer that may be written through, or NULL.
        unsafe { error.write(std::ptr::without_provenance_mut(handle as usize)) };
    }
    status(code)
}

/// As `guard`, for exports that return a value: `otherwise` if they fail.
#[inline]
pub(crate) fn value<T>(name: &'static str, otherwise: T, body: impl FnOnce() -> Result<T>) -> T {
    let result = catch_unwind(AssertUnwindSafe(|| {
        inject(name);
        body()
    }));
    match result {
        Ok(Ok(value)) => value,
        Ok(Err(_)) => otherwise,
        Err(panic) => {
            std::mem::forget(panic);
            otherwise
        }
    }
}

/// Panics in the export that the test of containment names.
#[cfg(feature = "inject-panic")]
#[expect(clippy::panic, reason = "that is what the feature is for")]
fn inject(name: &'static str) {
    if std::env::var("SYNLOCK_PANIC_IN").is_ok_and(|wanted| wanted == name) {
        panic!("injected into {name}");
    }
}

#[cfg(not(feature = "inject-panic"))]
#[inline]
fn inject(_: &'static str) {}

/// A pointer that results are written to.
pub(crate) struct Out<T>(*mut T);

impl<T> Out<T> {
    /// Checks it.
    ///
    /// # Safety
    /// The pointer is NULL or may be written through until the export returns.
    pub(crate) unsafe fn new(pointer: *mut T) -> Result<Self> {
        if pointer.is_null() {
            Err(Error::new(Code::NullPointer, "an output pointer is NULL"))
        } else {
            Ok(Out(pointer))
        }
    }

    /// Writes the result.
    pub(crate) fn set(self, value: T) {
        // SAFETY: promised to `new`.
        unsafe { self.0.write(value) }
    }
}

/// Gives the object a handle and writes it as the opaque pointer type that C sees.
pub(crate) fn hand_out<T>(out: Out<*mut T>, object: Object) -> Result<()> {
    let handle = handle::insert(object)?;
    out.set(std::ptr::without_provenance_mut(handle as usize));
    Ok(())
}

/// The value of a handle.
#[inline]
pub(crate) fn number<T>(handle: *const T) -> u64 {
    handle.addr() as u64
}
