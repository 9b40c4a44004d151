//! Sessions: one owner of many names, by its id.

use crate::error::synlock_error;
use crate::guard::{Out, guard, hand_out, number, value};
use crate::handle::{self, Kind, Object, with_scope, with_session, with_store};
use crate::options::read_sized;
use crate::scope::synlock_scope;
use crate::status::synlock_status;
use crate::store::{plain_wait, synlock_store};
use crate::text::{bytes, copy_out, optional};
use std::ffi::c_char;
use std::ops::Deref;
use std::time::Duration;
use synlock_core::session::{DEFAULT_TTL, Session, Taken};
use synlock_core::{BootTime, Cancel, Code, Error, Result, Wait};

/// One owner of any number of exclusive locks, known by its id: Drupal's
/// model. They end with it: released together, when it is freed, and by
/// `synlock_process_end`. Usable from any thread; threads that share a session
/// share its locks.
#[derive(Debug)]
pub struct synlock_session {
    _private: [u8; 0],
}

#[derive(Debug)]
pub(crate) struct SessionObject {
    session: Session,
    /// Thrown when the handle is freed while a call waits.
    pub(crate) freed: Cancel,
}

impl Deref for SessionObject {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

/// How long a wait goes on before it looks whether the handle was freed.
const TURN: Duration = Duration::from_secs(1);

impl SessionObject {
    fn object(session: Session) -> Object {
        Object::Session(SessionObject {
            session,
            freed: Cancel::new(),
        })
    }

    /// As [`Session::wait`]; false as soon as the lock may be available.
    fn wait(&self, name: &[u8], wait: Wait) -> Result<bool> {
        let deadline = wait.deadline();
        loop {
            let turn = deadline.map_or(TURN, |end| end.left().min(TURN));
            if !self.session.wait(name, Wait::For(turn))? {
                return Ok(false);
            }
            if deadline.is_some_and(BootTime::has_passed) {
                return Ok(true);
            }
            if self.freed.is_cancelled() {
                return Err(Error::outcome(Code::Cancelled));
            }
        }
    }
}

/// Options of a session. Set `struct_size`; zero means default for the rest.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct synlock_session_options {
    /// sizeof(synlock_session_options).
    pub struct_size: usize,
    /// NULL: the session draws an id. Otherwise it is the persistent session
    /// of this id, 1 to 255 printable characters of ASCII, whose locks outlive
    /// it and the process until their leases end.
    pub id: *const c_char,
    /// Scope that the handle ends with; or NULL.
    pub scope: *mut synlock_scope,
}

const EMPTY: synlock_session_options = synlock_session_options {
    struct_size: size_of::<synlock_session_options>(),
    id: std::ptr::null(),
    scope: std::ptr::null_mut(),
};

/// Makes a session; asks the store nothing. `options` may be NULL.
///
/// Fails with SYNLOCK_INVALID_ARGUMENT for an id that cannot be one, and with
/// SYNLOCK_UNSUPPORTED for a persistent session where locks end with the
/// process that took them.
///
/// # Safety
/// `options` is NULL or has the size it says; `session` may be written;
/// `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_session_new(
    store: *const synlock_store,
    options: *const synlock_session_options,
    session: *mut *mut synlock_session,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_session_new", error, || {
        // SAFETY: promised by the caller.
        let (out, options) = unsafe { (Out::new(session)?, read_sized(options, EMPTY)?) };
        // SAFETY: promised by the caller.
        let id = unsafe { optional(options.id, "id") }?;
        with_store(number(store), |store| {
            let make = || match id {
                None => Ok(Session::new(store)),
                Some(id) => Session::persistent(store, id),
            };
            if options.scope.is_null() {
                return hand_out(out, SessionObject::object(make()?));
            }
            with_scope(number(options.scope), |scope| {
                let handle = handle::insert(SessionObject::object(make()?))?;
                scope.add(handle, Kind::Session);
                out.set(std::ptr::without_provenance_mut(handle as usize));
                Ok(())
            })
        })
    })
}

/// Copies the session's id, the same for its whole life; 256 bytes are
/// enough. For the buffer see `synlock_store_url`.
///
/// # Safety
/// As `synlock_store_url`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_session_id(
    session: *const synlock_session,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_session_id", error, || {
        with_session(number(session), |session| {
            let id = session.id()?;
            // SAFETY: promised by the caller.
            unsafe { copy_out(&id, buffer, capacity, length) }
        })
    })
}

/// A lease of `ttl_ms`, or the default.
fn ttl(ttl_ms: i64) -> Result<Duration> {
    match u64::try_from(ttl_ms) {
        Ok(0) => Ok(DEFAULT_TTL),
        Ok(ms) => Ok(Duration::from_millis(ms)),
        Err(_) => Err(Error::invalid("ttl_ms is negative")),
    }
}

/// Takes the lock for `ttl_ms` (0: 30 s), or renews it for `ttl_ms` from now if
/// the session holds it; never shortens, and does not wait.
///
/// SYNLOCK_OK: the session holds it. SYNLOCK_BUSY: somebody else does.
/// SYNLOCK_LOST: it held it and could not renew it, since somebody else has
/// it, or may have had it in between; the next call is a new acquire. On a
/// store without leases a lock is held until it is released or the process
/// ends, whatever `ttl_ms` says.
///
/// # Safety
/// `name` has `length` bytes or is NUL-terminated with SYNLOCK_NTS; `error` is
/// NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_session_acquire(
    session: *mut synlock_session,
    name: *const c_char,
    length: usize,
    ttl_ms: i64,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_session_acquire", error, || {
        // SAFETY: promised by the caller.
        let name = unsafe { bytes(name, length, "name") }?;
        with_session(number(session), |session| {
            match session.acquire(name, ttl(ttl_ms)?)? {
                Taken::New | Taken::Renewed => Ok(()),
                Taken::Busy => Err(Error::outcome(Code::Busy)),
                Taken::Lost => Err(Error::outcome(Code::Lost)),
            }
        })
    })
}

/// Lengthens a hold to `ttl_ms` (0: 30 s) from now: SYNLOCK_OK, or
/// SYNLOCK_NOT_HELD if the session does not hold the lock, or not any more. A
/// persistent session renews what any process acquired under its id, unless
/// this object acquired it and has lost it.
///
/// # Safety
/// As `synlock_session_acquire`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_session_renew(
    session: *mut synlock_session,
    name: *const c_char,
    length: usize,
    ttl_ms: i64,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_session_renew", error, || {
        // SAFETY: promised by the caller.
        let name = unsafe { bytes(name, length, "name") }?;
        with_session(number(session), |session| {
            held(session.renew(name, ttl(ttl_ms)?)?)
        })
    })
}

fn held(held: bool) -> Result<()> {
    held.then_some(())
        .ok_or_else(|| Error::outcome(Code::NotHeld))
}

/// Whether an acquire by somebody else would find the lock free now: writes 1
/// or 0. Breaks a hold whose lease has ended.
///
/// # Safety
/// `available` may be written; otherwise as `synlock_session_acquire`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_session_may_be_available(
    session: *const synlock_session,
    name: *const c_char,
    length: usize,
    available: *mut i32,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_session_may_be_available", error, || {
        // SAFETY: promised by the caller.
        let (out, name) = unsafe { (Out::new(available)?, bytes(name, length, "name")?) };
        with_session(number(session), |session| {
            out.set(session.may_be_available(name)?.into());
            Ok(())
        })
    })
}

/// Waits until the lock may be available, without taking it: SYNLOCK_OK, or
/// SYNLOCK_TIMEOUT if it is still held after `timeout_ms`, or SYNLOCK_CANCELLED
/// if the session was freed meanwhile.
///
/// # Safety
/// As `synlock_session_acquire`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_session_wait(
    session: *const synlock_session,
    name: *const c_char,
    length: usize,
    timeout_ms: i64,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_session_wait", error, || {
        // SAFETY: promised by the caller.
        let name = unsafe { bytes(name, length, "name") }?;
        with_session(number(session), |session| {
            match session.wait(name, plain_wait(timeout_ms)?)? {
                true => Err(Error::outcome(Code::Timeout)),
                false => Ok(()),
            }
        })
    })
}

/// Releases one lock: SYNLOCK_OK; SYNLOCK_NOT_HELD if the session did not hold
/// it any more; SYNLOCK_UNCERTAIN if the reply was lost, and then the hold ends
/// with its lease at the latest. A persistent session releases what any process
/// acquired under its id, unless this object acquired it and has lost it: then
/// it says so once.
///
/// # Safety
/// As `synlock_session_acquire`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_session_release(
    session: *mut synlock_session,
    name: *const c_char,
    length: usize,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_session_release", error, || {
        // SAFETY: promised by the caller.
        let name = unsafe { bytes(name, length, "name") }?;
        with_session(number(session), |session| held(session.release(name)?))
    })
}

/// Releases all locks of the session (`id` NULL; of a persistent one what this
/// handle took, not what others took under its id), or of the session of that
/// id; `released` (may be NULL) gets how many there were. Another session's
/// can be released on a table of Drupal's, and where the store lists its
/// locks and that session is persistent: SYNLOCK_UNSUPPORTED otherwise.
///
/// # Safety
/// `id` is NULL or NUL-terminated; `released` and `error` are NULL or may be
/// written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_session_release_all(
    session: *mut synlock_session,
    id: *const c_char,
    released: *mut u64,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_session_release_all", error, || {
        // SAFETY: promised by the caller.
        let id = unsafe { optional(id, "id") }?;
        with_session(number(session), |session| {
            let count = session.release_all(id)?;
            if !released.is_null() {
                // SAFETY: promised by the caller.
                unsafe { released.write(count) };
            }
            Ok(())
        })
    })
}

/// Frees the handle: ends its waits, within a second, and releases what the
/// session holds, unless it is persistent. In a forked child only frees memory.
/// NULL does nothing.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_session_free(session: *mut synlock_session) {
    value("synlock_session_free", (), || {
        handle::free(number(session), Kind::Session)
    });
}
