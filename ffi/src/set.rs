//! Several locks at once.

use crate::cancel::synlock_cancel;
use crate::dispatch::synlock_dispatch;
use crate::error::synlock_error;
use crate::guard::{Out, guard, hand_out, number, value};
use crate::handle::{self, Kind, Object, Pin, with_cancel, with_dispatch, with_scope, with_set};
use crate::lock::{LockObject, synlock_acquired, synlock_lock};
use crate::options::SizedOut;
use crate::scope::synlock_scope;
use crate::status::synlock_status;
use std::sync::Arc;
use synlock_core::{Acquired, Cancel, Code, Error, LockSet, Op, Result, Wait};

/// Locks that are taken together, all or none, on any stores and in any
/// modes. No two sets can wait for one another, whatever the order of their
/// locks: a set that waits holds only locks that come before in an order that
/// all sets share. On one Redis server taking free locks is one round trip,
/// giving them back another. Leases are renewed while the set waits.
///
/// The locks stay what they are: each has its own fencing token, state and
/// lease, and can be refreshed. May move between threads; used by one at a
/// time: a second call at the same moment, also on one of its locks, is
/// answered with SYNLOCK_CONCURRENT_USE.
#[derive(Debug)]
pub struct synlock_set {
    _private: [u8; 0],
}

#[derive(Debug)]
pub(crate) struct SetObject {
    set: Arc<LockSet>,
    /// Thrown when the handle is freed while a call waits.
    pub(crate) freed: Cancel,
}

impl SetObject {
    fn acquire(&self, timeout_ms: i64, cancel: Option<&Cancel>) -> Result<Acquired> {
        let wait = self.wait(timeout_ms)?;
        match cancel {
            Some(cancel) => {
                let either = Cancel::either(cancel, &self.freed);
                self.set.acquire(wait, Some(&either))
            }
            None => self.set.acquire(wait, Some(&self.freed)),
        }
    }

    fn wait(&self, timeout_ms: i64) -> Result<Wait> {
        match timeout_ms {
            -3 => Ok(self.set.default_wait()),
            ms if ms >= -1 => Ok(Wait::from_millis(ms)),
            _ => Err(Error::invalid("the timeout is negative")),
        }
    }
}

/// Makes a set of `count` locks (1 to 1024); asks no store. The lock handles
/// stay the caller's. Freeing one while the set is being acquired ends that
/// with SYNLOCK_CANCELLED. `scope` (may be NULL) frees the set with it.
///
/// SYNLOCK_INVALID_ARGUMENT for two locks on one name of one store.
///
/// # Safety
/// `locks` has `count` handles; `set` may be written; `error` is NULL or may
/// be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_set_new(
    locks: *const *mut synlock_lock,
    count: usize,
    scope: *mut synlock_scope,
    set: *mut *mut synlock_set,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_set_new", error, || {
        // SAFETY: promised by the caller.
        let out = unsafe { Out::new(set) }?;
        if locks.is_null() {
            return Err(Error::new(Code::NullPointer, "the array of locks is NULL"));
        }
        if count == 0 || count > synlock_core::set::MOST {
            return Err(Error::invalid("a set has 1 to 1024 locks"));
        }
        // SAFETY: promised by the caller.
        let handles = unsafe { std::slice::from_raw_parts(locks, count) };
        let pins = handles
            .iter()
            .map(|lock| handle::pin(number(*lock), Kind::Lock))
            .collect::<Result<Vec<_>>>()?;
        let members = pins.iter().filter_map(lock_of).collect::<Vec<_>>();
        let object = Object::Set(SetObject {
            set: Arc::new(LockSet::new(&members)?),
            freed: Cancel::new(),
        });
        if scope.is_null() {
            return hand_out(out, object);
        }
        with_scope(number(scope), |scope| {
            let handle = handle::insert(object)?;
            scope.add(handle, Kind::Set);
            out.set(std::ptr::without_provenance_mut(handle as usize));
            Ok(())
        })
    })
}

fn lock_of<'a>(pin: &'a Pin<'static, Object>) -> Option<&'a synlock_core::Lock> {
    match pin.get() {
        Some(Object::Lock(LockObject { lock, .. })) => Some(lock),
        _ => None,
    }
}

/// Takes all locks, waiting at most `timeout_ms` in all; as
/// `synlock_lock_acquire`, about the lock that the error names. Unless it is
/// SYNLOCK_OK none is held. SYNLOCK_USE_OPTION waits as the options of the
/// first lock say. `cancel` and `acquired` may be NULL; its fencing token is
/// 0: each lock has its own.
///
/// After SYNLOCK_INTERRUPTED the set keeps what it has until it is called
/// again with the time left, or `synlock_set_abandon`.
///
/// # Safety
/// `acquired` is NULL or points to a struct with its `struct_size` set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_set_acquire(
    set: *mut synlock_set,
    timeout_ms: i64,
    cancel: *mut synlock_cancel,
    acquired: *mut synlock_acquired,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_set_acquire", error, || {
        let switch = match number(cancel) {
            0 => None,
            handle => Some(with_cancel(handle, |cancel| Ok(cancel.0.clone()))?),
        };
        // SAFETY: promised by the caller.
        let out = unsafe { SizedOut::optional(acquired) }?;
        with_set(number(set), |set| {
            let own = synlock_acquired::of(&set.acquire(timeout_ms, switch.as_ref())?);
            if let Some(out) = out {
                out.set(&own);
            }
            Ok(())
        })
    })
}

/// Takes back the last acquire, as `synlock_lock_abandon` does: gives up one
/// that was interrupted, and what one was granted. What was held before
/// stays held.
///
/// # Safety
/// `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_set_abandon(
    set: *mut synlock_set,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_set_abandon", error, || {
        with_set(number(set), |set| set.set.abandon())
    })
}

/// Gives all locks back, those that were lost among them or not. As
/// `synlock_lock_release`, about the first that was not released as it should
/// be; SYNLOCK_NOT_HELD if none was held.
///
/// # Safety
/// `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_set_release(
    set: *mut synlock_set,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_set_release", error, || {
        with_set(number(set), |set| set.set.release().map(drop))
    })
}

/// Asks the stores, and fails unless all locks are held.
///
/// # Safety
/// `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_set_ensure_held(
    set: *mut synlock_set,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_set_ensure_held", error, || {
        with_set(number(set), |set| set.set.ensure_held())
    })
}

/// As `synlock_dispatch_submit`, on all locks of a set: SYNLOCK_OP_ACQUIRE,
/// SYNLOCK_OP_RELEASE, SYNLOCK_OP_ABANDON or SYNLOCK_OP_CHECK. Freeing the set does not end it:
/// cancel the ticket.
///
/// # Safety
/// `ticket` and `error` are NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_dispatch_submit_set(
    dispatch: *mut synlock_dispatch,
    set: *mut synlock_set,
    op: i32,
    argument_ms: i64,
    user: u64,
    ticket: *mut u64,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_dispatch_submit_set", error, || {
        with_dispatch(number(dispatch), |dispatch| {
            with_set(number(set), |set| {
                let op = match op {
                    1 => Op::Acquire(set.wait(argument_ms)?),
                    2 => Op::Release,
                    6 => Op::Check,
                    7 => Op::Abandon,
                    _ => return Err(Error::invalid("op is no synlock_op of a set")),
                };
                let number = dispatch.0.submit_set(&set.set, op, user)?;
                if !ticket.is_null() {
                    // SAFETY: promised by the caller.
                    unsafe { ticket.write(number) };
                }
                Ok(())
            })
        })
    })
}

/// Frees the handle: ends its wait, gives back what the set holds, but for
/// locks whose auto-release is off. The lock handles live on. NULL does
/// nothing.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_set_free(set: *mut synlock_set) {
    value("synlock_set_free", (), || {
        handle::free(number(set), Kind::Set)
    });
}
