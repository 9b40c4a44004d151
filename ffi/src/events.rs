//! A bounded queue of what happens to the locks of a store.

use crate::error::synlock_error;
use crate::guard::{Out, guard, hand_out, number, value};
use crate::handle::{self, Kind, Object, with_events, with_store};
use crate::options::SizedOut;
use crate::status::{status, synlock_status};
use crate::store::synlock_store;
use crate::text::Kept;
use std::collections::VecDeque;
use std::ffi::{c_char, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use synlock_core::event::Event;
use synlock_core::fork::PerProcess;
use synlock_core::signal::Signal;
use synlock_core::sync::Mutex;
use synlock_core::{Code, Error, Store};

/// A queue of events with a descriptor to poll. Usable from one thread at a
/// time. The host is called back by synlock_events_each alone.
#[derive(Debug)]
pub struct synlock_events {
    _private: [u8; 0],
}

/// What happened.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum synlock_event_kind {
    /// A lock was acquired.
    SYNLOCK_EVENT_ACQUIRED = 1,
    /// An acquire found the lock taken and begins to wait.
    SYNLOCK_EVENT_WAITING = 2,
    /// An acquire ended without the lock.
    SYNLOCK_EVENT_REFUSED = 3,
    /// A lock was released by its holder.
    SYNLOCK_EVENT_RELEASED = 4,
    /// A lease was lengthened.
    SYNLOCK_EVENT_REFRESHED = 5,
    /// A held lock was lost.
    SYNLOCK_EVENT_LOST = 6,
    /// A handle was freed, or the process ended, while it held the lock.
    SYNLOCK_EVENT_FORGOTTEN = 7,
    /// A caution about the store or the way it is used.
    SYNLOCK_EVENT_WARNING = 8,
}

/// One event. Set `struct_size` before the call. Text lives until the next
/// call of `synlock_events_next` or `synlock_events_free`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct synlock_event {
    /// sizeof(synlock_event).
    pub struct_size: usize,
    /// A synlock_event_kind.
    pub kind: i32,
    /// The synlock_status that goes with it.
    pub status: i32,
    /// "debug", "info", "notice", "warning" or "error".
    pub level: *const c_char,
    /// The store's URL without credentials.
    pub store: *const c_char,
    /// The lock's name: `name_length` bytes, not NUL-terminated.
    pub name: *const c_char,
    /// Its length.
    pub name_length: usize,
    /// First 8 digits of the owner token.
    pub owner: *const c_char,
    /// Label of the lock, or NULL.
    pub label: *const c_char,
    /// Words for people.
    pub message: *const c_char,
    /// How long the acquire waited, ms.
    pub waited_ms: i64,
    /// How long the lock was held, ms.
    pub held_ms: i64,
    /// How often the store was asked.
    pub attempts: u32,
    /// The process.
    pub pid: u32,
    /// `caller` of the lock's options, or NULL.
    pub caller: *const c_char,
    /// The typed key that a manager made the name from, as JSON; or NULL.
    pub key: *const c_char,
    /// What was being done: "acquire", "release", "refresh", "hold" or "end".
    pub operation: *const c_char,
    /// All of it as one line for a log.
    pub line: *const c_char,
}

/// What synlock_events_each calls: with its own `user`, and an event whose text
/// lives until the callback returns.
pub type synlock_event_callback =
    Option<unsafe extern "C" fn(user: *mut c_void, event: *const synlock_event)>;

#[derive(Debug)]
struct Shown {
    event: Event,
    store: Kept,
    owner: Kept,
    label: Kept,
    caller: Kept,
    key: Kept,
    operation: Kept,
    line: Kept,
    message: Kept,
}

#[derive(Debug)]
struct Queue {
    capacity: usize,
    inside: PerProcess<Inside>,
}

/// A child of a fork begins with none of its parent's events, and with a descriptor of its own.
#[derive(Debug, Default)]
struct Inside {
    waiting: Mutex<VecDeque<Event>>,
    dropped: AtomicU64,
    bell: Signal,
    shown: Mutex<Option<Box<Shown>>>,
}

#[derive(Debug)]
pub(crate) struct EventsObject {
    store: Store,
    observer: u64,
    queue: Arc<Queue>,
}

impl Drop for EventsObject {
    fn drop(&mut self) {
        self.store.unobserve(self.observer);
    }
}

/// Listens to the locks that are made from this store handle. Events beyond
/// `capacity` (1 to 1000000) that wait to be taken are dropped and counted. A
/// child of a fork may use the queue, which holds none of its parent's events.
///
/// # Safety
/// `events` may be written; `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_events_new(
    store: *mut synlock_store,
    capacity: usize,
    events: *mut *mut synlock_events,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_events_new", error, || {
        // SAFETY: promised by the caller.
        let out = unsafe { Out::new(events) }?;
        with_store(number(store), |store| {
            let queue = Arc::new(Queue::new(capacity)?);
            queue.inside().bell.fd()?;
            let heard = queue.clone();
            let observer = store.observe(Arc::new(move |event| heard.push(event)));
            queue.hand_out(store, observer, out)
        })
    })
}

/// As synlock_events_new, for a host that prints what nobody else would tell:
/// cautions about the store, and losses that no call returned and nothing
/// watched for. Hears nothing while somebody else listens to the store.
///
/// # Safety
/// `events` may be written; `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_events_new_warnings(
    store: *mut synlock_store,
    capacity: usize,
    events: *mut *mut synlock_events,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_events_new_warnings", error, || {
        // SAFETY: promised by the caller.
        let out = unsafe { Out::new(events) }?;
        with_store(number(store), |store| {
            // Its descriptor is made when it is asked for: a host makes one of these for each store.
            let queue = Arc::new(Queue::new(capacity)?);
            let heard = queue.clone();
            let observer = store.observe_warnings(Arc::new(move |event| heard.push(event)));
            queue.hand_out(store, observer, out)
        })
    })
}

impl Queue {
    fn new(capacity: usize) -> synlock_core::Result<Self> {
        if !(1..=1_000_000).contains(&capacity) {
            return Err(Error::invalid("the capacity is not between 1 and 1000000"));
        }
        Ok(Queue {
            capacity,
            inside: PerProcess::new(),
        })
    }

    fn inside(&self) -> &Inside {
        self.inside.get_or_init(Inside::default)
    }

    fn hand_out(
        self: Arc<Self>,
        store: &Store,
        observer: u64,
        out: Out<*mut synlock_events>,
    ) -> synlock_core::Result<()> {
        hand_out(
            out,
            Object::Events(EventsObject {
                store: store.clone(),
                observer,
                queue: self,
            }),
        )
    }

    fn push(&self, event: &Event) {
        let inside = self.inside();
        let mut waiting = inside.waiting.lock();
        if waiting.len() < self.capacity {
            waiting.push_back(event.clone());
            drop(waiting);
            inside.bell.ring();
        } else {
            inside.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn pop(&self) -> Option<Event> {
        let inside = self.inside();
        let mut waiting = inside.waiting.lock();
        let next = waiting.pop_front();
        if waiting.is_empty() && !inside.bell.take() {
            inside.bell.hush();
        }
        next
    }
}

/// A descriptor that is readable while events wait; -1 for a bad handle. It
/// belongs to the queue: poll it, do not read or close it. After a fork the
/// child asks for one of its own.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_events_fd(events: *const synlock_events) -> i32 {
    value("synlock_events_fd", -1, || {
        with_events(number(events), |events| events.queue.inside().bell.fd())
    })
}

/// Takes the oldest event; SYNLOCK_BUSY if none waits. Never blocks.
///
/// # Safety
/// `event` points to a struct with its `struct_size` set; `error` is NULL or
/// may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_events_next(
    events: *mut synlock_events,
    event: *mut synlock_event,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_events_next", error, || {
        // SAFETY: promised by the caller.
        let out = unsafe { SizedOut::new(event) }?;
        with_events(number(events), |events| {
            let next = events.queue.pop();
            let next = next.ok_or_else(|| Error::new(Code::Busy, "no event waits"))?;
            let shown = Box::new(Shown::new(next));
            let own = view(&shown);
            *events.queue.inside().shown.lock() = Some(shown);
            out.set(&own);
            Ok(())
        })
    })
}

/// Calls the callback with every event that waits, the oldest first, on the
/// thread of the caller, and returns then. What the callback itself causes waits
/// for the next call. Never blocks: poll synlock_events_fd.
///
/// # Safety
/// `callback` may be called with `user` and an event, and neither throws nor
/// jumps out; `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_events_each(
    events: *mut synlock_events,
    callback: synlock_event_callback,
    user: *mut c_void,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_events_each", error, || {
        let callback =
            callback.ok_or_else(|| Error::new(Code::NullPointer, "the callback is NULL"))?;
        with_events(number(events), |events| {
            let waiting = events.queue.inside().waiting.lock().len();
            for next in std::iter::from_fn(|| events.queue.pop()).take(waiting) {
                let shown = Shown::new(next);
                let own = synlock_event {
                    struct_size: size_of::<synlock_event>(),
                    ..view(&shown)
                };
                // SAFETY: promised by the caller; `shown` outlives the call.
                unsafe { callback(user, &raw const own) };
            }
            Ok(())
        })
    })
}

impl Shown {
    fn new(event: Event) -> Self {
        Shown {
            store: Kept::new(Some(&event.store)),
            owner: Kept::new(Some(&event.owner)),
            label: Kept::new(event.label.as_deref()),
            caller: Kept::new(event.caller.as_deref()),
            key: Kept::new(event.key.as_deref()),
            operation: Kept::new(Some(event.operation)),
            line: Kept::new(Some(&event.line())),
            message: Kept::new(Some(&event.message)),
            event,
        }
    }
}

fn view(shown: &Shown) -> synlock_event {
    let event = &shown.event;
    let millis = |time: std::time::Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    synlock_event {
        struct_size: 0,
        kind: event.kind as i32,
        status: status(event.code) as i32,
        level: match event.level {
            "debug" => c"debug",
            "notice" => c"notice",
            "warning" => c"warning",
            "error" => c"error",
            _ => c"info",
        }
        .as_ptr(),
        store: shown.store.as_ptr(),
        name: event.resource.as_ptr().cast(),
        name_length: event.resource.len(),
        owner: shown.owner.as_ptr(),
        label: shown.label.as_ptr(),
        message: shown.message.as_ptr(),
        waited_ms: millis(event.waited),
        held_ms: millis(event.held),
        attempts: event.attempts,
        pid: event.pid,
        caller: shown.caller.as_ptr(),
        key: shown.key.as_ptr(),
        operation: shown.operation.as_ptr(),
        line: shown.line.as_ptr(),
    }
}

/// How many events were dropped because the queue was full.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_events_dropped(events: *const synlock_events) -> u64 {
    value("synlock_events_dropped", 0, || {
        with_events(number(events), |events| {
            Ok(events.queue.inside().dropped.load(Ordering::Relaxed))
        })
    })
}

/// Stops listening and frees the queue. NULL does nothing.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_events_free(events: *mut synlock_events) {
    value("synlock_events_free", (), || {
        handle::free(number(events), Kind::Events)
    });
}
