//! What inspect and list found.

use crate::error::synlock_error;
use crate::guard::{Out, guard, hand_out, number, value};
use crate::handle::{self, Kind, Object, with_list, with_store};
use crate::options::SizedOut;
use crate::status::synlock_status;
use crate::store::synlock_store;
use crate::text::{Kept, bytes, optional};
use std::ffi::c_char;
use synlock_core::store::{Holder, Inspection};
use synlock_core::{Error, Result};

/// Holders that `synlock_store_inspect` or `synlock_store_list` found. May be
/// read from several threads.
#[derive(Debug)]
pub struct synlock_list {
    _private: [u8; 0],
}

/// One holder of one lock. Set `struct_size` before the call. Text lives as
/// long as the list.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct synlock_holder {
    /// sizeof(synlock_holder).
    pub struct_size: usize,
    /// The lock's name: `name_length` bytes, not NUL-terminated.
    pub name: *const c_char,
    /// Its length.
    pub name_length: usize,
    /// First 8 digits of the owner token.
    pub owner: *const c_char,
    /// "exclusive", "shared" or "permits".
    pub mode: *const c_char,
    /// Host, or NULL if unknown.
    pub host: *const c_char,
    /// Label, or NULL.
    pub label: *const c_char,
    /// Time left of the lease, ms; -1 without a lease.
    pub remaining_ms: i64,
    /// For how long it has been held, ms; -1 if unknown.
    pub held_ms: i64,
    /// Fencing token, 0 if there is none.
    pub fencing_token: i64,
    /// How many wait for the lock; -1 if unknown.
    pub waiters: i64,
    /// Permits held.
    pub permits: u32,
    /// Process, 0 if unknown.
    pub pid: u32,
}

impl synlock_holder {
    /// Nothing known.
    pub(crate) const EMPTY: Self = synlock_holder {
        struct_size: size_of::<Self>(),
        name: std::ptr::null(),
        name_length: 0,
        owner: std::ptr::null(),
        mode: std::ptr::null(),
        host: std::ptr::null(),
        label: std::ptr::null(),
        remaining_ms: -1,
        held_ms: -1,
        fencing_token: 0,
        waiters: -1,
        permits: 0,
        pid: 0,
    };
}

#[derive(Debug)]
struct Row {
    name: Vec<u8>,
    owner: Kept,
    mode: &'static std::ffi::CStr,
    host: Kept,
    label: Kept,
    holder: Holder,
    waiters: Option<u32>,
}

#[derive(Debug)]
pub(crate) struct ListObject {
    rows: Vec<Row>,
    waiters: i64,
    cursor: Kept,
}

impl ListObject {
    pub(crate) fn new(locks: Vec<Inspection>, cursor: Option<&str>) -> Self {
        let waiters = locks
            .first()
            .and_then(|lock| lock.waiters)
            .map_or(-1, i64::from);
        let rows = locks.into_iter().flat_map(|lock| {
            let (name, waiters) = (lock.name, lock.waiters);
            lock.holders.into_iter().map(move |holder| Row {
                name: name.clone(),
                owner: Kept::new(Some(&holder.owner)),
                mode: match holder.mode {
                    "shared" => c"shared",
                    "permits" => c"permits",
                    _ => c"exclusive",
                },
                host: Kept::new(holder.host.as_deref()),
                label: Kept::new(holder.label.as_deref()),
                holder,
                waiters,
            })
        });
        ListObject {
            rows: rows.collect(),
            waiters,
            cursor: Kept::new(cursor),
        }
    }
}

fn millis(time: Option<std::time::Duration>) -> i64 {
    time.map_or(-1, crate::lock::millis)
}

/// Who holds a lock: a list of its holders, empty if it is free.
///
/// # Safety
/// `name` has `length` bytes or is NUL-terminated with SYNLOCK_NTS; `list`
/// may be written; `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_store_inspect(
    store: *const synlock_store,
    name: *const c_char,
    length: usize,
    list: *mut *mut synlock_list,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_store_inspect", error, || {
        // SAFETY: promised by the caller.
        let (out, name) = unsafe { (Out::new(list)?, bytes(name, length, "name")?) };
        with_store(number(store), |store| {
            let found = store.inspect(name)?;
            hand_out(out, Object::List(ListObject::new(vec![found], None)))
        })
    })
}

/// One page of the locks whose names begin with `prefix`. `cursor` is NULL
/// at first, then what `synlock_list_cursor` said. `limit` is about how many
/// locks a page has, 1 to 10000.
///
/// # Safety
/// As `synlock_store_inspect`; `cursor` is NULL or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_store_list(
    store: *const synlock_store,
    prefix: *const c_char,
    length: usize,
    cursor: *const c_char,
    limit: usize,
    list: *mut *mut synlock_list,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_store_list", error, || {
        // SAFETY: promised by the caller.
        let (out, prefix, cursor) = unsafe {
            (
                Out::new(list)?,
                bytes(prefix, length, "prefix")?,
                optional(cursor, "cursor")?,
            )
        };
        with_store(number(store), |store| {
            let page = store.list(prefix, cursor, limit)?;
            hand_out(
                out,
                Object::List(ListObject::new(page.locks, page.cursor.as_deref())),
            )
        })
    })
}

/// How many holders the list has; 0 for NULL.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_list_count(list: *const synlock_list) -> usize {
    value("synlock_list_count", 0, || {
        with_list(number(list), |list| Ok(list.rows.len()))
    })
}

/// How many wait for the lock that was inspected; -1 if unknown.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_list_waiters(list: *const synlock_list) -> i64 {
    value("synlock_list_waiters", -1, || {
        with_list(number(list), |list| Ok(list.waiters))
    })
}

/// Where the next page begins, or NULL at the end. Lives as long as the list.
///
/// # Safety
/// Any value is safe; the text is not used after the list was freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_list_cursor(list: *const synlock_list) -> *const c_char {
    value("synlock_list_cursor", std::ptr::null(), || {
        with_list(number(list), |list| Ok(list.cursor.as_ptr()))
    })
}

/// Writes the holder at `index`, counted from 0.
///
/// # Safety
/// `holder` points to a struct with its `struct_size` set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_list_get(
    list: *const synlock_list,
    index: usize,
    holder: *mut synlock_holder,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_list_get", error, || {
        // SAFETY: promised by the caller.
        let out = unsafe { SizedOut::new(holder) }?;
        with_list(number(list), |list| {
            let row = list
                .rows
                .get(index)
                .ok_or_else(|| Error::invalid(format!("the list has {} rows", list.rows.len())))?;
            out.set(&view(row));
            Ok(())
        })
    })
}

fn view(row: &Row) -> synlock_holder {
    synlock_holder {
        struct_size: 0,
        name: row.name.as_ptr().cast(),
        name_length: row.name.len(),
        owner: row.owner.as_ptr(),
        mode: row.mode.as_ptr(),
        host: row.host.as_ptr(),
        label: row.label.as_ptr(),
        remaining_ms: millis(row.holder.remaining),
        held_ms: millis(row.holder.held),
        fencing_token: row
            .holder
            .fence
            .and_then(|fence| i64::try_from(fence).ok())
            .unwrap_or(0),
        waiters: row.waiters.map_or(-1, i64::from),
        permits: row.holder.permits,
        pid: row.holder.pid.unwrap_or(0),
    }
}

/// Frees the list. NULL does nothing.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_list_free(list: *mut synlock_list) {
    value("synlock_list_free", (), || -> Result<()> {
        handle::free(number(list), Kind::List)
    });
}
