//! Stores made of the host's callbacks.

use crate::error::synlock_error;
use crate::guard::{Out, guard, hand_out};
use crate::handle::Object;
use crate::list::synlock_holder;
use crate::options::{read_sized, synlock_mode};
use crate::status::synlock_status;
use crate::store::{pairs, synlock_store};
use crate::text::{bytes, optional, utf8};
use std::ffi::{CString, c_char, c_void};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use synlock_core::store::custom::{Ask, Callbacks, Reply, Traits, Verb};
use synlock_core::store::{Holder, Inspection};
use synlock_core::{Code, Error, Fence, Mode, Result, Scope, Store};

/// Room for the words of a failure.
const WORDS: usize = 512;

/// What a custom store is asked about. Text lives until the callback returns.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct synlock_ask {
    /// sizeof(synlock_ask) of the library: later ones may have more fields.
    pub struct_size: usize,
    /// The lock's name, of `list` the beginning of names: `name_length`
    /// bytes, not NUL-terminated.
    pub name: *const c_char,
    /// Its length.
    pub name_length: usize,
    /// The owner: 32 hexadecimal digits, never used for two holds. Whoever
    /// knows them may release the lock. Empty where nobody's hold is meant.
    pub owner: *const c_char,
    /// Words for whoever inspects the lock, or NULL.
    pub label: *const c_char,
    /// How long the hold lasts without being lengthened, ms; 0 without a
    /// lease.
    pub ttl_ms: i64,
    /// How long the answer may take, ms; -1 leaves it to the store.
    pub time_ms: i64,
    /// A synlock_mode; of `change_mode` the new one.
    pub mode: i32,
    /// Permits to take, of
    pub permits_take: u32,
    /// so many; both 0 unless the mode is SYNLOCK_PERMITS.
    pub permits_of: u32,
    /// 1 if the caller will ask again should the lock be taken.
    pub waits: i32,
}

/// What a custom store answers besides the status that it returns. Filled
/// with what zero, NULL and -1 say below before the callback is called.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct synlock_reply {
    /// sizeof(synlock_reply) of the library.
    pub struct_size: usize,
    /// Of a grant: its fencing token, 0 for none.
    pub fencing_token: i64,
    /// Of SYNLOCK_BUSY: when the holder's lease can end, ms; -1 if unknown.
    pub until_ms: i64,
    /// Of SYNLOCK_BUSY: when to ask again, ms; -1 for the library's 50.
    pub poll_ms: i64,
    /// Of a grant: 1 if the owner before died inside.
    pub recovered: i32,
    /// 0.
    pub reserved: i32,
    /// Where to write why it failed: NUL-terminated UTF-8 of at most
    /// `words_size` bytes.
    pub words: *mut c_char,
    /// Room in `words`.
    pub words_size: usize,
    /// The library's; see `synlock_reply_add`.
    pub rows: *mut c_void,
}

/// Answers one question to a custom store: returns a synlock_status. Those
/// from 100 on are errors; SYNLOCK_UNAVAILABLE says that surely nothing was
/// done, SYNLOCK_UNCERTAIN that it may have been, and the hold is released
/// by the next call. It must not throw, nor use the lock it is asked about.
pub type synlock_callback = Option<
    unsafe extern "C" fn(
        user: *mut c_void,
        ask: *const synlock_ask,
        reply: *mut synlock_reply,
    ) -> i32,
>;

/// Called when a custom store is not used any more.
pub type synlock_destroy = Option<unsafe extern "C" fn(user: *mut c_void)>;

/// A store of one's own. Set `struct_size`; what is NULL or 0 the store
/// cannot do. Callbacks are called by threads that call the library and by no
/// other, several at once unless the program sees to it; in a forked child
/// too, but for `destroy`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct synlock_callbacks {
    /// sizeof(synlock_callbacks).
    pub struct_size: usize,
    /// The first argument of every callback.
    pub user: *mut c_void,
    /// Called once, when the last handle of the store and its locks is gone.
    pub destroy: synlock_destroy,
    /// May this owner hold the lock now: SYNLOCK_OK or SYNLOCK_BUSY, in one
    /// step. Asked again by an owner that holds it, it is a grant. Needed.
    pub attempt: synlock_callback,
    /// End the owner's hold: SYNLOCK_OK, or SYNLOCK_LOST if it has none.
    /// Needed.
    pub release: synlock_callback,
    /// Does the owner hold the lock: SYNLOCK_OK or SYNLOCK_LOST. Needed.
    pub is_held: synlock_callback,
    /// Lengthen the owner's hold to `ttl_ms` from now, never shorten it:
    /// SYNLOCK_OK or SYNLOCK_LOST. Needed for leases.
    pub extend: synlock_callback,
    /// Turn the owner's hold into one of the mode: SYNLOCK_OK, SYNLOCK_BUSY or
    /// SYNLOCK_LOST.
    pub change_mode: synlock_callback,
    /// Tell of each holder by `synlock_reply_add`: SYNLOCK_OK.
    pub inspect: synlock_callback,
    /// Tell of every holder of the names that begin so: SYNLOCK_OK.
    pub list: synlock_callback,
    /// Take the lock from whoever holds it: SYNLOCK_OK, or SYNLOCK_NOT_HELD.
    pub break_lock: synlock_callback,
    /// Can the store serve: SYNLOCK_OK.
    pub ping: synlock_callback,
    /// How far fencing tokens can be trusted to grow: "E", "H", "D"; NULL for
    /// none. See synlock_capabilities.
    pub fence: *const c_char,
    /// "process", "host" or "cluster"; NULL is "process".
    pub scope: *const c_char,
    /// 1: shared locks.
    pub shared: i32,
    /// 1: counting semaphores.
    pub permits: i32,
    /// 1: a hold ends with its owner's process. Needed without `extend`.
    pub frees_on_death: i32,
    /// 1: holds survive a restart of what keeps them.
    pub survives_restart: i32,
}

impl synlock_callbacks {
    const EMPTY: Self = synlock_callbacks {
        struct_size: size_of::<Self>(),
        user: std::ptr::null_mut(),
        destroy: None,
        attempt: None,
        release: None,
        is_held: None,
        extend: None,
        change_mode: None,
        inspect: None,
        list: None,
        break_lock: None,
        ping: None,
        fence: std::ptr::null(),
        scope: std::ptr::null(),
        shared: 0,
        permits: 0,
        frees_on_death: 0,
        survives_restart: 0,
    };

    fn of(&self, verb: Verb) -> synlock_callback {
        match verb {
            Verb::Attempt => self.attempt,
            Verb::Extend => self.extend,
            Verb::Release => self.release,
            Verb::IsHeld => self.is_held,
            Verb::ChangeMode => self.change_mode,
            Verb::Inspect => self.inspect,
            Verb::List => self.list,
            Verb::BreakLock => self.break_lock,
            Verb::Ping => self.ping,
        }
    }
}

/// The callbacks, as the core asks them.
struct Table {
    callbacks: synlock_callbacks,
    /// Whether the store was made: until then `user` is still the caller's.
    made: Arc<AtomicBool>,
}

// SAFETY: the caller of `synlock_store_custom` promises that its callbacks may be called on any thread
// that calls the library; `user` is theirs.
unsafe impl Send for Table {}
// SAFETY: as above.
unsafe impl Sync for Table {}

impl Drop for Table {
    fn drop(&mut self) {
        if let Some(destroy) = self.callbacks.destroy
            && self.made.load(Ordering::Acquire)
        {
            // SAFETY: the last use of `user`; promised by the caller.
            unsafe { destroy(self.callbacks.user) };
        }
    }
}

/// What a reply collects: holders, a row each.
#[derive(Default)]
struct Rows(Vec<Inspection>);

fn ms(time: Option<Duration>, none: i64) -> i64 {
    time.map_or(none, |time| {
        i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
    })
}

fn mode_numbers(mode: Mode) -> (i32, u32, u32) {
    match mode {
        Mode::Exclusive => (synlock_mode::SYNLOCK_EXCLUSIVE as i32, 0, 0),
        Mode::Shared => (synlock_mode::SYNLOCK_SHARED as i32, 0, 0),
        Mode::Permits { take, of } => (synlock_mode::SYNLOCK_PERMITS as i32, take, of),
    }
}

impl Callbacks for Table {
    fn abandon(&self) {
        self.made.store(false, Ordering::Release);
    }

    fn call(&self, verb: Verb, ask: &Ask<'_>) -> Result<Reply> {
        let Some(callback) = self.callbacks.of(verb) else {
            return Err(Error::unsupported(format!(
                "the store has no {}",
                verb.name()
            )));
        };
        let owner = CString::new(ask.owner.as_str()).unwrap_or_default();
        let label = ask.label.and_then(|label| CString::new(label).ok());
        let (mode, permits_take, permits_of) = mode_numbers(ask.mode);
        let asked = synlock_ask {
            struct_size: size_of::<synlock_ask>(),
            name: ask.name.as_ptr().cast(),
            name_length: ask.name.len(),
            owner: owner.as_ptr(),
            label: label
                .as_ref()
                .map_or(std::ptr::null(), |label| label.as_ptr()),
            ttl_ms: ms(ask.ttl, 0),
            time_ms: ms(ask.time, -1),
            mode,
            permits_take,
            permits_of,
            waits: ask.waits.into(),
        };
        let mut rows = Rows::default();
        let mut words = [0u8; WORDS];
        let mut reply = synlock_reply {
            struct_size: size_of::<synlock_reply>(),
            fencing_token: 0,
            until_ms: -1,
            poll_ms: -1,
            recovered: 0,
            reserved: 0,
            words: words.as_mut_ptr().cast(),
            words_size: WORDS,
            rows: (&raw mut rows).cast(),
        };
        // SAFETY: a callback of the caller's table, with structs that live until it returns.
        let status = unsafe { callback(self.callbacks.user, &raw const asked, &raw mut reply) };
        let code = Code::from_number(status).ok_or_else(|| {
            Error::new(
                Code::Protocol,
                format!(
                    "the custom store's {} answered {status}, which is no status",
                    verb.name()
                ),
            )
        })?;
        let length = words.iter().position(|byte| *byte == 0).unwrap_or(WORDS);
        let after = |ms: i64| u64::try_from(ms).ok().map(Duration::from_millis);
        Ok(Reply {
            code,
            words: String::from_utf8_lossy(words.get(..length).unwrap_or_default()).into_owned(),
            fence: u64::try_from(reply.fencing_token).ok(),
            recovered: reply.recovered != 0,
            until: after(reply.until_ms),
            poll: after(reply.poll_ms),
            locks: rows.0,
        })
    }
}

fn word<'a>(given: Option<&'a str>, what: &str, words: &[&'a str]) -> Result<usize> {
    let given = given.unwrap_or(words.first().copied().unwrap_or_default());
    words
        .iter()
        .position(|word| *word == given)
        .ok_or_else(|| Error::invalid(format!("{what} is one of {}", words.join(", "))))
}

/// A store of these callbacks; the export is the same for C.
///
/// # Errors
/// As [`Store::custom`]; `NullPointer` for a callback that is needed.
///
/// # Safety
/// `callbacks` points to a struct of the size that it says; its text is NUL-terminated, and its
/// callbacks do as the header says.
pub unsafe fn custom_store(
    name: &str,
    callbacks: *const synlock_callbacks,
    options: &[(&str, &str)],
) -> Result<Store> {
    // SAFETY: promised by the caller.
    let (store, made) = unsafe { make(name, callbacks, options) }?;
    made.store(true, Ordering::Release);
    Ok(store)
}

/// # Safety
/// As `custom_store`.
unsafe fn make(
    name: &str,
    callbacks: *const synlock_callbacks,
    options: &[(&str, &str)],
) -> Result<(Store, Arc<AtomicBool>)> {
    if callbacks.is_null() {
        return Err(Error::new(Code::NullPointer, "callbacks is NULL"));
    }
    // SAFETY: promised by the caller.
    let table = unsafe { read_sized(callbacks, synlock_callbacks::EMPTY) }?;
    for verb in [Verb::Attempt, Verb::Release, Verb::IsHeld] {
        if table.of(verb).is_none() {
            let words = format!("a custom store needs {}", verb.name());
            return Err(Error::new(Code::NullPointer, words));
        }
    }
    // SAFETY: promised by the caller.
    let (fence, scope) = unsafe {
        (
            optional(table.fence, "fence")?,
            optional(table.scope, "scope")?,
        )
    };
    let fences = [Fence::None, Fence::Ephemeral, Fence::Hybrid, Fence::Durable];
    let scopes = [Scope::Process, Scope::Host, Scope::Cluster];
    let fence = word(fence, "fence", &fences.map(Fence::class))?;
    let scope = word(scope, "scope", &scopes.map(Scope::name))?;
    let can = Traits {
        shared: table.shared != 0,
        permits: table.permits != 0,
        ttl: table.extend.is_some(),
        frees_on_death: table.frees_on_death != 0,
        change_mode: table.change_mode.is_some(),
        inspect: table.inspect.is_some(),
        list: table.list.is_some(),
        break_lock: table.break_lock.is_some(),
        ping: table.ping.is_some(),
        survives_restart: table.survives_restart != 0,
        fence: fences.get(fence).copied().unwrap_or(Fence::None),
        scope: scopes.get(scope).copied().unwrap_or(Scope::Process),
    };
    let made = Arc::new(AtomicBool::new(false));
    let callbacks = Table {
        callbacks: table,
        made: made.clone(),
    };
    Ok((
        Store::custom(name, can, Box::new(callbacks), options)?,
        made,
    ))
}

/// Makes a store of the program's own callbacks, which are copied. Its URL is
/// `custom:` and `name`: 1 to 64 letters, digits, `-`, `_` and `.`. `keys`
/// and `values` are `n` options of its locks, as in a URL.
///
/// Waiting is asking again, on the caller's thread. Nothing happens in the
/// background: a lease is never renewed (SYNLOCK_UNSUPPORTED unless a lock
/// has a TTL, or the store frees locks at death), and a dispatch queue
/// answers SYNLOCK_UNSUPPORTED.
///
/// If it fails, `destroy` is not called.
///
/// # Safety
/// `callbacks` points to a struct with its `struct_size` set, whose callbacks
/// do as said there; text is NUL-terminated, the arrays have `n` elements;
/// `store` may be written; `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_store_custom(
    name: *const c_char,
    callbacks: *const synlock_callbacks,
    keys: *const *const c_char,
    values: *const *const c_char,
    n: usize,
    store: *mut *mut synlock_store,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_store_custom", error, || {
        // SAFETY: promised by the caller.
        let out = unsafe { Out::new(store) }?;
        // SAFETY: promised by the caller.
        let (name, options) = unsafe { (utf8(name, "name")?, pairs(keys, values, n)?) };
        // SAFETY: promised by the caller.
        let (store, made) = unsafe { make(name, callbacks, &options) }?;
        hand_out(out, Object::Store(store))?;
        made.store(true, Ordering::Release);
        Ok(())
    })
}

/// In `inspect` and `list` of a custom store: tells of one holder. What its
/// fields say is that of synlock_holder: NULL, 0 and -1 where a thing is not
/// known; a NULL name is that of the question. The row and its text are
/// copied.
///
/// # Safety
/// `reply` is the callback's, `holder` points to a struct with its
/// `struct_size` set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_reply_add(
    reply: *mut synlock_reply,
    ask: *const synlock_ask,
    holder: *const synlock_holder,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_reply_add", error, || {
        if reply.is_null() || ask.is_null() || holder.is_null() {
            return Err(Error::new(
                Code::NullPointer,
                "reply, ask or holder is NULL",
            ));
        }
        // SAFETY: promised by the caller; both structs are ours.
        let (rows, ask) = unsafe { ((*reply).rows.cast::<Rows>(), *ask) };
        // SAFETY: promised by the caller.
        let given = unsafe { read_sized(holder, synlock_holder::EMPTY) }?;
        // SAFETY: promised by the caller.
        let row = unsafe { read_row(&given, &ask) }?;
        // SAFETY: the reply is that of a callback that has not returned.
        let rows = unsafe { rows.as_mut() }
            .ok_or_else(|| Error::invalid("the reply is not that of a callback"))?;
        match rows.0.last_mut().filter(|last| last.name == row.name) {
            Some(last) => last.holders.extend(row.holders),
            None => rows.0.push(row),
        }
        Ok(())
    })
}

/// # Safety
/// The text of both is as the header says.
unsafe fn read_row(given: &synlock_holder, ask: &synlock_ask) -> Result<Inspection> {
    let time = |ms: i64| u64::try_from(ms).ok().map(Duration::from_millis);
    let (name, length) = if given.name.is_null() {
        (ask.name, ask.name_length)
    } else {
        (given.name, given.name_length)
    };
    // SAFETY: promised by the caller.
    unsafe {
        let text = |text: *const c_char, what: &str| {
            optional(text, what).map(|text| text.map(str::to_owned))
        };
        let mode = match optional(given.mode, "mode")? {
            None | Some("exclusive") => "exclusive",
            Some("shared") => "shared",
            Some("permits") => "permits",
            Some(_) => return Err(Error::invalid("mode is exclusive, shared or permits")),
        };
        Ok(Inspection {
            name: bytes(name, length, "name")?.to_vec(),
            waiters: u32::try_from(given.waiters).ok(),
            holders: vec![Holder {
                brand: None,
                owner: text(given.owner, "owner")?
                    .unwrap_or_default()
                    .chars()
                    // The whole token is the right to release.
                    .take(8)
                    .collect(),
                mode,
                permits: given.permits.max(1),
                host: text(given.host, "host")?,
                pid: Some(given.pid).filter(|pid| *pid != 0),
                label: text(given.label, "label")?,
                remaining: time(given.remaining_ms),
                held: time(given.held_ms),
                fence: u64::try_from(given.fencing_token)
                    .ok()
                    .filter(|fence| *fence != 0),
            }],
        })
    }
}
