//! Structs that the caller fills. Each starts with its size, so that old programs and new libraries
//! understand each other: what a shorter struct lacks is default, what a longer one has beyond ours
//! must be zero.

use crate::scope::synlock_scope;
use crate::text;
use std::ffi::c_char;
use std::time::Duration;
use synlock_core::{Code, Error, LockOptions, Mode, Reentry, Result, Wait};

/// In which way a lock is held.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum synlock_mode {
    /// One holder; the default.
    SYNLOCK_EXCLUSIVE = 0,
    /// Any number of shared holders.
    SYNLOCK_SHARED = 1,
    /// `permits_take` of `permits_of` permits of a counting semaphore.
    SYNLOCK_PERMITS = 2,
}

/// A switch in an options struct; 0 is the default that the field names.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum synlock_switch {
    /// The default.
    SYNLOCK_DEFAULT = 0,
    /// On.
    SYNLOCK_ON = 1,
    /// Off.
    SYNLOCK_OFF = -1,
}

/// What asking again for a name that this process holds means.
#[repr(i32)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum synlock_reentry {
    /// The store's default, which is SYNLOCK_INDEPENDENT.
    SYNLOCK_REENTRY_DEFAULT = 0,
    /// Two handles are two owners.
    SYNLOCK_INDEPENDENT = 1,
    /// SYNLOCK_REENTERED.
    SYNLOCK_REFUSE = 2,
    /// The handles share the hold, whose lease is renewed. The first release ends the hold for all of them.
    /// SYNLOCK_REENTERED for one that wants more than is held: exclusive of a shared hold, more permits.
    SYNLOCK_EXTEND = 3,
}

/// Options of a lock. Set `struct_size` (or use SYNLOCK_LOCK_OPTIONS_INIT or
/// `synlock_lock_options_init`); zero means default for every other field.
/// Defaults come from the store's URL, then from the library.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct synlock_lock_options {
    /// sizeof(synlock_lock_options).
    pub struct_size: usize,
    /// Lease in ms, 1 to ten years; 0: held until released or the owner dies
    /// (a renewed 30 s lease on stores that do not see that). Narrower on some
    /// stores (SYNLOCK_INVALID_ARGUMENT): memcached 1 s to 30 days, etcd from
    /// 1 s, a quorum up to its `max_ttl` (60 s), Symfony's and Laravel's tables
    /// from 1 s.
    pub ttl_ms: i64,
    /// How long `synlock_lock_acquire` waits with SYNLOCK_USE_OPTION: ms,
    /// SYNLOCK_OPT_TRY (-2), SYNLOCK_FOREVER (-1); 0: for ever.
    pub timeout_ms: i64,
    /// A synlock_mode.
    pub mode: i32,
    /// Permits to take at once; 0 means 1.
    pub permits_take: u32,
    /// Permits that there are; needed with SYNLOCK_PERMITS.
    pub permits_of: u32,
    /// Keep the lease alive until release; a synlock_switch, by default only
    /// if `ttl_ms` is 0.
    pub renew: i32,
    /// Release when the handle is freed; a synlock_switch, by default on.
    pub auto_release: i32,
    /// First come, first served; a synlock_switch, by default on.
    pub fair: i32,
    /// Refuse whatever the store cannot promise; a synlock_switch.
    pub strict: i32,
    /// A synlock_reentry.
    pub reentry: i32,
    /// Come back with SYNLOCK_INTERRUPTED on a signal and every 200 ms; a
    /// synlock_switch, by default off.
    pub interruptible: i32,
    /// Must be 0.
    pub reserved: i32,
    /// Words for whoever inspects the lock, at most 255 bytes; or NULL.
    pub label: *const c_char,
    /// Scope that the handle ends with; or NULL.
    pub scope: *mut synlock_scope,
    /// Where the program makes the lock, for its events: SYNLOCK_HERE; or
    /// NULL.
    pub caller: *const c_char,
}

impl synlock_lock_options {
    pub(crate) const EMPTY: Self = synlock_lock_options {
        struct_size: size_of::<Self>(),
        ttl_ms: 0,
        timeout_ms: 0,
        mode: 0,
        permits_take: 0,
        permits_of: 0,
        renew: 0,
        auto_release: 0,
        fair: 0,
        strict: 0,
        reentry: 0,
        interruptible: 0,
        reserved: 0,
        label: std::ptr::null(),
        scope: std::ptr::null_mut(),
        caller: std::ptr::null(),
    };
}

/// Reads a struct of the caller's size into one of ours.
///
/// # Safety
/// `given` is NULL or points to `*given` bytes, of which the first eight say how many there are.
pub(crate) unsafe fn read_sized<T: Copy>(given: *const T, empty: T) -> Result<T> {
    if given.is_null() {
        return Ok(empty);
    }
    // SAFETY: every version of the struct starts with its size.
    let size = unsafe { given.cast::<usize>().read_unaligned() };
    if !(size_of::<usize>()..=4096).contains(&size) {
        return Err(Error::invalid(format!("struct_size is {size}")));
    }
    // SAFETY: the caller's struct has `size` bytes.
    let bytes = unsafe { std::slice::from_raw_parts(given.cast::<u8>(), size) };
    if bytes
        .get(size_of::<T>()..)
        .is_some_and(|tail| tail.iter().any(|byte| *byte != 0))
    {
        return Err(Error::invalid(
            "the options use a field that this version of the library does not know",
        ));
    }
    let mut own = empty;
    // SAFETY: copies at most the size of `own`; every field of ours may have any bits.
    unsafe {
        std::ptr::copy_nonoverlapping(
            given.cast::<u8>(),
            (&raw mut own).cast::<u8>(),
            size.min(size_of::<T>()),
        )
    };
    Ok(own)
}

/// A struct of the caller that results are written to.
pub(crate) struct SizedOut<T> {
    to: *mut T,
    size: usize,
}

impl<T: Copy> SizedOut<T> {
    /// Checks it; before anything is done, since a call that fails must not have acted.
    ///
    /// # Safety
    /// `to` is NULL or points to a struct whose first field says how many bytes it has, until the
    /// export returns.
    pub(crate) unsafe fn new(to: *mut T) -> Result<Self> {
        // SAFETY: promised by the caller.
        unsafe { Self::optional(to) }?
            .ok_or_else(|| Error::new(Code::NullPointer, "an output pointer is NULL"))
    }

    /// As `new`; NULL is none.
    ///
    /// # Safety
    /// As `new`.
    pub(crate) unsafe fn optional(to: *mut T) -> Result<Option<Self>> {
        if to.is_null() {
            return Ok(None);
        }
        // SAFETY: every version of the struct starts with its size.
        let size = unsafe { to.cast::<usize>().read_unaligned() };
        if !(size_of::<usize>()..=4096).contains(&size) {
            return Err(Error::invalid(format!("struct_size is {size}")));
        }
        Ok(Some(SizedOut { to, size }))
    }

    /// Writes as much as the caller has room for.
    pub(crate) fn set(self, own: &T) {
        let skip = size_of::<usize>();
        let count = self.size.min(size_of::<T>()).saturating_sub(skip);
        // SAFETY: stays within both structs; the size field is left as the caller set it.
        unsafe {
            std::ptr::copy_nonoverlapping(
                (&raw const *own).cast::<u8>().add(skip),
                self.to.cast::<u8>().add(skip),
                count,
            )
        };
    }
}

pub(crate) fn switch(value: i32, what: &str) -> Result<Option<bool>> {
    match value {
        0 => Ok(None),
        1 => Ok(Some(true)),
        -1 => Ok(Some(false)),
        _ => Err(Error::invalid(format!("{what} is neither 0, 1 nor -1"))),
    }
}

/// The core's options from C's.
///
/// # Safety
/// As `read_sized`; `label` and `caller` are NULL or NUL-terminated.
pub(crate) unsafe fn lock_options(
    given: *const synlock_lock_options,
    defaults: &LockOptions,
) -> Result<(LockOptions, u64)> {
    // SAFETY: promised by the caller.
    let given = unsafe { read_sized(given, synlock_lock_options::EMPTY) }?;
    let mut options = defaults.clone();
    if given.ttl_ms != 0 {
        let ttl = u64::try_from(given.ttl_ms).map_err(|_| Error::invalid("ttl_ms is negative"))?;
        options.ttl = Some(Duration::from_millis(ttl));
    }
    match given.timeout_ms {
        0 => {}
        -2 => options.timeout = Some(Wait::No),
        -1 => options.timeout = Some(Wait::Forever),
        ms if ms > 0 => options.timeout = Some(Wait::from_millis(ms)),
        _ => return Err(Error::invalid("timeout_ms is negative")),
    }
    options.mode = match (given.mode, given.permits_take, given.permits_of) {
        (0, 0, 0) => options.mode,
        (1, 0, 0) => Mode::Shared,
        (2, take, of) => Mode::Permits {
            take: take.max(1),
            of,
        },
        (0 | 1, ..) => {
            return Err(Error::invalid(
                "permits are given, but mode is not SYNLOCK_PERMITS",
            ));
        }
        _ => return Err(Error::invalid("mode is no synlock_mode")),
    };
    options.renew = switch(given.renew, "renew")?.or(options.renew);
    options.auto_release =
        switch(given.auto_release, "auto_release")?.unwrap_or(options.auto_release);
    options.fair = switch(given.fair, "fair")?.unwrap_or(options.fair);
    options.strict = switch(given.strict, "strict")?.unwrap_or(options.strict);
    options.interruptible =
        switch(given.interruptible, "interruptible")?.unwrap_or(options.interruptible);
    options.reentry = match given.reentry {
        0 => options.reentry,
        1 => Reentry::Independent,
        2 => Reentry::Error,
        3 => Reentry::Extend,
        _ => return Err(Error::invalid("reentry is no synlock_reentry")),
    };
    if given.reserved != 0 {
        return Err(Error::invalid("reserved is not 0"));
    }
    // SAFETY: promised by the caller.
    if let Some(label) = unsafe { text::optional(given.label, "label") }? {
        options.label = Some(label.into());
    }
    // SAFETY: promised by the caller.
    if let Some(place) = unsafe { text::optional(given.caller, "caller") }? {
        options.caller = Some(place.into());
    }
    Ok((options, given.scope.addr() as u64))
}

/// Sets every field to its default and `struct_size` to the size that the
/// caller was compiled with, `size`.
///
/// # Safety
/// `options` is NULL or has room for `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_lock_options_init(
    options: *mut synlock_lock_options,
    size: usize,
) {
    crate::guard::value("synlock_lock_options_init", (), || {
        if !options.is_null() && (size_of::<usize>()..=4096).contains(&size) {
            // SAFETY: the caller's struct has `size` bytes.
            unsafe {
                std::ptr::write_bytes(options.cast::<u8>(), 0, size);
                options.cast::<usize>().write_unaligned(size);
            }
        }
        Ok(())
    });
}
