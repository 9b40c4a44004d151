//! Stores.

use crate::error::synlock_error;
use crate::guard::{Out, guard, hand_out, number, value};
use crate::handle::{self, Kind, Object, with_store};
use crate::options::SizedOut;
use crate::status::synlock_status;
use crate::text::{bytes, copy_out, utf8};
use std::ffi::c_char;
use synlock_core::{Error, Result, Store, Wait};

/// Where locks are kept. Usable from any thread at once, and in a forked
/// child. Counted inside: locks keep their store, in whatever order handles
/// are freed.
#[derive(Debug)]
pub struct synlock_store {
    _private: [u8; 0],
}

/// What a store can do; 1 is yes. Set `struct_size` before the call.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct synlock_capabilities {
    /// sizeof(synlock_capabilities).
    pub struct_size: usize,
    /// Name of the store, a static string.
    pub store: *const c_char,
    /// "none", "E", "H" or "D": how far fencing tokens can be trusted to grow.
    pub fence: *const c_char,
    /// "process", "host" or "cluster".
    pub scope: *const c_char,
    /// Whose clock ends leases: "none", "process", "host" or "server".
    pub clock: *const c_char,
    /// Shared locks.
    pub shared: i32,
    /// A sole reader can become the writer.
    pub promote: i32,
    /// Counting semaphores.
    pub permits: i32,
    /// Leases in the store.
    pub ttl: i32,
    /// A hold ends with its owner's process.
    pub frees_on_death: i32,
    /// Waiters are woken.
    pub wakes: i32,
    /// First come, first served.
    pub fair: i32,
    /// Holds can be exported.
    pub can_export: i32,
    /// List; where this is 0, inspect may work all the same.
    pub list: i32,
    /// Break.
    pub break_lock: i32,
    /// Holds survive a restart of the server.
    pub survives_restart: i32,
    /// 0.
    pub reserved: i32,
}

/// A timeout where there are no options that could say another.
pub(crate) fn plain_wait(timeout_ms: i64) -> Result<Wait> {
    if timeout_ms < -1 {
        return Err(Error::invalid("the timeout is negative"));
    }
    Ok(Wait::from_millis(timeout_ms))
}

fn fixed(text: &str) -> *const c_char {
    const WORDS: &[&std::ffi::CStr] = &[
        c"custom",
        c"none",
        c"E",
        c"H",
        c"D",
        c"process",
        c"host",
        c"cluster",
        c"server",
        c"memory",
        c"shm",
        c"flock",
        c"flock-symfony",
        c"flock-file",
        c"sysv",
        c"sysv-php",
        c"sysv-symfony",
        c"redis",
        c"redis-plain",
        c"redis-symfony",
        c"redis-python-redis-lock",
        c"redis-redis-semaphore",
        c"redis-redisson",
        c"sqlite",
        c"postgres",
        c"mysql",
        c"sqlite-symfony",
        c"sqlite-drupal",
        c"sqlite-laravel",
        c"postgres-symfony",
        c"postgres-drupal",
        c"postgres-laravel",
        c"mysql-symfony",
        c"mysql-drupal",
        c"mysql-laravel",
        c"memcached",
        c"memcached-symfony",
        c"zookeeper",
        c"zookeeper-kazoo",
        c"zookeeper-curator",
        c"zookeeper-curator-rw",
        c"zookeeper-symfony",
        c"etcd",
        c"postgres+advisory",
        c"postgres+advisory-symfony",
        c"postgres+advisory-distributedlock",
        c"mysql+advisory",
        c"mysql+advisory-symfony",
        c"mysql+advisory-distributedlock",
        c"quorum",
        c"tiered",
        c"null",
    ];
    WORDS
        .iter()
        .find(|word| word.to_bytes() == text.as_bytes())
        .map_or(c"".as_ptr(), |word| word.as_ptr())
}

/// Opens a store; connects to nothing. An empty URL stands for the variable
/// SYNLOCK_URL. `keys` and `values` are `n` options that win over those of
/// the URL; both NULL if there are none.
///
/// Fails with SYNLOCK_INVALID_URL, SYNLOCK_UNKNOWN_SCHEME (the message names
/// the known ones), SYNLOCK_NOT_IN_BUILD, SYNLOCK_UNKNOWN_OPTION,
/// SYNLOCK_INVALID_ARGUMENT.
///
/// # Safety
/// Text is NUL-terminated, the arrays have `n` elements, `store` may be
/// written; `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_store_open(
    url: *const c_char,
    keys: *const *const c_char,
    values: *const *const c_char,
    n: usize,
    store: *mut *mut synlock_store,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_store_open", error, || {
        // SAFETY: promised by the caller.
        let out = unsafe { Out::new(store) }?;
        // SAFETY: promised by the caller.
        let url = unsafe { utf8(url, "url") }?;
        // SAFETY: promised by the caller.
        let options = unsafe { pairs(keys, values, n) }?;
        hand_out(out, Object::Store(Store::open_with(url, &options)?))
    })
}

/// # Safety
/// Both arrays have `n` elements of NUL-terminated text.
pub(crate) unsafe fn pairs<'a>(
    keys: *const *const c_char,
    values: *const *const c_char,
    n: usize,
) -> Result<Vec<(&'a str, &'a str)>> {
    if n == 0 {
        return Ok(Vec::new());
    }
    if keys.is_null() || values.is_null() {
        return Err(Error::new(
            synlock_core::Code::NullPointer,
            "keys or values is NULL",
        ));
    }
    if n > 1000 {
        return Err(Error::invalid("more than a thousand options"));
    }
    (0..n)
        .map(|index| {
            // SAFETY: promised by the caller.
            unsafe {
                Ok((
                    utf8(keys.add(index).read(), "a key")?,
                    utf8(values.add(index).read(), "a value")?,
                ))
            }
        })
        .collect()
}

/// Frees the handle; its locks live on. NULL does nothing.
///
/// # Safety
/// Any value is safe.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_store_free(store: *mut synlock_store) {
    value("synlock_store_free", (), || {
        handle::free(number(store), Kind::Store)
    });
}

/// Connects now, within `timeout_ms` (SYNLOCK_FOREVER: the store's own
/// limit), and says whether the store can serve.
///
/// # Safety
/// `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_store_ping(
    store: *const synlock_store,
    timeout_ms: i64,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_store_ping", error, || {
        with_store(number(store), |store| store.ping(plain_wait(timeout_ms)?))
    })
}

/// Copies the store's URL without credentials and its NUL into `buffer`;
/// `length` gets its length. A NULL buffer asks for the length alone.
///
/// # Safety
/// `buffer` has room for `capacity` bytes; `length` and `error` are NULL or
/// may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_store_url(
    store: *const synlock_store,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_store_url", error, || {
        // SAFETY: promised by the caller.
        with_store(number(store), |store| unsafe {
            copy_out(store.url(), buffer, capacity, length)
        })
    })
}

/// Copies text that is equal in every process and language that shares the
/// same locks; as `synlock_store_url`.
///
/// # Safety
/// As `synlock_store_url`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_store_fingerprint(
    store: *const synlock_store,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_store_fingerprint", error, || {
        // SAFETY: promised by the caller.
        with_store(number(store), |store| unsafe {
            copy_out(&store.fingerprint(), buffer, capacity, length)
        })
    })
}

/// Tells what the store can do.
///
/// # Safety
/// `capabilities` points to a struct with its `struct_size` set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_store_capabilities(
    store: *const synlock_store,
    capabilities: *mut synlock_capabilities,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_store_capabilities", error, || {
        // SAFETY: promised by the caller.
        let out = unsafe { SizedOut::new(capabilities) }?;
        with_store(number(store), |store| {
            let can = store.capabilities();
            let own = synlock_capabilities {
                struct_size: 0,
                store: fixed(can.store),
                fence: fixed(can.fence.class()),
                scope: fixed(can.scope.name()),
                clock: fixed(can.clock),
                shared: can.shared.into(),
                promote: can.promote.into(),
                permits: can.permits.into(),
                ttl: can.ttl.into(),
                frees_on_death: can.frees_on_death.into(),
                wakes: can.wakes.into(),
                fair: can.fair.into(),
                can_export: can.export.into(),
                list: can.list.into(),
                break_lock: can.break_lock.into(),
                survives_restart: can.survives_restart.into(),
                reserved: 0,
            };
            out.set(&own);
            Ok(())
        })
    })
}

/// Whether anybody holds the lock: writes 1 or 0.
///
/// # Safety
/// `name` has `length` bytes or is NUL-terminated with SYNLOCK_NTS; `held`
/// may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_store_is_locked(
    store: *const synlock_store,
    name: *const c_char,
    length: usize,
    held: *mut i32,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_store_is_locked", error, || {
        // SAFETY: promised by the caller.
        let (out, name) = unsafe { (Out::new(held)?, bytes(name, length, "name")?) };
        with_store(number(store), |store| {
            out.set(store.is_locked(name)?.into());
            Ok(())
        })
    })
}

/// Takes the lock from whoever holds it: `broken` (may be NULL) gets 1, or 0
/// if nobody did. The victim's next check is SYNLOCK_LOST.
///
/// # Safety
/// As `synlock_store_is_locked`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_store_break(
    store: *const synlock_store,
    name: *const c_char,
    length: usize,
    broken: *mut i32,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_store_break", error, || {
        // SAFETY: promised by the caller.
        let name = unsafe { bytes(name, length, "name") }?;
        with_store(number(store), |store| {
            let any = store.break_lock(name)?;
            if !broken.is_null() {
                // SAFETY: promised by the caller.
                unsafe { broken.write(any.into()) };
            }
            Ok(())
        })
    })
}

/// Looks for what dead users left in the store and nobody has cleared away
/// yet, and for damage; changes nothing. `findings` gets how many there are,
/// 0 if the store is sound; `buffer`, unless NULL, the first of them in words,
/// a line each, as `synlock_store_url` does: 8192 bytes are enough. The next
/// users of a store clear away what the dead left.
///
/// SYNLOCK_UNSUPPORTED where the store has no check: only `shm:` has one.
///
/// # Safety
/// `findings` may be written; otherwise as `synlock_store_url`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_store_check(
    store: *const synlock_store,
    findings: *mut u64,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_store_check", error, || {
        // SAFETY: promised by the caller.
        let out = unsafe { Out::new(findings) }?;
        with_store(number(store), |store| {
            let found = store.check()?;
            if !(buffer.is_null() && length.is_null()) {
                // SAFETY: promised by the caller.
                unsafe { copy_out(&found.to_text(), buffer, capacity, length) }?;
            }
            out.set(found.findings);
            Ok(())
        })
    })
}

/// Makes the table that a store keeps its locks in, if it is not there. Who may
/// make tables can do this beforehand; otherwise it happens when the table is
/// found to be missing.
///
/// SYNLOCK_UNSUPPORTED where the store keeps its locks in no table.
///
/// # Safety
/// `error` is NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_store_create_table(
    store: *const synlock_store,
    timeout_ms: i64,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_store_create_table", error, || {
        with_store(number(store), |store| {
            store.create_table(plain_wait(timeout_ms)?)
        })
    })
}

/// Copies the SQL that makes that table, as `synlock_store_url` does: on the
/// store's own engine, or on `engine` ("sqlite", "postgres", "mysql") if it is
/// not NULL. Asks no server.
///
/// SYNLOCK_UNSUPPORTED where the store keeps its locks in no table.
///
/// # Safety
/// `engine` is NULL or NUL-terminated text, `buffer` has `capacity` bytes;
/// `length` and `error` are NULL or may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_store_ddl(
    store: *const synlock_store,
    engine: *const c_char,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_store_ddl", error, || {
        let engine = if engine.is_null() {
            None
        } else {
            // SAFETY: promised by the caller.
            Some(unsafe { utf8(engine, "engine") }?)
        };
        with_store(number(store), |store| {
            let text = store.ddl(engine)?;
            // SAFETY: promised by the caller.
            unsafe { copy_out(&text, buffer, capacity, length) }
        })
    })
}

/// Waits until nobody holds the lock, without taking it: SYNLOCK_OK, or
/// SYNLOCK_TIMEOUT after `timeout_ms`.
///
/// # Safety
/// As `synlock_store_is_locked`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_store_wait_free(
    store: *const synlock_store,
    name: *const c_char,
    length: usize,
    timeout_ms: i64,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_store_wait_free", error, || {
        // SAFETY: promised by the caller.
        let name = unsafe { bytes(name, length, "name") }?;
        with_store(number(store), |store| {
            match store.wait_free(name, plain_wait(timeout_ms)?)? {
                true => Ok(()),
                false => Err(Error::outcome(synlock_core::Code::Timeout)),
            }
        })
    })
}

/// Copies the URL schemes that this build can open, separated by spaces; as
/// `synlock_store_url`.
///
/// # Safety
/// As `synlock_store_url`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_store_schemes(
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_store_schemes", error, || {
        // SAFETY: promised by the caller.
        unsafe {
            copy_out(
                &synlock_core::registry::schemes().join(" "),
                buffer,
                capacity,
                length,
            )
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;
    use synlock_core::registry::stores;

    /// A word that is missing from the list would reach C as an empty string.
    #[test]
    fn every_word_of_a_store_has_a_static_string() {
        const DIALECTS: &[(&str, &[&str])] = &[
            ("memory:", &[]),
            ("shm:words", &[]),
            ("flock:/tmp/synlock-words", &["symfony", "file"]),
            ("sysv:", &["php", "symfony"]),
            (
                "redis://h",
                &[
                    "plain",
                    "symfony",
                    "python-redis-lock",
                    "redis-semaphore",
                    "redisson",
                ],
            ),
            ("sqlite:/words", &["symfony", "drupal", "laravel"]),
            ("postgres://h/db", &["symfony", "drupal", "laravel"]),
            ("mysql://h/db", &["symfony", "drupal", "laravel"]),
            ("memcached://h", &["symfony"]),
            (
                "zookeeper://h",
                &["kazoo", "curator", "curator-rw", "symfony"],
            ),
            ("etcd://h", &[]),
            ("postgres+advisory://h/db", &["symfony", "distributedlock"]),
            ("mysql+advisory://h/db", &["symfony", "distributedlock"]),
            ("quorum:(memory:a,memory:b,memory:c)", &[]),
            ("tiered:(shm:words,redis://h)", &[]),
            ("null:", &[]),
        ];
        for (name, is_in) in stores() {
            let (url, dialects) = DIALECTS
                .iter()
                .find(|(url, _)| url.split(':').next() == Some(name))
                .unwrap_or_else(|| panic!("the words of {name} are not looked at"));
            if !is_in {
                continue;
            }
            let of_dialects = dialects.iter().map(|word| format!("{url}?dialect={word}"));
            for url in of_dialects.chain([(*url).to_owned()]) {
                let store = Store::open(&url).unwrap();
                let can = store.capabilities();
                for word in [can.store, can.fence.class(), can.scope.name(), can.clock] {
                    // SAFETY: a static string.
                    let text = unsafe { CStr::from_ptr(fixed(word)) };
                    assert_eq!(text.to_str(), Ok(word), "{url}");
                }
            }
        }
    }
}
