//! Text and bytes that cross the boundary.

use std::ffi::{CStr, c_char};
use synlock_core::{Code, Error, Result};

/// Length that stands for NUL-terminated text.
pub(crate) const NTS: usize = usize::MAX;
/// The longest text read up to its NUL.
const LONGEST: usize = 1 << 20;

/// NUL-terminated UTF-8.
///
/// # Safety
/// `text` is NULL or points to NUL-terminated bytes that stay as they are for `'a`.
pub(crate) unsafe fn utf8<'a>(text: *const c_char, what: &str) -> Result<&'a str> {
    if text.is_null() {
        return Err(Error::new(Code::NullPointer, format!("{what} is NULL")));
    }
    // SAFETY: promised by the caller.
    let bytes = unsafe { CStr::from_ptr(text) };
    bytes
        .to_str()
        .map_err(|_| Error::invalid(format!("{what} is not UTF-8")))
}

/// Text that may be left out.
///
/// # Safety
/// As `utf8`.
pub(crate) unsafe fn optional<'a>(text: *const c_char, what: &str) -> Result<Option<&'a str>> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: promised by the caller.
    unsafe { utf8(text, what) }.map(Some)
}

/// Bytes with a length, or NUL-terminated if it is `SYNLOCK_NTS`.
///
/// # Safety
/// `bytes` is NULL or points to that many bytes, which stay as they are for `'a`.
pub(crate) unsafe fn bytes<'a>(
    bytes: *const c_char,
    length: usize,
    what: &str,
) -> Result<&'a [u8]> {
    if bytes.is_null() {
        return Err(Error::new(Code::NullPointer, format!("{what} is NULL")));
    }
    if length == NTS {
        // SAFETY: promised by the caller.
        return Ok(unsafe { CStr::from_ptr(bytes) }.to_bytes());
    }
    if length > LONGEST {
        return Err(Error::invalid(format!("{what} has {length} bytes")));
    }
    // SAFETY: promised by the caller; the length was checked against the address space.
    Ok(unsafe { std::slice::from_raw_parts(bytes.cast(), length) })
}

/// Copies text with a NUL into the caller's buffer; `length` gets the length without it, whether
/// it fitted or not.
///
/// # Safety
/// `buffer` is NULL or has room for `capacity` bytes; `length` is NULL or may be written.
pub(crate) unsafe fn copy_out(
    text: &str,
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> Result<()> {
    // SAFETY: promised by the caller.
    unsafe { copy_bytes(text.as_bytes(), buffer, capacity, length) }
}

/// As `copy_out`, for bytes of any value.
///
/// # Safety
/// As `copy_out`.
pub(crate) unsafe fn copy_bytes(
    text: &[u8],
    buffer: *mut c_char,
    capacity: usize,
    length: *mut usize,
) -> Result<()> {
    if !length.is_null() {
        // SAFETY: promised by the caller.
        unsafe { length.write(text.len()) };
    }
    if buffer.is_null() {
        return if length.is_null() {
            Err(Error::new(Code::NullPointer, "buffer and length are NULL"))
        } else {
            Ok(())
        };
    }
    if capacity <= text.len() {
        return Err(Error::invalid(format!(
            "the buffer has {capacity} bytes, {} are needed",
            text.len() + 1
        )));
    }
    // SAFETY: the buffer has room for the text and its NUL.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), buffer, text.len());
        buffer.add(text.len()).write(0);
    }
    Ok(())
}

/// Text that C reads for as long as its object lives; NULs inside become spaces.
#[derive(Debug, Default)]
pub(crate) struct Kept(Option<std::ffi::CString>);

impl Kept {
    pub(crate) fn new(text: Option<&str>) -> Self {
        Kept(text.and_then(|text| std::ffi::CString::new(text.replace('\0', " ")).ok()))
    }

    /// NULL if there is none.
    pub(crate) fn as_ptr(&self) -> *const c_char {
        self.0
            .as_ref()
            .map_or(std::ptr::null(), |text| text.as_ptr())
    }
}
