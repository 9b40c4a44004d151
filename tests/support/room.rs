//! File systems of a size that a program wants, for itself alone.
//!
//! Needs the right to mount: root, or user namespaces that everybody may make.

use crate::process::{exit_status, fork, wait};
use crate::torture::Verdict;
use std::ffi::CStr;
use std::path::Path;

/// Runs `case` in a process of its own, whose limits and mounts are nobody else's; 0 is well.
pub fn alone(verdict: &mut Verdict, what: &str, case: impl FnOnce() -> i32) {
    let status = exit_status(wait(fork(case)));
    verdict.claim(status == 0, what, status);
}

/// A file system of this size, which goes with the process.
pub fn mount(folder: &Path, size: u64, more: libc::c_ulong) {
    let folder = std::ffi::CString::new(folder.to_str().unwrap()).unwrap();
    let options = std::ffi::CString::new(format!("size={size},mode=700")).unwrap();
    let kind: &CStr = c"tmpfs";
    // SAFETY: strings that end and outlive the call.
    let done = unsafe {
        libc::mount(
            kind.as_ptr(),
            folder.as_ptr(),
            kind.as_ptr(),
            more,
            options.as_ptr().cast(),
        )
    };
    assert!(done == 0, "no mount: {}", std::io::Error::last_os_error());
}

/// As `mount`, in a mount namespace of this process, which has one thread.
pub fn mount_apart(folder: &Path, size: u64) {
    // SAFETY: moves this process, which has one thread.
    let apart = |flags| unsafe { libc::unshare(flags) } == 0;
    assert!(
        apart(libc::CLONE_NEWNS) || apart(libc::CLONE_NEWUSER | libc::CLONE_NEWNS),
        "no mounts of one's own"
    );
    let everywhere = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: as above.
    unsafe {
        libc::mount(
            std::ptr::null(),
            c"/".as_ptr(),
            std::ptr::null(),
            everywhere,
            std::ptr::null(),
        )
    };
    mount(folder, size, 0);
}
