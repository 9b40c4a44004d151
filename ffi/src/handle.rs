//! The table of handles.
//!
//! A handle is never an address: its value is kind:8 | generation:28 | index:28, so that a stale,
//! doubled or forged one is an error code. Slots live in chunks that never move. A call pins the
//! slot; freeing clears its live bit, and whoever unpins last destroys the object. Nothing here is
//! locked across a fork: the list of free slots belongs to one process.

use crate::cancel::CancelObject;
use crate::dispatch::DispatchObject;
use crate::error::ErrorObject;
use crate::events::EventsObject;
use crate::list::ListObject;
use crate::lock::LockObject;
use crate::scope::ScopeObject;
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use synlock_core::fork::PerProcess;
use synlock_core::sync::Mutex;
use synlock_core::{Code, Error, Result, Store};

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
}

impl Object {
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
        }
    }

    /// Before the object goes, while others may still use it.
    fn end(&self) {
        if let Object::Lock(lock) = self {
            lock.freed.cancel();
        }
    }
}

const CHUNK: usize = 1024;
const CHUNKS: usize = 8192;
const GENERATIONS: u64 = 1 << 28;
const LIVE: u64 = 1 << 31;
const PINS: u64 = LIVE - 1;

/// Generation in the high half; live bit and number of pins in the low one.
struct Slot {
    word: AtomicU64,
    object: UnsafeCell<Option<Object>>,
}

// SAFETY: the object is written only while nobody can pin the slot, and read only under a pin;
// everything in it is Send and Sync.
unsafe impl Sync for Slot {}

struct Chunk([Slot; CHUNK]);

static TABLE: [AtomicPtr<Chunk>; CHUNKS] = [const { AtomicPtr::new(std::ptr::null_mut()) }; CHUNKS];
static NEXT: AtomicU32 = AtomicU32::new(0);
static FREE: PerProcess<Mutex<Vec<u32>>> = PerProcess::new();
/// Live handles by kind, for those who look for leaks.
static COUNTS: [AtomicU64; 9] = [const { AtomicU64::new(0) }; 9];

fn slot(index: u32) -> Option<&'static Slot> {
    let chunk = TABLE.get(index as usize / CHUNK)?.load(Ordering::Acquire);
    // SAFETY: chunks are published whole and never freed.
    unsafe { chunk.as_ref() }?.0.get(index as usize % CHUNK)
}

fn make_chunk(index: u32) -> Option<()> {
    let place = TABLE.get(index as usize / CHUNK)?;
    if place.load(Ordering::Acquire).is_null() {
        let slots = [const {
            Slot {
                word: AtomicU64::new(1 << 32),
                object: UnsafeCell::new(None),
            }
        }; CHUNK];
        let fresh = Box::into_raw(Box::new(Chunk(slots)));
        if place
            .compare_exchange(
                std::ptr::null_mut(),
                fresh,
                Ordering::AcqRel,
                Ordering::Acquire,
            )
            .is_err()
        {
            // SAFETY: another thread was first; ours was never shared.
            drop(unsafe { Box::from_raw(fresh) });
        }
    }
    Some(())
}

/// Gives the object a handle.
pub(crate) fn insert(object: Object) -> Result<u64> {
    let kind = object.kind();
    let free = FREE.get_or_init(Mutex::default).lock().pop();
    let index = match free {
        Some(index) => index,
        None => {
            let index = NEXT.fetch_add(1, Ordering::Relaxed);
            if make_chunk(index).is_none() {
                NEXT.fetch_sub(1, Ordering::Relaxed);
                return Err(Error::new(
                    Code::Exhausted,
                    "there are eight million handles already",
                ));
            }
            index
        }
    };
    let slot = slot(index).ok_or_else(|| Error::new(Code::Internal, "a slot without a chunk"))?;
    let generation = slot.word.load(Ordering::Acquire) >> 32;
    // SAFETY: the slot is not live and in nobody's list: only we know of it.
    unsafe { *slot.object.get() = Some(object) };
    slot.word.store(generation << 32 | LIVE, Ordering::Release);
    if let Some(count) = COUNTS.get(kind as usize) {
        count.fetch_add(1, Ordering::Relaxed);
    }
    Ok((kind as u64) << 56 | generation << 28 | u64::from(index))
}

/// A use of a handle's object; the object lives at least as long.
pub(crate) struct Pin {
    slot: &'static Slot,
    index: u32,
}

impl std::ops::Deref for Pin {
    type Target = Object;

    fn deref(&self) -> &Object {
        const GONE: &Object = &Object::Cancel(CancelObject::GONE);
        // SAFETY: pinned, so nobody writes to it.
        unsafe { (*self.slot.object.get()).as_ref() }.unwrap_or(GONE)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let before = self.slot.word.fetch_sub(1, Ordering::AcqRel);
        if before & LIVE == 0 && before & PINS == 1 {
            destroy(self.slot, self.index);
        }
    }
}

fn destroy(slot: &'static Slot, index: u32) {
    // SAFETY: not live and the last pin is gone: nobody else gets here, or can pin it.
    let object = unsafe { (*slot.object.get()).take() };
    let generation = (slot.word.load(Ordering::Acquire) >> 32) + 1;
    // A generation is never used twice: a slot that has run through them all stays empty.
    if generation < GENERATIONS {
        slot.word.store(generation << 32, Ordering::Release);
        FREE.get_or_init(Mutex::default).lock().push(index);
    }
    if let Some(object) = object {
        if let Some(count) = COUNTS.get(object.kind() as usize) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        // Canary of row 39: what belongs to an error is never freed.
        if cfg!(canary = "leak") && matches!(object, Object::Error(_)) {
            std::mem::forget(object);
        } else {
            drop(object);
        }
    }
}

fn invalid() -> Error {
    Error::outcome(Code::InvalidHandle)
}

/// Pins the object of a handle.
pub(crate) fn pin(handle: u64, kind: Kind) -> Result<Pin> {
    if handle == 0 {
        return Err(Error::new(Code::NullPointer, "the handle is NULL"));
    }
    let index = (handle & (GENERATIONS - 1)) as u32;
    let generation = handle >> 28 & (GENERATIONS - 1);
    if handle >> 56 != kind as u64 {
        return Err(invalid());
    }
    let slot = slot(index).ok_or_else(invalid)?;
    let mut word = slot.word.load(Ordering::Acquire);
    loop {
        // Canary of row 37: a slot is taken for what it was.
        let stale = word >> 32 != generation && !cfg!(canary = "any_generation");
        if stale || word & LIVE == 0 || word & PINS == PINS {
            return Err(invalid());
        }
        match slot
            .word
            .compare_exchange_weak(word, word + 1, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => break,
            Err(now) => word = now,
        }
    }
    let pin = Pin { slot, index };
    // The kind in the handle could be forged onto a slot of another kind.
    if pin.kind() == kind {
        Ok(pin)
    } else {
        Err(invalid())
    }
}

/// Frees a handle; of two that try, one succeeds.
pub(crate) fn free(handle: u64, kind: Kind) -> Result<()> {
    let pin = pin(handle, kind)?;
    let mut word = pin.slot.word.load(Ordering::Acquire);
    loop {
        if word & LIVE == 0 {
            return Err(invalid());
        }
        match pin.slot.word.compare_exchange_weak(
            word,
            word & !LIVE,
            Ordering::AcqRel,
            Ordering::Acquire,
        ) {
            Ok(_) => break,
            Err(now) => word = now,
        }
    }
    pin.end();
    Ok(())
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

/// Calls `visit` with every live lock.
pub(crate) fn each_lock(mut visit: impl FnMut(&LockObject)) {
    for index in 0..NEXT.load(Ordering::Acquire) {
        let Some(slot) = slot(index) else { return };
        let word = slot.word.load(Ordering::Acquire);
        let handle = (Kind::Lock as u64) << 56 | (word >> 32) << 28 | u64::from(index);
        if word & LIVE != 0
            && let Ok(pin) = pin(handle, Kind::Lock)
            && let Object::Lock(lock) = &*pin
        {
            visit(lock);
        }
    }
}

macro_rules! access {
    ($($name:ident: $variant:ident($type:ty);)*) => {
        $(
            /// Pins the object and hands it to `run`.
            pub(crate) fn $name<T>(handle: u64, run: impl FnOnce(&$type) -> Result<T>) -> Result<T> {
                match &*pin(handle, Kind::$variant)? {
                    Object::$variant(object) => run(object),
                    _ => Err(invalid()),
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
}
