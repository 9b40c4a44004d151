//! Cancel handles.

use crate::error::synlock_error;
use crate::guard::{Out, guard, hand_out, number, value};
use crate::handle::{self, Kind, Object, with_cancel};
use crate::status::synlock_status;
use synlock_core::Cancel;

/// A switch that ends waits. Once thrown, it ends every wait that was given
/// it, now and later. Usable from any thread; not from a signal handler.
#[derive(Debug)]
pub struct synlock_cancel {
    _private: [u8; 0],
}

#[derive(Debug)]
pub(crate) struct CancelObject(pub(crate) Cancel);

/// Makes a switch that is not thrown.
///
/// # Safety
/// `cancel` may be written; `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_cancel_new(
    cancel: *mut *mut synlock_cancel,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_cancel_new", error, || {
        // SAFETY: promised by the caller.
        let out = unsafe { Out::new(cancel) }?;
        hand_out(out, Object::Cancel(CancelObject(Cancel::new())))
    })
}

/// Throws the switch. Waits that were granted before keep their lock.
///
/// # Safety
/// `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_cancel_throw(
    cancel: *mut synlock_cancel,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_cancel_throw", error, || {
        with_cancel(number(cancel), |cancel| {
            cancel.0.cancel();
            Ok(())
        })
    })
}

/// Frees the switch; waits that have it go on. NULL does nothing.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_cancel_free(cancel: *mut synlock_cancel) {
    value("synlock_cancel_free", (), || {
        handle::free(number(cancel), Kind::Cancel)
    });
}
