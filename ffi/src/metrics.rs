//! Counters and histograms.

use crate::error::synlock_error;
use crate::guard::{guard, number};
use crate::handle::with_store;
use crate::status::synlock_status;
use crate::store::synlock_store;
use crate::text::copy_out;
use std::ffi::c_char;

/// Counts from now on what happens to the locks of this store handle (`on` is
/// not 0), or stops it. Handles of one URL count together; each process has
/// numbers of its own. While nobody counts it costs nothing.
///
/// # Safety
/// `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_store_measure(
    store: *mut synlock_store,
    on: i32,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_store_measure", error, || {
        with_store(number(store), |store| {
            store.measure(on != 0);
            Ok(())
        })
    })
}

/// The numbers of every store that this process measured, in Prometheus' text
/// format: counters of acquires by outcome, waits, attempts, releases,
/// refreshes, losses and forgotten locks, histograms of the time waited and
/// held. They grow between two calls, so leave some room.
///
/// # Safety
/// `buffer` is NULL or has `capacity` bytes; `length` is NULL or may be written;
/// `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_metrics_text(
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_metrics_text", error, || {
        // SAFETY: promised by the caller.
        unsafe { copy_out(&synlock_core::metrics::text(), buffer, capacity, length) }
    })
}
