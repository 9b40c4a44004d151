//! A descriptor that is watched by an environment's own loop, so that no thread has to tell it.
//!
//! N-API hands out libuv's loop; the functions are those of the program that has loaded the addon. Where they are
//! not exported there is another way (hub.rs).

use napi::bindgen_prelude::{Function, JsValue, Unknown};
use napi::{Env, sys};
use std::ffi::{CStr, c_int, c_void};
use std::ptr::null_mut;
use std::sync::{Arc, OnceLock};
use synlock_core::dispatch::Poller;

type Callback = unsafe extern "C" fn(*mut c_void, c_int, c_int);
type Closed = unsafe extern "C" fn(*mut c_void);

/// `UV_POLL` among the kinds of handles, `UV_READABLE` among the events: part of libuv's ABI.
const POLL: c_int = 8;
const READABLE: c_int = 1;

#[derive(Clone, Copy)]
struct Uv {
    handle_size: unsafe extern "C" fn(c_int) -> usize,
    poll_init: unsafe extern "C" fn(*mut c_void, *mut c_void, c_int) -> c_int,
    poll_start: unsafe extern "C" fn(*mut c_void, c_int, Callback) -> c_int,
    unref: unsafe extern "C" fn(*mut c_void),
    close: unsafe extern "C" fn(*mut c_void, Closed),
    set_data: unsafe extern "C" fn(*mut c_void, *mut c_void),
    get_data: unsafe extern "C" fn(*const c_void) -> *mut c_void,
}

fn symbol(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: looks a name up among those of the program.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!found.is_null()).then_some(found)
}

impl Uv {
    /// Looked up once: it takes longer than to read an answer.
    fn get() -> Option<Self> {
        static FOUND: OnceLock<Option<Uv>> = OnceLock::new();
        *FOUND.get_or_init(Uv::find)
    }

    fn find() -> Option<Self> {
        // SAFETY: the types are those of uv.h, which have not changed within libuv 1.
        unsafe {
            Some(Uv {
                handle_size: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(c_int) -> usize>(
                    symbol(c"uv_handle_size")?,
                ),
                poll_init: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(*mut c_void, *mut c_void, c_int) -> c_int,
                >(symbol(c"uv_poll_init")?),
                poll_start: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(*mut c_void, c_int, Callback) -> c_int,
                >(symbol(c"uv_poll_start")?),
                unref: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void)>(
                    symbol(c"uv_unref")?,
                ),
                close: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void, Closed)>(
                    symbol(c"uv_close")?,
                ),
                set_data: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(*mut c_void, *mut c_void),
                >(symbol(c"uv_handle_set_data")?),
                get_data: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(*const c_void) -> *mut c_void,
                >(symbol(c"uv_handle_get_data")?),
            })
        }
    }
}

/// What lives until the environment ends.
struct Watch {
    env: sys::napi_env,
    ring: sys::napi_ref,
    uv: Uv,
    /// The handle, aligned as any.
    handle: Box<[u128]>,
    hook: sys::napi_async_cleanup_hook_handle,
    /// Its descriptor stays open for as long.
    _poller: Arc<Poller>,
}

impl Watch {
    fn handle(&mut self) -> *mut c_void {
        self.handle.as_mut_ptr().cast()
    }
}

/// Calls `ring` on the environment's loop whenever there is something to read; false if that cannot be. Keeps
/// no process alive, and ends with the environment.
pub fn watch(env: &Env, poller: &Arc<Poller>, ring: &Function<'_, (), Unknown<'static>>) -> bool {
    let Some(uv) = Uv::get() else { return false };
    let raw = env.raw();
    let mut watched = null_mut();
    let mut reference = null_mut();
    // SAFETY: a live environment on its own thread, and places for what is handed out.
    let is_known = unsafe {
        sys::napi_get_uv_event_loop(raw, &raw mut watched) == sys::Status::napi_ok
            && sys::napi_create_reference(raw, ring.value().value, 1, &raw mut reference)
                == sys::Status::napi_ok
    };
    if !is_known {
        return false;
    }
    // SAFETY: no pointer is used.
    let size = unsafe { (uv.handle_size)(POLL) };
    let mut watch = Box::new(Watch {
        env: raw,
        ring: reference,
        uv,
        handle: vec![0; size.div_ceil(16)].into(),
        hook: null_mut(),
        _poller: poller.clone(),
    });
    let handle = watch.handle();
    // SAFETY: the loop's own thread; the handle has the size that was asked for, and lives until it is closed.
    if unsafe { (uv.poll_init)(watched.cast(), handle, poller.fd()) } != 0 {
        // SAFETY: made above.
        unsafe { sys::napi_delete_reference(raw, reference) };
        return false;
    }
    let watch = Box::into_raw(watch);
    // SAFETY: the handle is initialised, and has the watch from here on until `closed` takes both back.
    unsafe {
        (uv.set_data)(handle, watch.cast());
        (uv.unref)(handle);
        let hook =
            sys::napi_add_async_cleanup_hook(raw, Some(end), watch.cast(), &raw mut (*watch).hook);
        let started =
            hook == sys::Status::napi_ok && (uv.poll_start)(handle, READABLE, readable) == 0;
        if !started && hook != sys::Status::napi_ok {
            (uv.close)(handle, closed);
        }
        started
    }
}

unsafe extern "C" fn readable(handle: *mut c_void, _status: c_int, _events: c_int) {
    let Some(uv) = Uv::get() else { return };
    // SAFETY: `watch` put it there, and it lives until the handle is closed, after which nobody calls this.
    let watch = unsafe { &*(uv.get_data)(handle).cast::<Watch>() };
    let env = watch.env;
    let (mut scope, mut ring, mut global) = (null_mut(), null_mut(), null_mut());
    // SAFETY: on the environment's thread, outside of any call; what is handed out lives until the scope is closed.
    unsafe {
        if sys::napi_open_handle_scope(env, &raw mut scope) != sys::Status::napi_ok {
            return;
        }
        if sys::napi_get_reference_value(env, watch.ring, &raw mut ring) == sys::Status::napi_ok
            && sys::napi_get_global(env, &raw mut global) == sys::Status::napi_ok
        {
            // Runs what was put off until after the call, too.
            let (none, mut result) = (null_mut(), null_mut());
            let called = sys::napi_make_callback(
                env,
                none,
                global,
                ring,
                0,
                std::ptr::null(),
                &raw mut result,
            );
            if called == sys::Status::napi_pending_exception {
                let mut thrown = null_mut();
                sys::napi_get_and_clear_last_exception(env, &raw mut thrown);
                sys::napi_fatal_exception(env, thrown);
            }
        }
        sys::napi_close_handle_scope(env, scope);
    }
}

/// The environment ends.
unsafe extern "C" fn end(_hook: sys::napi_async_cleanup_hook_handle, watch: *mut c_void) {
    // SAFETY: called once with what `watch` made, on the loop's thread.
    unsafe {
        let watch = watch.cast::<Watch>();
        sys::napi_delete_reference((*watch).env, (*watch).ring);
        ((*watch).uv.close)((*watch).handle(), closed);
    }
}

unsafe extern "C" fn closed(handle: *mut c_void) {
    let Some(uv) = Uv::get() else { return };
    // SAFETY: the handle is the watch's own, and libuv is done with it.
    unsafe {
        let watch = Box::from_raw((uv.get_data)(handle).cast::<Watch>());
        if !watch.hook.is_null() {
            sys::napi_remove_async_cleanup_hook(watch.hook);
        }
    }
}
