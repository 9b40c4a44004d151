//! What the table of handles is made of; in `model.rs` it is made of the checker's types.

use synlock_core::fork::PerProcess;
use synlock_core::sync::Mutex;

pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

/// Slots in a chunk, and chunks in the table.
pub(crate) const CHUNK: usize = 1024;
pub(crate) const CHUNKS: usize = 8192;
/// Uses of a slot.
pub(crate) const GENERATIONS: u64 = 1 << 28;

/// A cell whose every access says whether it reads or writes.
#[derive(Debug)]
pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }

    #[inline]
    pub(crate) fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }

    #[inline]
    pub(crate) fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// Slots to use again: a child begins without.
#[derive(Debug)]
pub(crate) struct FreeList(PerProcess<Mutex<Vec<u32>>>);

impl FreeList {
    pub(crate) const fn new() -> Self {
        FreeList(PerProcess::new())
    }

    pub(crate) fn with<R>(&self, run: impl FnOnce(&mut Vec<u32>) -> R) -> R {
        run(&mut self.0.get_or_init(Mutex::default).lock())
    }
}
