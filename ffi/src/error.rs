//! Error objects: what went wrong, in words and fields.

use crate::guard::{number, value};
use crate::handle::{self, Kind, with_error};
use crate::status::{status, synlock_status};
use crate::text::Kept;
use std::ffi::c_char;

/// What went wrong. Made by a call that was given a place for it and failed;
/// freed by the caller. Every function takes NULL.
#[derive(Debug)]
pub struct synlock_error {
    _private: [u8; 0],
}

#[derive(Debug)]
pub(crate) struct ErrorObject {
    status: synlock_status,
    name: &'static std::ffi::CStr,
    message: Kept,
    store: Kept,
    resource: Kept,
    operation: Kept,
    retriable: bool,
}

impl ErrorObject {
    pub(crate) fn new(error: synlock_core::Error) -> Self {
        Self::of(&error)
    }

    pub(crate) fn of(error: &synlock_core::Error) -> Self {
        ErrorObject {
            status: status(error.code()),
            name: crate::version::name_of(error.code().number()),
            message: Kept::new(Some(&error.to_string())),
            store: Kept::new(error.store()),
            resource: Kept::new(error.resource()),
            operation: Kept::new(error.operation()),
            retriable: error.is_retriable(),
        }
    }
}

/// The status that the call returned; SYNLOCK_OK for NULL.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_error_code(error: *const synlock_error) -> synlock_status {
    value("synlock_error_code", synlock_status::SYNLOCK_OK, || {
        with_error(number(error), |error| Ok(error.status))
    })
}

/// Name of the status, such as "TIMEOUT"; a static string.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_error_name(error: *const synlock_error) -> *const c_char {
    value("synlock_error_name", c"OK".as_ptr(), || {
        with_error(number(error), |error| Ok(error.name.as_ptr()))
    })
}

/// One line for people, with operation, resource and store; UTF-8. Lives as
/// long as the error object. Never contains credentials.
///
/// # Safety
/// Any value is safe; the text is not used after the error was freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_error_message(error: *const synlock_error) -> *const c_char {
    value("synlock_error_message", c"".as_ptr(), || {
        with_error(number(error), |error| Ok(error.message.as_ptr()))
    })
}

/// The store's URL without credentials, or NULL. Lives as long as the error.
///
/// # Safety
/// As `synlock_error_message`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_error_store(error: *const synlock_error) -> *const c_char {
    value("synlock_error_store", std::ptr::null(), || {
        with_error(number(error), |error| Ok(error.store.as_ptr()))
    })
}

/// The resource's name made printable, or NULL. Lives as long as the error.
///
/// # Safety
/// As `synlock_error_message`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_error_resource(error: *const synlock_error) -> *const c_char {
    value("synlock_error_resource", std::ptr::null(), || {
        with_error(number(error), |error| Ok(error.resource.as_ptr()))
    })
}

/// The operation that failed, or NULL. Lives as long as the error.
///
/// # Safety
/// As `synlock_error_message`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_error_operation(error: *const synlock_error) -> *const c_char {
    value("synlock_error_operation", std::ptr::null(), || {
        with_error(number(error), |error| Ok(error.operation.as_ptr()))
    })
}

/// 1 if the same call may succeed later, else 0.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_error_is_retriable(error: *const synlock_error) -> i32 {
    value("synlock_error_is_retriable", 0, || {
        with_error(number(error), |error| Ok(error.retriable.into()))
    })
}

/// Frees the error. NULL, and a handle that was freed before, do nothing.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_error_free(error: *mut synlock_error) {
    value("synlock_error_free", (), || {
        handle::free(number(error), Kind::Error)
    });
}
