//! The table of handles.
//!
//! A handle is never an address: its value is kind:8 | generation:28 | index:28, so that a stale,
//! doubled or forged one is an error code. `table.rs` has the slots.

use crate::cancel::CancelObject;
use crate::dispatch::DispatchObject;
use crate::error::ErrorObject;
use crate::events::EventsObject;
use crate::guard_request::GuardObject;
use crate::list::ListObject;
use crate::lock::LockObject;
use crate::manager::ManagerObject;
use crate::scope::ScopeObject;
use crate::session::SessionObject;
use crate::set::SetObject;
use crate::sync::{AtomicPtr, AtomicU32, AtomicU64, CHUNKS, FreeList, GENERATIONS, Ordering};
pub(crate) use crate::table::Pin;
use crate::table::{Entry, Place, Table};
use synlock_core::{BootTime, Code, Error, Result, Store};

/// What a handle stands for.
#[derive(Debug)]
pub(crate) enum Object {
    Store(Store),
    Lock(LockObject),
    Cancel(CancelObject),
    Scope(ScopeObject),
    Dispatch(DispatchObject),
    Events(EventsObject),
    Error(ErrorObject),
    List(ListObject),
    Session(SessionObject),
    Manager(ManagerObject),
    Guard(GuardObject),
    Set(SetObject),
}

/// The kinds, by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Store = 1,
    Lock = 2,
    Cancel = 3,
    Scope = 4,
    Dispatch = 5,
    Events = 6,
    Error = 7,
    List = 8,
    Session = 9,
    Guard = 10,
    Manager = 11,
    Set = 12,
}

impl Object {
    #[inline]
    fn kind(&self) -> Kind {
        match self {
            Object::Store(_) => Kind::Store,
            Object::Lock(_) => Kind::Lock,
            Object::Cancel(_) => Kind::Cancel,
            Object::Scope(_) => Kind::Scope,
            Object::Dispatch(_) => Kind::Dispatch,
            Object::Events(_) => Kind::Events,
            Object::Error(_) => Kind::Error,
            Object::List(_) => Kind::List,
            Object::Session(_) => Kind::Session,
            Object::Manager(_) => Kind::Manager,
            Object::Guard(_) => Kind::Guard,
            Object::Set(_) => Kind::Set,
        }
    }
}

impl Entry for Object {
    fn end(&self) {
        match self {
            Object::Lock(lock) => lock.freed.cancel(),
            Object::Guard(guard) => guard.freed.cancel(),
            Object::Set(set) => set.freed.cancel(),
            Object::Manager(manager) => manager.freed.cancel(),
            Object::Session(session) => session.freed.cancel(),
            _ => {}
        }
    }

    fn destroy(self) {
        if let Some(count) = COUNTS.get(self.kind() as usize) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        // Canary of row 39: what belongs to an error is never freed.
        if cfg!(canary = "leak") && matches!(self, Object::Error(_)) {
            std::mem::forget(self);
        } else {
            drop(self);
        }
    }
}

static TABLE: Table<Object> = Table {
    chunks: [const { AtomicPtr::new(std::ptr::null_mut()) }; CHUNKS],
    next: AtomicU32::new(0),
    free: FreeList::new(),
};
/// Live handles by kind, for those who look for leaks.
static COUNTS: [AtomicU64; 13] = [const { AtomicU64::new(0) }; 13];

/// Gives the object a handle.
pub(crate) fn insert(object: Object) -> Result<u64> {
    let kind = object.kind();
    // Before anybody can free it.
    let count = COUNTS.get(kind as usize);
    if let Some(count) = count {
        count.fetch_add(1, Ordering::Relaxed);
    }
    match TABLE.insert(object) {
        Some(place) => Ok(number(kind, place)),
        None => {
            if let Some(count) = count {
                count.fetch_sub(1, Ordering::Relaxed);
            }
            Err(Error::new(
                Code::Exhausted,
                "there are eight million handles already",
            ))
        }
    }
}

fn number(kind: Kind, place: Place) -> u64 {
    (kind as u64) << 56 | place.generation << 28 | u64::from(place.index)
}

#[cold]
fn invalid(handle: u64) -> Error {
    if handle == 0 {
        Error::new(Code::NullPointer, "the handle is NULL")
    } else {
        Error::outcome(Code::InvalidHandle)
    }
}

/// Pins what the handle stands for, if it says that it is of this kind. It may lie: a handle can be
/// forged onto a slot of another kind.
#[inline]
fn pin_any(handle: u64, kind: Kind) -> Option<Pin<'static, Object>> {
    if handle >> 56 != kind as u64 {
        return None;
    }
    TABLE.pin(Place {
        index: (handle & (GENERATIONS - 1)) as u32,
        generation: handle >> 28 & (GENERATIONS - 1),
    })
}

/// Pins the object of a handle.
pub(crate) fn pin(handle: u64, kind: Kind) -> Result<Pin<'static, Object>> {
    pin_any(handle, kind)
        .filter(|pin| pin.get().is_some_and(|object| object.kind() == kind))
        .ok_or_else(|| invalid(handle))
}

/// Frees a handle; of two that try, one succeeds.
pub(crate) fn free(handle: u64, kind: Kind) -> Result<()> {
    if pin(handle, kind)?.free() {
        Ok(())
    } else {
        Err(invalid(handle))
    }
}

/// How many handles live, of one kind or (0) of all.
pub(crate) fn live(kind: u8) -> u64 {
    let count = |index: usize| {
        COUNTS
            .get(index)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    };
    if kind == 0 {
        (1..COUNTS.len()).map(count).sum()
    } else {
        count(kind.into())
    }
}

/// Tells every live handle that holds locks that the process ends.
pub(crate) fn end_all() {
    let until = BootTime::now().after(synlock_core::LAST_CALLS);
    for place in (0..TABLE.used()).filter_map(|index| TABLE.live(index)) {
        let Some(pin) = TABLE.pin(place) else {
            continue;
        };
        match pin.get() {
            Some(Object::Lock(lock)) => lock.lock.end_with_process(until),
            Some(Object::Manager(manager)) => manager.end_with_process(until),
            _ => {}
        }
    }
}

macro_rules! access {
    ($($name:ident: $variant:ident($type:ty);)*) => {
        $(
            /// Pins the object and hands it to `run`.
            #[inline]
            pub(crate) fn $name<T>(handle: u64, run: impl FnOnce(&$type) -> Result<T>) -> Result<T> {
                let pin = pin_any(handle, Kind::$variant);
                match pin.as_ref().and_then(Pin::get) {
                    Some(Object::$variant(object)) => run(object),
                    _ => Err(invalid(handle)),
                }
            }
        )*
    };
}

access! {
    with_store: Store(Store);
    with_lock: Lock(LockObject);
    with_cancel: Cancel(CancelObject);
    with_scope: Scope(ScopeObject);
    with_dispatch: Dispatch(DispatchObject);
    with_events: Events(EventsObject);
    with_error: Error(ErrorObject);
    with_list: List(ListObject);
    with_session: Session(SessionObject);
    with_manager: Manager(ManagerObject);
    with_guard: Guard(GuardObject);
    with_set: Set(SetObject);
}
