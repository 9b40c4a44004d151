//! Managers of semaphores.

use crate::cancel::synlock_cancel;
use crate::error::synlock_error;
use crate::guard::{Out, guard, hand_out, number, value};
use crate::guard_request::{read_params, synlock_placeholder};
use crate::handle::{self, Kind, Object, with_cancel, with_manager, with_scope, with_store};
use crate::lock::synlock_acquired;
use crate::options::{SizedOut, read_sized, switch};
use crate::scope::synlock_scope;
use crate::status::synlock_status;
use crate::store::synlock_store;
use crate::text::{self, bytes, copy_bytes};
use std::ffi::c_char;
use std::ops::Deref;
use std::time::Duration;
use synlock_core::manager::{Manager, ManagerOptions, Repeat};
use synlock_core::name::template;
use synlock_core::name::typed::Key;
use synlock_core::{Cancel, Error, Result};

/// Locks by typed keys with one set of retry settings, as Avtonom's semaphore
/// bundle has them. Usable from several threads. Freeing it releases what it
/// holds, and tells its events.
#[derive(Debug)]
pub struct synlock_manager {
    _private: [u8; 0],
}

/// What asking again for a key that this process holds means.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum synlock_repeat {
    /// SYNLOCK_REPEAT_ERROR.
    SYNLOCK_REPEAT_DEFAULT = 0,
    /// SYNLOCK_REENTERED.
    SYNLOCK_REPEAT_ERROR = 1,
    /// The lease is lengthened; one release ends the hold.
    SYNLOCK_REPEAT_EXTEND = 2,
}

/// Settings of a manager. Set `struct_size`; zero means default for every
/// other field.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct synlock_manager_options {
    /// sizeof(synlock_manager_options).
    pub struct_size: usize,
    /// How long one try lasts, ms; 0: 500; SYNLOCK_OPT_TRY (-2): an acquire
    /// does not wait.
    pub sleep_ms: i64,
    /// By how much a try may last longer, at random, ms.
    pub jitter_ms: i64,
    /// Lease of a lock that is acquired without one, ms; 0: 60000. Where the
    /// store has no leases, a lock is held until released or its owner dies.
    pub ttl_ms: i64,
    /// How often to try; 0: 240. An acquire waits for `tries` times
    /// `sleep_ms`, and is woken.
    pub tries: u32,
    /// A synlock_repeat.
    pub repeat: i32,
    /// Grant everything, write nothing, tell all; a synlock_switch.
    pub demo: i32,
    /// As of synlock_lock_options.
    pub interruptible: i32,
    /// What names begin with, NUL-terminated; NULL: "lock_".
    pub prefix: *const c_char,
    /// Scope that the handle ends with; or NULL.
    pub scope: *mut synlock_scope,
}

#[derive(Debug)]
pub(crate) struct ManagerObject {
    manager: Manager,
    /// Thrown when the handle is freed while a call waits.
    pub(crate) freed: Cancel,
}

impl Deref for ManagerObject {
    type Target = Manager;

    fn deref(&self) -> &Manager {
        &self.manager
    }
}

impl synlock_manager_options {
    const EMPTY: Self = synlock_manager_options {
        struct_size: size_of::<Self>(),
        sleep_ms: 0,
        jitter_ms: 0,
        ttl_ms: 0,
        tries: 0,
        repeat: 0,
        demo: 0,
        interruptible: 0,
        prefix: std::ptr::null(),
        scope: std::ptr::null_mut(),
    };
}

fn millis(ms: i64, what: &str) -> Result<Duration> {
    let ms = u64::try_from(ms).map_err(|_| Error::invalid(format!("{what} is negative")))?;
    Ok(Duration::from_millis(ms))
}

/// The core's settings from C's.
///
/// # Safety
/// As `read_sized`; `prefix` is NULL or NUL-terminated.
unsafe fn options(given: *const synlock_manager_options) -> Result<(ManagerOptions, u64)> {
    // SAFETY: promised by the caller.
    let given = unsafe { read_sized(given, synlock_manager_options::EMPTY) }?;
    let mut options = ManagerOptions::default();
    match given.sleep_ms {
        0 => {}
        -2 => options.sleep = Duration::ZERO,
        ms => options.sleep = millis(ms, "sleep_ms")?,
    }
    options.jitter = millis(given.jitter_ms, "jitter_ms")?;
    if given.ttl_ms != 0 {
        options.ttl = millis(given.ttl_ms, "ttl_ms")?;
    }
    if given.tries != 0 {
        options.tries = given.tries;
    }
    options.repeat = match given.repeat {
        0 | 1 => Repeat::Error,
        2 => Repeat::Extend,
        _ => return Err(Error::invalid("repeat is no synlock_repeat")),
    };
    options.demo = switch(given.demo, "demo")?.unwrap_or(false);
    options.interruptible = switch(given.interruptible, "interruptible")?.unwrap_or(false);
    if !given.prefix.is_null() {
        // SAFETY: promised by the caller.
        options.prefix = unsafe { bytes(given.prefix, text::NTS, "prefix") }?.to_vec();
    }
    Ok((options, given.scope.addr() as u64))
}

/// A key from JSON.
///
/// # Safety
/// As `bytes`.
unsafe fn key(json: *const c_char, length: usize) -> Result<Key> {
    // SAFETY: promised by the caller.
    Key::from_json(unsafe { bytes(json, length, "key") }?)
}

/// Makes a manager of locks in this store; `options` is NULL for Avtonom's
/// settings. Its locks tell of themselves through `synlock_manager_store`.
///
/// # Safety
/// `options` is NULL or has the size it says; `manager` may be written; `error`
/// is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_manager_new(
    store: *const synlock_store,
    options: *const synlock_manager_options,
    manager: *mut *mut synlock_manager,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_manager_new", error, || {
        // SAFETY: promised by the caller.
        let out = unsafe { Out::new(manager) }?;
        // SAFETY: promised by the caller.
        let (options, scope) = unsafe { self::options(options) }?;
        let manager = with_store(number(store), |store| Manager::new(store, options))?;
        let made = Object::Manager(ManagerObject {
            manager,
            freed: Cancel::new(),
        });
        if scope == 0 {
            return hand_out(out, made);
        }
        with_scope(scope, |scope| {
            let handle = handle::insert(made)?;
            scope.add(handle, Kind::Manager);
            out.set(std::ptr::without_provenance_mut(handle as usize));
            Ok(())
        })
    })
}

/// The manager's own handle of the store, for synlock_events_new and
/// synlock_store_measure; free it.
///
/// # Safety
/// `store` may be written; `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_manager_store(
    manager: *const synlock_manager,
    store: *mut *mut synlock_store,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_manager_store", error, || {
        // SAFETY: promised by the caller.
        let out = unsafe { Out::new(store) }?;
        with_manager(number(manager), |manager| {
            hand_out(out, Object::Store(manager.store().clone()))
        })
    })
}

/// Acquires the lock of a key, which is JSON: text, or a list that begins with
/// text. `caller` (or NULL) is told in events: where the program asks from.
/// `ttl_ms` is the lease, 0 as the settings say; `cancel` and `acquired` as for
/// synlock_lock_acquire_with.
///
/// SYNLOCK_OK; SYNLOCK_TIMEOUT; SYNLOCK_BUSY if the settings give no time;
/// SYNLOCK_REENTERED; SYNLOCK_CANCELLED, also if the manager was freed
/// meanwhile; SYNLOCK_INTERRUPTED with `interruptible`: call again from the
/// same thread, or synlock_manager_abandon.
///
/// # Safety
/// `key` has `length` bytes; `caller` is NULL or NUL-terminated; otherwise as
/// `synlock_lock_acquire_with`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_manager_acquire(
    manager: *mut synlock_manager,
    key: *const c_char,
    length: usize,
    caller: *const c_char,
    ttl_ms: i64,
    cancel: *mut synlock_cancel,
    acquired: *mut synlock_acquired,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_manager_acquire", error, || {
        // SAFETY: promised by the caller.
        let out = unsafe { SizedOut::optional(acquired) }?;
        // SAFETY: promised by the caller.
        let (key, caller) = unsafe { (self::key(key, length)?, text::optional(caller, "caller")?) };
        let ttl = lease(ttl_ms)?;
        let switch = match number(cancel) {
            0 => None,
            handle => Some(with_cancel(handle, |cancel| Ok(cancel.0.clone()))?),
        };
        with_manager(number(manager), |manager| {
            let cancel = switch.map_or_else(
                || manager.freed.clone(),
                |given| Cancel::either(&given, &manager.freed),
            );
            let done = manager.acquire(&key, caller, ttl, Some(&cancel))?;
            if let Some(out) = out {
                out.set(&synlock_acquired::of(&done));
            }
            Ok(())
        })
    })
}

fn lease(ttl_ms: i64) -> Result<Option<Duration>> {
    match ttl_ms {
        0 => Ok(None),
        ms => millis(ms, "ttl_ms").map(Some),
    }
}

/// Gives up the place in the queue that an interrupted acquire of this thread
/// kept.
///
/// # Safety
/// `key` has `length` bytes; `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_manager_abandon(
    manager: *mut synlock_manager,
    key: *const c_char,
    length: usize,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_manager_abandon", error, || {
        // SAFETY: promised by the caller.
        let key = unsafe { self::key(key, length) }?;
        with_manager(number(manager), |manager| manager.abandon(&key))
    })
}

/// Releases the lock of a key. SYNLOCK_OK; SYNLOCK_NOT_HELD if this manager
/// does not hold it; SYNLOCK_LOST if it was lost meanwhile: whoever has it now
/// is left alone; SYNLOCK_UNCERTAIN.
///
/// # Safety
/// As `synlock_manager_acquire`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_manager_release(
    manager: *mut synlock_manager,
    key: *const c_char,
    length: usize,
    caller: *const c_char,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_manager_release", error, || {
        // SAFETY: promised by the caller.
        let (key, caller) = unsafe { (self::key(key, length)?, text::optional(caller, "caller")?) };
        with_manager(number(manager), |manager| {
            manager.release(&key, caller).map(drop)
        })
    })
}

/// Lengthens the lease of a key that this manager holds to `ttl_ms` from now,
/// or (0) to its own.
///
/// # Safety
/// `key` has `length` bytes; `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_manager_refresh(
    manager: *mut synlock_manager,
    key: *const c_char,
    length: usize,
    ttl_ms: i64,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_manager_refresh", error, || {
        // SAFETY: promised by the caller.
        let key = unsafe { self::key(key, length) }?;
        let ttl = lease(ttl_ms)?;
        with_manager(number(manager), |manager| manager.refresh(&key, ttl))
    })
}

/// Asks the store whether this manager holds the lock of a key: `held` gets 1
/// or 0.
///
/// # Safety
/// `key` has `length` bytes; `held` may be written; `error` is NULL or may be
/// written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_manager_is_acquired(
    manager: *mut synlock_manager,
    key: *const c_char,
    length: usize,
    held: *mut i32,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_manager_is_acquired", error, || {
        // SAFETY: promised by the caller.
        let out = unsafe { Out::new(held) }?;
        // SAFETY: promised by the caller.
        let key = unsafe { self::key(key, length) }?;
        with_manager(number(manager), |manager| {
            out.set(manager.is_acquired(&key)?.into());
            Ok(())
        })
    })
}

/// Frees the manager: ends its waits, releases what it holds unless the store's
/// URL says `auto_release=0`, and tells its events. NULL does nothing.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_manager_free(manager: *mut synlock_manager) {
    value("synlock_manager_free", (), || {
        handle::free(number(manager), Kind::Manager)
    });
}

/// Writes the name that a key stands for, behind `prefix`, into `buffer`, with
/// a NUL after it; `length` gets its length, which may have NULs inside. The
/// same in every language.
///
/// # Safety
/// `key` has `key_length` bytes, `prefix` is NULL or NUL-terminated; `buffer`
/// is NULL or has `capacity` bytes; `length` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_key_name(
    key: *const c_char,
    key_length: usize,
    prefix: *const c_char,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_key_name", error, || {
        // SAFETY: promised by the caller.
        let key = unsafe { self::key(key, key_length) }?;
        let prefix: &[u8] = match prefix.is_null() {
            true => b"",
            // SAFETY: promised by the caller.
            false => unsafe { bytes(prefix, text::NTS, "prefix") }?,
        };
        // SAFETY: promised by the caller.
        unsafe { copy_bytes(&key.render(prefix)?, buffer, capacity, length) }
    })
}

/// Writes the name that a template such as "order_{id}" makes of `count`
/// values into `buffer`, with a NUL after it; `length` gets its length. A
/// placeholder is what stands between two braces that enclose no other one; of
/// several values of one name, the last counts. Values are taken as they stand.
/// The same in every language.
///
/// SYNLOCK_INVALID_ARGUMENT for a placeholder without a value.
///
/// # Safety
/// `pattern` has `pattern_length` bytes, `values` is NULL or has `count` items,
/// each with the lengths that it says; otherwise as `synlock_key_name`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_template_name(
    pattern: *const c_char,
    pattern_length: usize,
    values: *const synlock_placeholder,
    count: usize,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_template_name", error, || {
        // SAFETY: promised by the caller.
        let pattern = unsafe { bytes(pattern, pattern_length, "pattern") }?;
        // SAFETY: promised by the caller.
        let values = unsafe { read_params(values, count) }?;
        let name = template::render_with(pattern, &values)?;
        // SAFETY: promised by the caller.
        unsafe { copy_bytes(&name, buffer, capacity, length) }
    })
}
