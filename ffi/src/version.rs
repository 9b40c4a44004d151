//! Versions, names of statuses, and what hosts ask of the library as a whole.

use crate::guard::value;
use crate::handle;
use std::ffi::{CStr, CString, c_char};
use synlock_core::Code;
use synlock_core::fork::PerProcess;

/// The number that every binding compares at load; it changes when the ABI
/// does so incompatibly.
#[unsafe(no_mangle)]
pub extern "C" fn synlock_abi_version() -> u32 {
    value("synlock_abi_version", 0, || Ok(0))
}

/// Major * 1000000 + minor * 1000 + patch of the library that is loaded.
#[unsafe(no_mangle)]
pub extern "C" fn synlock_version_number() -> u32 {
    value("synlock_version_number", 0, || {
        let part = |text: &str| text.parse::<u32>().unwrap_or(0);
        let (major, minor, patch) = (
            env!("CARGO_PKG_VERSION_MAJOR"),
            env!("CARGO_PKG_VERSION_MINOR"),
            env!("CARGO_PKG_VERSION_PATCH"),
        );
        Ok(part(major) * 1_000_000 + part(minor) * 1000 + part(patch))
    })
}

/// Version of the library that is loaded, such as "0.1.0"; a static string.
#[unsafe(no_mangle)]
pub extern "C" fn synlock_version_string() -> *const c_char {
    value("synlock_version_string", c"".as_ptr(), || {
        Ok(concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast())
    })
}

/// What this build is: version, stores, profile; a static string.
#[unsafe(no_mangle)]
pub extern "C" fn synlock_build_info() -> *const c_char {
    static INFO: PerProcess<CString> = PerProcess::new();
    let info = || {
        let stores = synlock_core::registry::stores();
        let has = stores
            .iter()
            .filter(|(_, built)| *built)
            .map(|(name, _)| *name)
            .collect::<Vec<_>>()
            .join(",");
        let profile = if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        };
        CString::new(format!(
            "synlock {} stores={has} profile={profile}",
            env!("CARGO_PKG_VERSION")
        ))
        .unwrap_or_default()
    };
    value("synlock_build_info", c"".as_ptr(), || {
        Ok(INFO.get_or_init(info).as_ptr())
    })
}

struct Words {
    number: i32,
    name: CString,
    text: CString,
    class: CString,
}

// Not by `LazyLock`: whoever forked while another thread made it would have a child that waits for it.
static WORDS: PerProcess<Vec<Words>> = PerProcess::new();

fn all_words() -> Vec<Words> {
    let c = |text: &str| CString::new(text).unwrap_or_default();
    let words = |code: &Code| Words {
        number: code.number(),
        name: c(code.name()),
        text: c(code.text()),
        class: c(code.class()),
    };
    Code::ALL.iter().map(words).collect()
}

fn words(number: i32) -> Option<&'static Words> {
    WORDS
        .get_or_init(all_words)
        .iter()
        .find(|words| words.number == number)
}

pub(crate) fn name_of(number: i32) -> &'static CStr {
    words(number).map_or(c"UNKNOWN", |words| words.name.as_c_str())
}

/// Name of a status without its prefix, such as "TIMEOUT"; "UNKNOWN" for a
/// number that is none. A static string.
#[unsafe(no_mangle)]
pub extern "C" fn synlock_status_name(status: i32) -> *const c_char {
    value("synlock_status_name", c"UNKNOWN".as_ptr(), || {
        Ok(name_of(status).as_ptr())
    })
}

/// One line about a status for people; a static string.
#[unsafe(no_mangle)]
pub extern "C" fn synlock_status_text(status: i32) -> *const c_char {
    value("synlock_status_text", c"".as_ptr(), || {
        Ok(words(status).map_or(c"unknown status".as_ptr(), |words| words.text.as_ptr()))
    })
}

/// Name of the exception class that languages raise for a status; empty for
/// SYNLOCK_OK. A static string.
#[unsafe(no_mangle)]
pub extern "C" fn synlock_status_class(status: i32) -> *const c_char {
    value("synlock_status_class", c"".as_ptr(), || {
        Ok(words(status).map_or(c"SynlockError".as_ptr(), |words| words.class.as_ptr()))
    })
}

/// How many handles live: of every kind (0), stores (1), locks (2), cancels
/// (3), scopes (4), dispatch queues (5), event queues (6), errors (7), lists
/// (8), sessions (9), guards (10), managers (11), sets (12). For tests that
/// look for leaks.
#[unsafe(no_mangle)]
pub extern "C" fn synlock_debug_live(kind: u8) -> u64 {
    value("synlock_debug_live", 0, || Ok(handle::live(kind)))
}

/// Releases what live lock and manager handles hold, but for those whose
/// auto-release is off, and what sessions hold that are not persistent, and
/// tells events of each. For hosts that end without
/// freeing their handles; call it once, from the process that made them.
#[unsafe(no_mangle)]
pub extern "C" fn synlock_process_end() {
    value("synlock_process_end", (), || {
        handle::end_all();
        synlock_core::session::end_with_process();
        synlock_core::collect_releases();
        Ok(())
    });
}
