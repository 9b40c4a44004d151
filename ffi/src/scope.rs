//! Scopes: handles that end together, such as those of one request.

use crate::error::synlock_error;
use crate::guard::{Out, guard, hand_out, number, value};
use crate::handle::{self, Kind, Object, with_lock, with_scope, with_store};
use crate::status::synlock_status;
use crate::store::synlock_store;
use std::cell::Cell;
use synlock_core::sync::Mutex;

/// Handles that are released and freed together.
#[derive(Debug)]
pub struct synlock_scope {
    _private: [u8; 0],
}

#[derive(Debug, Default)]
pub(crate) struct ScopeObject {
    members: Mutex<Vec<(u64, Kind)>>,
}

impl ScopeObject {
    pub(crate) fn add(&self, handle: u64, kind: Kind) {
        let mut members = self.members.lock();
        // Those that were freed by hand need not be remembered for ever.
        if members.len() >= 64 && members.len().is_power_of_two() {
            members.retain(|(handle, kind)| handle::pin(*handle, *kind).is_ok());
        }
        members.push((handle, kind));
    }
}

impl ScopeObject {
    /// The callbacks of a request that is over are gone, and must not be called to release its locks.
    fn abandon_custom(&self) {
        let members = self.members.lock().clone();
        for (store, _) in members.into_iter().filter(|(_, kind)| *kind == Kind::Store) {
            let _ = with_store(store, |store| {
                store.backend().abandon();
                Ok(())
            });
        }
    }
}

impl Drop for ScopeObject {
    fn drop(&mut self) {
        // The latest first, as nested code would release them.
        let members = std::mem::take(&mut *self.members.lock());
        for (handle, kind) in members.into_iter().rev() {
            if kind == Kind::Lock && with_lock(handle, |lock| Ok(lock.is_exempt())).unwrap_or(false)
            {
                continue;
            }
            // One that was freed by hand is gone already.
            let _ = handle::free(handle, kind);
        }
    }
}

/// Makes an empty scope; name it in `synlock_lock_options`.
///
/// # Safety
/// `scope` may be written; `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_scope_new(
    scope: *mut *mut synlock_scope,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_scope_new", error, || {
        // SAFETY: promised by the caller.
        let out = unsafe { Out::new(scope) }?;
        hand_out(out, Object::Scope(ScopeObject::default()))
    })
}

thread_local! {
    /// Scope of the thread's present request, 0 if there is none: hosts with threads serve one on each.
    static REQUEST: Cell<u64> = const { Cell::new(0) };
}

/// As `synlock_scope_new`, for hosts that serve one request after another on
/// one thread and may end one without a chance to free anything: the scope
/// that the thread's last call made is freed first, if it still lives. A
/// thread that ends frees its scope before: nobody else does.
///
/// # Safety
/// As `synlock_scope_new`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_scope_request(
    scope: *mut *mut synlock_scope,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_scope_request", error, || {
        // SAFETY: promised by the caller.
        let out = unsafe { Out::new(scope) }?;
        // One that was closed as it should be is gone already.
        let last = REQUEST.replace(0);
        let _ = with_scope(last, |scope| {
            scope.abandon_custom();
            Ok(())
        });
        let _ = handle::free(last, Kind::Scope);
        let handle = handle::insert(Object::Scope(ScopeObject::default()))?;
        REQUEST.set(handle);
        out.set(std::ptr::without_provenance_mut(handle as usize));
        Ok(())
    })
}

/// Lets the store handle be freed with the scope.
///
/// # Safety
/// `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_scope_add_store(
    scope: *mut synlock_scope,
    store: *mut synlock_store,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_scope_add_store", error, || {
        handle::pin(number(store), Kind::Store)?;
        with_scope(number(scope), |scope| {
            scope.add(number(store), Kind::Store);
            Ok(())
        })
    })
}

/// Frees the scope and every handle made in it. Locks among them are
/// released, but for those whose auto-release is off; such a lock keeps its
/// handle too if only that keeps the hold alive. NULL does nothing.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_scope_free(scope: *mut synlock_scope) {
    value("synlock_scope_free", (), || {
        handle::free(number(scope), Kind::Scope)
    });
}
