//! Texts for resources that check fencing tokens.

use crate::error::synlock_error;
use crate::guard::{guard, value};
use crate::status::synlock_status;
use crate::text::{copy_out, optional, utf8};
use std::ffi::{CString, c_char};
use synlock_core::fencing::{self, COLUMN, Engine, TABLE};
use synlock_core::fork::PerProcess;

/// Copies statements, an empty line between each two, that make the table
/// of fencing tokens in a database and the trigger that refuses to lower
/// one; run again, they change nothing (MySQL before 8.0.29 says then that
/// it has the trigger). `engine` is "sqlite", "postgres" or "mysql"; `table`
/// is NULL for "synlock_fence". The program runs them on a connection of its
/// own, one by one. For the buffer see `synlock_store_url`; 2048 bytes are
/// enough.
///
/// # Safety
/// Text is NULL or NUL-terminated; otherwise as `synlock_store_url`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_fencing_ddl(
    engine: *const c_char,
    table: *const c_char,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_fencing_ddl", error, || {
        // SAFETY: promised by the caller.
        unsafe {
            let engine = Engine::read(utf8(engine, "engine")?)?;
            let table = optional(table, "table")?.unwrap_or(TABLE);
            let text = fencing::ddl(engine, table)?.join("\n\n");
            copy_out(&text, buffer, capacity, length)
        }
    })
}

/// As `synlock_fencing_ddl`, for a table of the program's own: no update of
/// a row lowers the token in `column` (NULL for "token") or takes it away.
/// On PostgreSQL the table and the column have at most 56 letters together.
///
/// # Safety
/// As `synlock_fencing_ddl`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_fencing_trigger(
    engine: *const c_char,
    table: *const c_char,
    column: *const c_char,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_fencing_trigger", error, || {
        // SAFETY: promised by the caller.
        unsafe {
            let engine = Engine::read(utf8(engine, "engine")?)?;
            let column = optional(column, "column")?.unwrap_or(COLUMN);
            let text = fencing::trigger(engine, utf8(table, "table")?, column)?.join("\n\n");
            copy_out(&text, buffer, capacity, length)
        }
    })
}

/// Copies the statement to run first in each transaction that writes under
/// the lock, with the lock's name and its fencing token as parameters (`?`;
/// `$1` and `$2` on PostgreSQL). A token lower than one before it makes the
/// database answer with an error that contains "stale fencing token", and
/// the transaction must be rolled back. The name must be text, on MySQL of at
/// most 512 bytes: give a hash of others. As `synlock_fencing_ddl`.
///
/// # Safety
/// As `synlock_fencing_ddl`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn synlock_fencing_statement(
    engine: *const c_char,
    table: *const c_char,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
    error: *mut *mut synlock_error,
) -> synlock_status {
    guard("synlock_fencing_statement", error, || {
        // SAFETY: promised by the caller.
        unsafe {
            let engine = Engine::read(utf8(engine, "engine")?)?;
            let table = optional(table, "table")?.unwrap_or(TABLE);
            copy_out(
                &fencing::statement(engine, table)?,
                buffer,
                capacity,
                length,
            )
        }
    })
}

/// A script for EVAL that makes Redis run a command unless the fencing token
/// is stale; a static string. KEYS: the key that keeps the highest token,
/// then every key of the command. ARGV: the token, then the command and its
/// arguments. The refusal is an error that begins with "STALE".
#[unsafe(no_mangle)]
pub extern "C" fn synlock_fencing_redis() -> *const c_char {
    static SCRIPT: PerProcess<CString> = PerProcess::new();
    let script = || CString::new(fencing::REDIS).unwrap_or_default();
    value("synlock_fencing_redis", c"".as_ptr(), || {
        Ok(SCRIPT.get_or_init(script).as_ptr())
    })
}
