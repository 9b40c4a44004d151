//! Locks.

use crate::cancel::synlock_cancel;
use crate::error::synlock_error;
use crate::guard::{Out, guard, hand_out, number, value};
use crate::handle::{self, Kind, Object, with_cancel, with_lock, with_scope, with_store};
use crate::options::{SizedOut, lock_options, synlock_lock_options};
use crate::status::synlock_status;
use crate::store::synlock_store;
use crate::text::{bytes, utf8};
use std::ffi::c_char;
use std::time::Duration;
use synlock_core::{Acquired, Cancel, Error, Lock, Result, Wait};

/// A lock on one name in one store; reusable. May move between threads; used
/// by one at a time: a second call at the same moment is answered with
/// SYNLOCK_CONCURRENT_USE. Freeing it from another thread ends its wait.
#[derive(Debug)]
pub struct synlock_lock {
    _private: [u8; 0],
}

/// How an acquire went. Set `struct_size` before the call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct synlock_acquired {
    /// sizeof(synlock_acquired).
    pub struct_size: usize,
    /// Time from the call to the grant, ms.
    pub waited_ms: i64,
    /// Fencing token, 0 if the store gives none.
    pub fencing_token: i64,
    /// 1 if somebody else held the lock first.
    pub contended: i32,
    /// 1 if the previous owner died while it held the lock.
    pub recovered: i32,
    /// How often the store was asked.
    pub attempts: u32,
    /// 1 if this process held the lock already and its lease was lengthened:
    /// whoever gives it back ends that hold.
    pub extended: i32,
}

impl synlock_acquired {
    pub(crate) fn of(acquired: &Acquired) -> Self {
        synlock_acquired {
            struct_size: 0,
            waited_ms: millis(acquired.waited),
            fencing_token: fence(acquired.fence),
            contended: acquired.contended.into(),
            recovered: acquired.recovered.into(),
            attempts: acquired.attempts,
            extended: acquired.extended.into(),
        }
    }
}

/// A time as C has it.
pub(crate) fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// A fencing token as C has it.
pub(crate) fn fence(token: Option<u64>) -> i64 {
    token
        .and_then(|token| i64::try_from(token).ok())
        .unwrap_or(0)
}

#[derive(Debug)]
pub(crate) struct LockObject {
    pub(crate) lock: Lock,
    /// Thrown when the handle is freed while a call waits.
    pub(crate) freed: Cancel,
}

impl LockObject {
    fn new(lock: Lock) -> Self {
        LockObject {
            lock,
            freed: Cancel::new(),
        }
    }

    #[inline]
    fn acquire(&self, timeout_ms: i64, cancel: Option<&Cancel>) -> Result<Acquired> {
        let wait = self.wait(timeout_ms)?;
        match cancel {
            Some(cancel) => self
                .lock
                .acquire(wait, Some(&Cancel::either(cancel, &self.freed))),
            None if wait == Wait::No => self.lock.acquire(wait, None),
            None => self.lock.acquire(wait, Some(&self.freed)),
        }
    }

    /// Holds with auto-release off, and would lose the hold with its handle: nothing but this process
    /// keeps it.
    pub(crate) fn is_exempt(&self) -> bool {
        let options = self.lock.options();
        let renewed = options.renew.unwrap_or(options.ttl.is_none());
        !self.lock.auto_release()
            && !self.lock.store().is_caller_thread_only()
            && (self.lock.ttl().is_none() || renewed)
            && self.lock.state() == synlock_core::State::Held
    }

    /// The wait that a timeout argument stands for.
    #[inline]
    pub(crate) fn wait(&self, timeout_ms: i64) -> Result<Wait> {
        match timeout_ms {
            -3 => Ok(self.lock.options().timeout.unwrap_or(Wait::Forever)),
            ms if ms >= -1 => Ok(Wait::from_millis(ms)),
            _ => Err(Error::invalid("the timeout is negative")),
        }
    }
}

/// Makes a lock handle; asks the store nothing. `options` is NULL for the
/// store's defaults. `length` is SYNLOCK_NTS if `name` is NUL-terminated; a
/// name has 1 to 65536 bytes of any value.
///
/// Fails with SYNLOCK_INVALID_ARGUMENT, or SYNLOCK_UNSUPPORTED for what the
/// store cannot promise.
///
/// # Safety
/// `name` has `length` bytes; `options` is NULL or has the size it says;
/// `lock` may be written; `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_lock_new(
    store: *const synlock_store,
    name: *const c_char,
    length: usize,
    options: *const synlock_lock_options,
    lock: *mut *mut synlock_lock,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_lock_new", error, || {
        // SAFETY: promised by the caller.
        let (out, name) = unsafe { (Out::new(lock)?, bytes(name, length, "name")?) };
        with_store(number(store), |store| {
            // SAFETY: promised by the caller.
            let (options, scope) = unsafe { lock_options(options, store.defaults()) }?;
            make(out, scope, || store.lock_with(name, options))
        })
    })
}

/// Hands out a lock, in its scope if it has one.
pub(crate) fn make(
    out: Out<*mut synlock_lock>,
    scope: u64,
    lock: impl FnOnce() -> Result<Lock>,
) -> Result<()> {
    if scope == 0 {
        return hand_out(out, Object::Lock(LockObject::new(lock()?)));
    }
    with_scope(scope, |scope| {
        let handle = handle::insert(Object::Lock(LockObject::new(lock()?)))?;
        scope.add(handle, Kind::Lock);
        out.set(std::ptr::without_provenance_mut(handle as usize));
        Ok(())
    })
}

/// Takes over a hold that another process exported as `text`; one of several
/// adopters wins, the others get SYNLOCK_LOST.
///
/// # Safety
/// `text` is NUL-terminated; otherwise as `synlock_lock_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_store_adopt(
    store: *const synlock_store,
    text: *const c_char,
    options: *const synlock_lock_options,
    lock: *mut *mut synlock_lock,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_store_adopt", error, || {
        // SAFETY: promised by the caller.
        let (out, text) = unsafe { (Out::new(lock)?, utf8(text, "text")?) };
        with_store(number(store), |store| {
            // SAFETY: promised by the caller.
            let (options, scope) = unsafe { lock_options(options, store.defaults()) }?;
            make(out, scope, || store.adopt(text, options))
        })
    })
}

/// Acquires the lock, waiting at most `timeout_ms`: SYNLOCK_NO_WAIT tries,
/// SYNLOCK_FOREVER waits for ever, SYNLOCK_USE_OPTION as the options say.
///
/// SYNLOCK_OK; SYNLOCK_BUSY when it only tried; SYNLOCK_TIMEOUT;
/// SYNLOCK_ALREADY_HELD; SYNLOCK_CANCELLED if the handle was freed meanwhile;
/// SYNLOCK_INTERRUPTED with `interruptible`: call again with the time left.
///
/// # Safety
/// `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_lock_acquire(
    lock: *mut synlock_lock,
    timeout_ms: i64,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_lock_acquire", error, || {
        with_lock(number(lock), |lock| {
            lock.acquire(timeout_ms, None).map(drop)
        })
    })
}

/// As `synlock_lock_acquire`; `cancel` (may be NULL) ends the wait with
/// SYNLOCK_CANCELLED, `acquired` (may be NULL) tells how it went.
///
/// # Safety
/// `acquired` is NULL or points to a struct with its `struct_size` set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_lock_acquire_with(
    lock: *mut synlock_lock,
    timeout_ms: i64,
    cancel: *mut synlock_cancel,
    acquired: *mut synlock_acquired,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_lock_acquire_with", error, || {
        let switch = match number(cancel) {
            0 => None,
            handle => Some(with_cancel(handle, |cancel| Ok(cancel.0.clone()))?),
        };
        // SAFETY: promised by the caller.
        let out = unsafe { SizedOut::optional(acquired) }?;
        with_lock(number(lock), |lock| {
            let own = synlock_acquired::of(&lock.acquire(timeout_ms, switch.as_ref())?);
            if let Some(out) = out {
                out.set(&own);
            }
            Ok(())
        })
    })
}

/// Takes back the last acquire, for a caller who will not hear how it ended:
/// gives up the place in the queue that an interrupted one kept, and releases
/// what one was granted. What was held before, by this handle or (with
/// SYNLOCK_EXTEND) by another, stays held.
///
/// # Safety
/// `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_lock_abandon(
    lock: *mut synlock_lock,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_lock_abandon", error, || {
        with_lock(number(lock), |lock| lock.lock.abandon())
    })
}

/// Releases the lock. SYNLOCK_OK; SYNLOCK_NOT_HELD; SYNLOCK_LOST if it was
/// not this owner's any more; SYNLOCK_UNCERTAIN if the reply was lost: the
/// release goes on in the background.
///
/// # Safety
/// `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_lock_release(
    lock: *mut synlock_lock,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_lock_release", error, || {
        with_lock(number(lock), |lock| lock.lock.release().map(drop))
    })
}

/// Whether the last release of this handle that was SYNLOCK_OK came after the
/// lease had run out, though nobody had taken the lock: 1 or 0; -1 for a bad
/// handle.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_lock_was_late(lock: *const synlock_lock) -> i32 {
    value("synlock_lock_was_late", -1, || {
        with_lock(number(lock), |lock| Ok(i32::from(lock.lock.was_late())))
    })
}

/// Lengthens the lease to `ttl_ms` from now, or (0) to the lock's own; never
/// shortens it. On a store without leases 0 only checks that the lock is held,
/// and a TTL is SYNLOCK_UNSUPPORTED.
///
/// # Safety
/// `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_lock_refresh(
    lock: *mut synlock_lock,
    ttl_ms: i64,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_lock_refresh", error, || {
        let ttl = match ttl_ms {
            0 => None,
            ms => Some(Duration::from_millis(
                u64::try_from(ms).map_err(|_| Error::invalid("ttl_ms is negative"))?,
            )),
        };
        with_lock(number(lock), |lock| lock.lock.refresh(ttl))
    })
}

/// Turns a shared hold into the exclusive one. SYNLOCK_BUSY or
/// SYNLOCK_TIMEOUT while others read: the shared hold stays. Of two that
/// promote and wait without a bound neither gets it: give a timeout, and
/// release when it is refused. SYNLOCK_CANCELLED if the handle is freed
/// meanwhile.
///
/// # Safety
/// `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_lock_promote(
    lock: *mut synlock_lock,
    timeout_ms: i64,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_lock_promote", error, || {
        with_lock(number(lock), |lock| {
            let wait = lock.wait(timeout_ms)?;
            lock.lock.promote_with(wait, Some(&lock.freed))
        })
    })
}

/// Turns the exclusive hold into a shared one.
///
/// # Safety
/// `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_lock_demote(
    lock: *mut synlock_lock,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_lock_demote", error, || {
        with_lock(number(lock), |lock| lock.lock.demote())
    })
}

/// Frees the handle: ends its wait, releases what it holds unless
/// auto-release is off. In a forked child only frees memory. NULL does
/// nothing.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_lock_free(lock: *mut synlock_lock) {
    value("synlock_lock_free", (), || {
        handle::free(number(lock), Kind::Lock)
    });
}
