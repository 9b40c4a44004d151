//! A store of C callbacks, made through the ABI: one table in memory, with leases.

use std::collections::HashMap;
use std::ffi::{CStr, CString, c_void};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use synlock::custom::{
    custom_store, synlock_ask, synlock_callbacks, synlock_reply, synlock_reply_add,
};
use synlock::list::synlock_holder;
use synlock::status::synlock_status as status;
use synlock_core::Store;
use synlock_core::fork::PerProcess;

struct Held {
    owner: String,
    label: Option<CString>,
    mode: i32,
    take: u32,
    of: u32,
    until: Option<Instant>,
    fence: i64,
}

#[derive(Default)]
struct Table {
    held: HashMap<Vec<u8>, Vec<Held>>,
    fences: i64,
}

/// A child begins with an empty one, as a process' own memory would.
static TABLE: PerProcess<Mutex<Table>> = PerProcess::new();

/// The question, with the holds of its name that have not run out.
unsafe fn with(
    ask: *const synlock_ask,
    work: impl FnOnce(&synlock_ask, &str, &mut Vec<Held>, &mut i64) -> status,
) -> i32 {
    // SAFETY: the library's structs live until the callback returns.
    let (ask, name, owner) = unsafe {
        let ask = &*ask;
        let name = std::slice::from_raw_parts(ask.name.cast::<u8>(), ask.name_length);
        (ask, name, CStr::from_ptr(ask.owner).to_str().unwrap())
    };
    let mut table = TABLE.get_or_init(Mutex::default).lock().unwrap();
    let Table { held, fences } = &mut *table;
    let holds = held.entry(name.to_vec()).or_default();
    holds.retain(|hold| hold.until.is_none_or(|until| until > Instant::now()));
    let answer = work(ask, owner, holds, fences);
    if holds.is_empty() {
        held.remove(name);
    }
    answer as i32
}

fn until(ask: &synlock_ask) -> Option<Instant> {
    let ttl = u64::try_from(ask.ttl_ms).unwrap();
    (ttl > 0).then(|| Instant::now() + Duration::from_millis(ttl))
}

/// Whether a hold of this kind fits beside the others.
fn fits<'a>(ask: &synlock_ask, mut others: impl Iterator<Item = &'a Held>) -> bool {
    match ask.mode {
        0 => others.next().is_none(),
        1 => others.all(|other| other.mode == 1),
        _ => {
            let mut taken = 0;
            others.all(|other| {
                taken += other.take;
                other.mode == 2 && other.of == ask.permits_of
            }) && taken + ask.permits_take <= ask.permits_of
        }
    }
}

unsafe extern "C" fn attempt(
    _: *mut c_void,
    ask: *const synlock_ask,
    reply: *mut synlock_reply,
) -> i32 {
    // SAFETY: as the header says.
    unsafe {
        with(ask, |ask, owner, holds, fences| {
            if holds
                .iter()
                .any(|hold| hold.mode == 2 && ask.mode == 2 && hold.of != ask.permits_of)
            {
                return status::SYNLOCK_INVALID_ARGUMENT;
            }
            if !fits(ask, holds.iter().filter(|hold| hold.owner != owner)) {
                let ends = holds.iter().map(|hold| hold.until).min().flatten();
                if let Some(end) = ends {
                    let left = end.saturating_duration_since(Instant::now()).as_millis();
                    (*reply).until_ms = i64::try_from(left).unwrap() + 1;
                }
                (*reply).poll_ms = 10;
                return status::SYNLOCK_BUSY;
            }
            if let Some(hold) = holds.iter_mut().find(|hold| hold.owner == owner) {
                hold.until = hold.until.max(until(ask));
                (*reply).fencing_token = hold.fence;
                return status::SYNLOCK_OK;
            }
            *fences += 1;
            (*reply).fencing_token = *fences;
            holds.push(Held {
                owner: owner.to_owned(),
                label: (!ask.label.is_null()).then(|| CStr::from_ptr(ask.label).to_owned()),
                mode: ask.mode,
                take: ask.permits_take,
                of: ask.permits_of,
                until: until(ask),
                fence: *fences,
            });
            status::SYNLOCK_OK
        })
    }
}

unsafe extern "C" fn release(
    _: *mut c_void,
    ask: *const synlock_ask,
    _: *mut synlock_reply,
) -> i32 {
    // SAFETY: as the header says.
    unsafe {
        with(ask, |_, owner, holds, _| {
            let before = holds.len();
            holds.retain(|hold| hold.owner != owner);
            if holds.len() < before {
                status::SYNLOCK_OK
            } else {
                status::SYNLOCK_LOST
            }
        })
    }
}

unsafe extern "C" fn extend(_: *mut c_void, ask: *const synlock_ask, _: *mut synlock_reply) -> i32 {
    // SAFETY: as the header says.
    unsafe {
        with(ask, |ask, owner, holds, _| {
            match holds.iter_mut().find(|hold| hold.owner == owner) {
                Some(hold) => {
                    hold.until = hold.until.max(until(ask));
                    status::SYNLOCK_OK
                }
                None => status::SYNLOCK_LOST,
            }
        })
    }
}

unsafe extern "C" fn is_held(
    _: *mut c_void,
    ask: *const synlock_ask,
    _: *mut synlock_reply,
) -> i32 {
    // SAFETY: as the header says.
    unsafe {
        with(ask, |_, owner, holds, _| {
            if holds.iter().any(|hold| hold.owner == owner) {
                status::SYNLOCK_OK
            } else {
                status::SYNLOCK_LOST
            }
        })
    }
}

unsafe extern "C" fn change_mode(
    _: *mut c_void,
    ask: *const synlock_ask,
    reply: *mut synlock_reply,
) -> i32 {
    // SAFETY: as the header says.
    unsafe {
        with(ask, |ask, owner, holds, _| {
            let fit = fits(ask, holds.iter().filter(|hold| hold.owner != owner));
            match holds.iter_mut().find(|hold| hold.owner == owner) {
                None => status::SYNLOCK_LOST,
                Some(_) if !fit => status::SYNLOCK_BUSY,
                Some(hold) => {
                    hold.mode = ask.mode;
                    (*reply).fencing_token = hold.fence;
                    status::SYNLOCK_OK
                }
            }
        })
    }
}

/// Tells of the holders of one name.
unsafe fn show(name: &[u8], holds: &[Held], ask: &synlock_ask, reply: *mut synlock_reply) {
    for hold in holds {
        let owner = CString::new(hold.owner.as_str()).unwrap();
        let mode = [c"exclusive", c"shared", c"permits"][usize::try_from(hold.mode).unwrap()];
        let left = hold
            .until
            .map(|end| end.saturating_duration_since(Instant::now()).as_millis());
        let row = synlock_holder {
            struct_size: size_of::<synlock_holder>(),
            name: name.as_ptr().cast(),
            name_length: name.len(),
            owner: owner.as_ptr(),
            mode: mode.as_ptr(),
            host: std::ptr::null(),
            label: hold
                .label
                .as_ref()
                .map_or(std::ptr::null(), |label| label.as_ptr()),
            remaining_ms: left.map_or(-1, |left| i64::try_from(left).unwrap()),
            held_ms: -1,
            fencing_token: hold.fence,
            waiters: -1,
            permits: hold.take,
            pid: std::process::id(),
        };
        // SAFETY: the reply and the question of this callback, and a row whose text lives.
        let added = unsafe { synlock_reply_add(reply, ask, &raw const row, std::ptr::null_mut()) };
        assert_eq!(added, status::SYNLOCK_OK);
    }
}

unsafe extern "C" fn inspect(
    _: *mut c_void,
    ask: *const synlock_ask,
    reply: *mut synlock_reply,
) -> i32 {
    // SAFETY: as the header says.
    unsafe {
        with(ask, |ask, _, holds, _| {
            let name = std::slice::from_raw_parts(ask.name.cast::<u8>(), ask.name_length);
            show(name, holds, ask, reply);
            status::SYNLOCK_OK
        })
    }
}

unsafe extern "C" fn list(
    _: *mut c_void,
    ask: *const synlock_ask,
    reply: *mut synlock_reply,
) -> i32 {
    // SAFETY: as the header says.
    unsafe {
        let prefix = std::slice::from_raw_parts((*ask).name.cast::<u8>(), (*ask).name_length);
        let table = TABLE.get_or_init(Mutex::default).lock().unwrap();
        for (name, holds) in &table.held {
            if name.starts_with(prefix) {
                show(name, holds, &*ask, reply);
            }
        }
    }
    status::SYNLOCK_OK as i32
}

unsafe extern "C" fn break_lock(
    _: *mut c_void,
    ask: *const synlock_ask,
    _: *mut synlock_reply,
) -> i32 {
    // SAFETY: as the header says.
    unsafe {
        with(ask, |_, _, holds, _| {
            if holds.drain(..).count() > 0 {
                status::SYNLOCK_OK
            } else {
                status::SYNLOCK_NOT_HELD
            }
        })
    }
}

pub fn open() -> Store {
    let callbacks = synlock_callbacks {
        struct_size: size_of::<synlock_callbacks>(),
        user: std::ptr::null_mut(),
        destroy: None,
        attempt: Some(attempt),
        release: Some(release),
        is_held: Some(is_held),
        extend: Some(extend),
        change_mode: Some(change_mode),
        inspect: Some(inspect),
        list: Some(list),
        break_lock: Some(break_lock),
        ping: None,
        fence: c"E".as_ptr(),
        scope: std::ptr::null(),
        shared: 1,
        permits: 1,
        frees_on_death: 1,
        survives_restart: 0,
    };
    // SAFETY: a whole table, whose callbacks do as the header says and may be called on any thread.
    unsafe { custom_store("behavior", &raw const callbacks, &[]) }.unwrap()
}
