//! For hosts with an event loop: operations that complete on a descriptor.

use crate::error::{ErrorObject, synlock_error};
use crate::guard::{Out, guard, hand_out, number, value};
use crate::handle::{self, Kind, Object, with_dispatch, with_lock};
use crate::lock::{synlock_acquired, synlock_lock};
use crate::status::{status, synlock_status};
use std::time::Duration;
use synlock_core::{Completion, Dispatch, Error, Op, Outcome};

/// A queue of operations under way and of their completions. Usable from any
/// thread. Belongs to the process that made it.
#[derive(Debug)]
pub struct synlock_dispatch {
    _private: [u8; 0],
}

/// What to do.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum synlock_op {
    /// As `synlock_lock_acquire`; the argument is the timeout in ms.
    SYNLOCK_OP_ACQUIRE = 1,
    /// As `synlock_lock_release`.
    SYNLOCK_OP_RELEASE = 2,
    /// As `synlock_lock_refresh`; the argument is the TTL in ms.
    SYNLOCK_OP_REFRESH = 3,
    /// As `synlock_lock_promote`; the argument is the timeout in ms.
    SYNLOCK_OP_PROMOTE = 4,
    /// As `synlock_lock_demote`.
    SYNLOCK_OP_DEMOTE = 5,
    /// As `synlock_lock_ensure_held`.
    SYNLOCK_OP_CHECK = 6,
    /// As `synlock_lock_abandon`.
    SYNLOCK_OP_ABANDON = 7,
}

/// A finished operation.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct synlock_completion {
    /// What `synlock_dispatch_submit` wrote.
    pub ticket: u64,
    /// What the caller gave to `synlock_dispatch_submit`.
    pub user: u64,
    /// How an acquire waited, ms; otherwise 0.
    pub waited_ms: i64,
    /// Fencing token of an acquire, 0 if there is none.
    pub fencing_token: i64,
    /// What went wrong, to be freed by the caller; NULL after success.
    pub error: *mut synlock_error,
    /// A synlock_status.
    pub status: i32,
    /// 1 if an acquire had to wait.
    pub contended: i32,
    /// How often an acquire asked the store.
    pub attempts: u32,
    /// 0.
    pub reserved: u32,
}

#[derive(Debug)]
pub(crate) struct DispatchObject(pub(crate) Dispatch);

/// Makes an empty queue; starts no thread before the first operation.
///
/// # Safety
/// `dispatch` may be written; `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_dispatch_new(
    dispatch: *mut *mut synlock_dispatch,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_dispatch_new", error, || {
        // SAFETY: promised by the caller.
        let out = unsafe { Out::new(dispatch) }?;
        hand_out(out, Object::Dispatch(DispatchObject(Dispatch::new()?)))
    })
}

/// A descriptor that is readable while completions wait to be reaped, and when
/// there may be one: a reap may find none. -1 for a bad handle. It belongs to
/// the queue: poll it, do not read or close it.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_dispatch_fd(dispatch: *const synlock_dispatch) -> i32 {
    value("synlock_dispatch_fd", -1, || {
        with_dispatch(number(dispatch), |dispatch| Ok(dispatch.0.fd()))
    })
}

/// Starts `op` (a synlock_op) on `lock`. Its completion will carry `user`;
/// `ticket` (may be NULL) names it for `synlock_dispatch_cancel`. Until it
/// has completed, other calls on the lock get SYNLOCK_CONCURRENT_USE; freeing
/// the lock cancels it.
///
/// # Safety
/// `ticket` and `error` are NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_dispatch_submit(
    dispatch: *mut synlock_dispatch,
    lock: *mut synlock_lock,
    op: i32,
    argument_ms: i64,
    user: u64,
    ticket: *mut u64,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_dispatch_submit", error, || {
        with_dispatch(number(dispatch), |dispatch| {
            with_lock(number(lock), |lock| {
                let op = match op {
                    1 => Op::Acquire(lock.wait(argument_ms)?),
                    2 => Op::Release,
                    3 if argument_ms == 0 => Op::Refresh(None),
                    3 => Op::Refresh(Some(Duration::from_millis(
                        u64::try_from(argument_ms)
                            .map_err(|_| Error::invalid("the TTL is negative"))?,
                    ))),
                    4 => Op::Promote(lock.wait(argument_ms)?),
                    5 => Op::Demote,
                    6 => Op::Check,
                    7 => Op::Abandon,
                    _ => return Err(Error::invalid("op is no synlock_op")),
                };
                let number = dispatch.0.submit(&lock.lock, op, user)?;
                if !ticket.is_null() {
                    // SAFETY: promised by the caller.
                    unsafe { ticket.write(number) };
                }
                Ok(())
            })
        })
    })
}

/// Ends an acquire or promotion that is under way; its completion still
/// comes, SYNLOCK_CANCELLED or a grant that had been made. A ticket that has
/// completed is no error.
///
/// # Safety
/// `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_dispatch_cancel(
    dispatch: *mut synlock_dispatch,
    ticket: u64,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_dispatch_cancel", error, || {
        with_dispatch(number(dispatch), |dispatch| {
            dispatch.0.cancel(ticket);
            Ok(())
        })
    })
}

/// Takes up to `capacity` completions, oldest first; never blocks. `size` is
/// sizeof(synlock_completion).
///
/// # Safety
/// `completions` has room for `capacity` structs of `size` bytes; `count`
/// may be written; `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_dispatch_reap(
    dispatch: *mut synlock_dispatch,
    completions: *mut synlock_completion,
    capacity: usize,
    size: usize,
    count: *mut usize,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_dispatch_reap", error, || {
        // SAFETY: promised by the caller.
        let out = unsafe { Out::new(count) }?;
        // SAFETY: promised by the caller.
        unsafe { Out::new(completions) }?;
        if !(24..=4096).contains(&size) {
            return Err(Error::invalid(
                "size is not the size of a synlock_completion",
            ));
        }
        with_dispatch(number(dispatch), |dispatch| {
            let reaped = dispatch.0.reap(capacity.min(65_536));
            for (index, completion) in reaped.iter().enumerate() {
                let own = view(completion);
                // SAFETY: the caller's array has `capacity` elements of `size` bytes; no more is copied than both have.
                unsafe {
                    let to = completions.cast::<u8>().add(index * size);
                    std::ptr::write_bytes(to, 0, size);
                    std::ptr::copy_nonoverlapping(
                        (&raw const own).cast::<u8>(),
                        to,
                        size.min(size_of::<synlock_completion>()),
                    );
                }
            }
            out.set(reaped.len());
            Ok(())
        })
    })
}

fn view(completion: &Completion) -> synlock_completion {
    let mut own = synlock_completion {
        ticket: completion.ticket,
        user: completion.user,
        waited_ms: 0,
        fencing_token: 0,
        error: std::ptr::null_mut(),
        status: 0,
        contended: 0,
        attempts: 0,
        reserved: 0,
    };
    match &completion.result {
        Ok(Outcome::Acquired(acquired)) => {
            let acquired = synlock_acquired::of(acquired);
            own.waited_ms = acquired.waited_ms;
            own.fencing_token = acquired.fencing_token;
            own.contended = acquired.contended;
            own.attempts = acquired.attempts;
        }
        Ok(_) => {}
        Err(error) => {
            own.status = status(error.code()) as i32;
            let object = Object::Error(ErrorObject::of(error));
            own.error =
                std::ptr::without_provenance_mut(handle::insert(object).unwrap_or(0) as usize);
        }
    }
    own
}

/// Frees the queue and cancels what is under way. NULL does nothing.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_dispatch_free(dispatch: *mut synlock_dispatch) {
    value("synlock_dispatch_free", (), || {
        handle::free(number(dispatch), Kind::Dispatch)
    });
}
