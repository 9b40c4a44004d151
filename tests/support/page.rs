//! Memory that forked processes share.

use std::sync::atomic::{AtomicU64, Ordering};

/// A zeroed `T` in a mapping that children of this process share with it.
///
/// `T` must be made of atomics (or only be touched by one process at a time), and all-zero must be a
/// value of it.
#[derive(Debug)]
pub struct SharedPage<T: 'static>(&'static T);

impl<T> SharedPage<T> {
    /// Maps it. It stays mapped.
    ///
    /// # Safety
    /// All-zero bytes must be a valid `T`, and `T` must be safe to share between processes.
    pub unsafe fn new() -> Self {
        // SAFETY: a fresh anonymous mapping of the size asked for.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size_of::<T>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        assert!(address != libc::MAP_FAILED, "no shared memory");
        // SAFETY: page-aligned, large enough, zero is valid by the caller's word, never unmapped.
        SharedPage(unsafe { &*address.cast::<T>() })
    }
}

impl<T> std::ops::Deref for SharedPage<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0
    }
}

impl<T> Clone for SharedPage<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SharedPage<T> {}

/// What a lock with fencing tokens protects: it keeps the greatest token that it has seen and
/// refuses smaller ones.
#[derive(Debug, Default)]
pub struct FencedResource {
    greatest: AtomicU64,
    writer: AtomicU64,
    /// Writes that were taken.
    pub accepted: AtomicU64,
    /// Writes that came too late.
    pub refused: AtomicU64,
    /// Writes with a token that another writer had used: tokens were not unique.
    pub violations: AtomicU64,
}

impl FencedResource {
    /// Writes as `writer` (not 0) with this token; whether it was taken.
    pub fn write(&self, writer: u64, token: u64) -> bool {
        loop {
            let greatest = self.greatest.load(Ordering::SeqCst);
            if token < greatest {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return false;
            }
            if token == greatest {
                if self.writer.load(Ordering::SeqCst) != writer {
                    self.violations.fetch_add(1, Ordering::Relaxed);
                }
                break;
            }
            // The greatest token is moved with no writer beside it, so that nobody who comes
            // between the two steps takes the last one's name for this one's.
            if self
                .greatest
                .compare_exchange(greatest, token, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
            {
                self.writer.store(writer, Ordering::SeqCst);
                break;
            }
        }
        self.accepted.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// The greatest token seen.
    pub fn greatest(&self) -> u64 {
        self.greatest.load(Ordering::SeqCst)
    }
}
