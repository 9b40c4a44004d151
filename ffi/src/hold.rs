//! What a lock handle knows of its hold, and what the store says of it.

use crate::error::synlock_error;
use crate::guard::{Out, guard, number, value};
use crate::handle::with_lock;
use crate::lock::{fence, synlock_lock};
use crate::status::synlock_status;
use crate::text::copy_out;
use std::ffi::c_char;
use synlock_core::{Code, Error, Mode, Wait};

/// What a handle's claim has come to.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum synlock_state {
    /// Nothing is held or asked for.
    SYNLOCK_STATE_IDLE = 0,
    /// An acquire is under way, or was interrupted and keeps its place.
    SYNLOCK_STATE_ACQUIRING = 1,
    /// Held, as far as this process can know.
    SYNLOCK_STATE_HELD = 2,
    /// The lease has run out by this process' clock.
    SYNLOCK_STATE_EXPIRED = 3,
    /// The store said that it is not held any more.
    SYNLOCK_STATE_LOST = 4,
    /// A release was sent and its reply was lost.
    SYNLOCK_STATE_RELEASING = 5,
    /// Held, asked for or uncertain in the parent of this process.
    SYNLOCK_STATE_FORKED = 6,
}

/// Asks the store: SYNLOCK_OK if the lock is held, SYNLOCK_NOT_HELD,
/// SYNLOCK_LOST, or trouble of the store. A statement about the past by the
/// time it is read: use it to stop early, never to permit.
///
/// # Safety
/// `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_lock_ensure_held(
    lock: *mut synlock_lock,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_lock_ensure_held", error, || {
        with_lock(number(lock), |lock| lock.lock.ensure_held())
    })
}

/// As `synlock_lock_ensure_held`, but writes 1 or 0 and is SYNLOCK_OK in
/// both cases.
///
/// # Safety
/// `held` may be written; `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_lock_is_acquired(
    lock: *mut synlock_lock,
    held: *mut i32,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_lock_is_acquired", error, || {
        // SAFETY: promised by the caller.
        let out = unsafe { Out::new(held) }?;
        with_lock(number(lock), |lock| {
            out.set(lock.lock.is_acquired()?.into());
            Ok(())
        })
    })
}

/// The state by this process' own knowledge; asks nobody. IDLE for a bad
/// handle.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_lock_state(lock: *const synlock_lock) -> synlock_state {
    use synlock_core::State;
    value(
        "synlock_lock_state",
        synlock_state::SYNLOCK_STATE_IDLE,
        || {
            with_lock(number(lock), |lock| {
                Ok(match lock.lock.state() {
                    State::Idle => synlock_state::SYNLOCK_STATE_IDLE,
                    State::Acquiring => synlock_state::SYNLOCK_STATE_ACQUIRING,
                    State::Held => synlock_state::SYNLOCK_STATE_HELD,
                    State::Expired => synlock_state::SYNLOCK_STATE_EXPIRED,
                    State::Lost => synlock_state::SYNLOCK_STATE_LOST,
                    State::Releasing => synlock_state::SYNLOCK_STATE_RELEASING,
                    State::Forked => synlock_state::SYNLOCK_STATE_FORKED,
                })
            })
        },
    )
}

/// How much of the lease is left at least, ms; 0 if it ran out; -1 without a
/// lease or a hold.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_lock_remaining_ms(lock: *const synlock_lock) -> i64 {
    value("synlock_lock_remaining_ms", -1, || {
        with_lock(number(lock), |lock| {
            Ok(lock.lock.remaining().map_or(-1, |left| {
                i64::try_from(left.as_millis()).unwrap_or(i64::MAX)
            }))
        })
    })
}

/// The timeout argument that SYNLOCK_USE_OPTION stands for: ms,
/// SYNLOCK_NO_WAIT or SYNLOCK_FOREVER. For callers that wait in slices.
/// SYNLOCK_FOREVER for a bad handle.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_lock_timeout_ms(lock: *const synlock_lock) -> i64 {
    value("synlock_lock_timeout_ms", -1, || {
        with_lock(number(lock), |lock| {
            Ok(match lock.lock.options().timeout {
                None | Some(Wait::Forever) => -1,
                Some(Wait::No) => 0,
                Some(Wait::For(time)) => i64::try_from(time.as_millis()).unwrap_or(i64::MAX),
            })
        })
    })
}

/// The fencing token of the hold: positive, growing; 0 if there is none.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_lock_fencing_token(lock: *const synlock_lock) -> i64 {
    value("synlock_lock_fencing_token", 0, || {
        with_lock(number(lock), |lock| Ok(fence(lock.lock.fencing_token())))
    })
}

/// The mode of the hold, or of the next one.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_lock_mode(
    lock: *const synlock_lock,
) -> crate::options::synlock_mode {
    use crate::options::synlock_mode;
    value("synlock_lock_mode", synlock_mode::SYNLOCK_EXCLUSIVE, || {
        with_lock(number(lock), |lock| {
            Ok(match lock.lock.mode() {
                Mode::Exclusive => synlock_mode::SYNLOCK_EXCLUSIVE,
                Mode::Shared => synlock_mode::SYNLOCK_SHARED,
                Mode::Permits { .. } => synlock_mode::SYNLOCK_PERMITS,
            })
        })
    })
}

/// Copies the owner token of the hold as 32 hexadecimal digits: whoever has
/// it may release the lock. Needs room for 33 bytes. SYNLOCK_NOT_HELD.
///
/// # Safety
/// `buffer` has room for `capacity` bytes; `length` and `error` are NULL or
/// may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_lock_owner_token(
    lock: *const synlock_lock,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_lock_owner_token", error, || {
        with_lock(number(lock), |lock| {
            let token = lock
                .lock
                .owner_token()
                .ok_or_else(|| Error::outcome(Code::NotHeld))?;
            // SAFETY: promised by the caller.
            unsafe { copy_out(&token.to_hex(), buffer, capacity, length) }
        })
    })
}

/// A descriptor that becomes readable when the hold is lost or its lease
/// runs out. It belongs to the handle: poll it, do not read or close it.
///
/// # Safety
/// `fd` may be written; `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_lock_lost_fd(
    lock: *mut synlock_lock,
    fd: *mut i32,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_lock_lost_fd", error, || {
        // SAFETY: promised by the caller.
        let out = unsafe { Out::new(fd) }?;
        with_lock(number(lock), |lock| {
            out.set(lock.lock.lost_fd()?);
            Ok(())
        })
    })
}

/// Switches release on free: 1 or 0.
///
/// # Safety
/// `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_lock_set_auto_release(
    lock: *mut synlock_lock,
    on: i32,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_lock_set_auto_release", error, || {
        with_lock(number(lock), |lock| {
            lock.lock.set_auto_release(on != 0);
            Ok(())
        })
    })
}

/// Whether freeing the handle releases the lock: 1 or 0; -1 for a bad handle.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_lock_auto_release(lock: *const synlock_lock) -> i32 {
    value("synlock_lock_auto_release", -1, || {
        with_lock(number(lock), |lock| Ok(lock.lock.auto_release().into()))
    })
}

/// Hands the hold over as text that another process can adopt: this handle
/// lets go of it without releasing. A `buffer` that is NULL or too small is
/// SYNLOCK_INVALID_ARGUMENT: `length` gets the room that is needed, and the
/// hold stays.
///
/// # Safety
/// `buffer` has room for `capacity` bytes; `length` and `error` are NULL or
/// may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_lock_export(
    lock: *mut synlock_lock,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_lock_export", error, || {
        with_lock(number(lock), |lock| {
            // The hold must not be let go of for want of room.
            let fingerprint = lock.lock.store().fingerprint().len() * 3;
            let most = 128 + fingerprint + lock.lock.name().as_bytes().len() * 3;
            if buffer.is_null() || capacity < most {
                if !length.is_null() {
                    // SAFETY: promised by the caller.
                    unsafe { length.write(most) };
                }
                return Err(Error::invalid(format!(
                    "the buffer has {capacity} bytes, {most} are needed"
                )));
            }
            let text = lock.lock.export()?;
            // SAFETY: promised by the caller.
            unsafe { copy_out(&text, buffer, capacity, length) }
        })
    })
}
