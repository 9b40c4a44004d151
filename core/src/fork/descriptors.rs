//! The list of descriptors that a child must not keep; no lock, so that a handler may walk it.

use super::sync::{AtomicI32, AtomicPtr, CHUNK, Ordering};
use std::os::fd::RawFd;

/// Some places, -1 where empty, and where there are more.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) fds: [AtomicI32; CHUNK],
    pub(super) next: AtomicPtr<Chunk>,
}

impl Chunk {
    fn more() -> Self {
        Chunk {
            fds: std::array::from_fn(|_| AtomicI32::new(-1)),
            next: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        std::iter::successors(Some(self), |chunk| {
            let next = chunk.next.load(Ordering::Acquire);
            // SAFETY: chunks are leaked on creation and never freed.
            unsafe { next.as_ref() }
        })
    }

    /// Empties the list.
    pub(super) fn take_all(&self, mut taken: impl FnMut(RawFd)) {
        for place in self.chunks().flat_map(|chunk| &chunk.fds) {
            let fd = place.swap(-1, Ordering::AcqRel);
            if fd >= 0 {
                taken(fd);
            }
        }
    }

    pub(super) fn register(&self, fd: RawFd) {
        let mut chunk = self;
        loop {
            for place in &chunk.fds {
                if place.load(Ordering::Relaxed) == -1
                    && place
                        .compare_exchange(-1, fd, Ordering::AcqRel, Ordering::Relaxed)
                        .is_ok()
                {
                    return;
                }
            }
            chunk = chunk.next_one();
        }
    }

    /// The chunk after this one, which is appended if need be.
    fn next_one(&self) -> &Chunk {
        if self.next.load(Ordering::Acquire).is_null() {
            let fresh = Box::into_raw(Box::new(Chunk::more()));
            let appended = self.next.compare_exchange(
                std::ptr::null_mut(),
                fresh,
                Ordering::AcqRel,
                Ordering::Acquire,
            );
            if appended.is_err() {
                // SAFETY: somebody else appended first; ours was never shared.
                drop(unsafe { Box::from_raw(fresh) });
            }
        }
        // SAFETY: not null any more; chunks are leaked on creation and never freed.
        unsafe { &*self.next.load(Ordering::Acquire) }
    }

    pub(super) fn unregister(&self, fd: RawFd) {
        for place in self.chunks().flat_map(|chunk| &chunk.fds) {
            if place.load(Ordering::Relaxed) == fd
                && place
                    .compare_exchange(fd, -1, Ordering::AcqRel, Ordering::Relaxed)
                    .is_ok()
            {
                return;
            }
        }
    }
}
