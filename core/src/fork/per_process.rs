//! Values that each process makes for itself.

use super::generation;
use super::sync::{AtomicPtr, Ordering};

/// A value that each process makes for itself on first use. After a fork the inherited one is
/// leaked: never used, never dropped.
#[derive(Debug)]
pub struct PerProcess<T: 'static> {
    pub(super) current: AtomicPtr<Made<T>>,
}

#[derive(Debug)]
pub(super) struct Made<T> {
    pub(super) generation: u64,
    pub(super) value: T,
}

impl<T: Send + Sync> PerProcess<T> {
    /// This process' value, if it has one.
    pub fn get(&self) -> Option<&T> {
        self.of_this_process(self.current.load(Ordering::Acquire))
    }

    #[inline]
    fn of_this_process(&self, made: *mut Made<T>) -> Option<&T> {
        // SAFETY: a published value is replaced only in another process and never freed before `self`.
        let made = unsafe { made.as_ref()? };
        (made.generation == generation() || cfg!(canary = "share_after_fork"))
            .then_some(&made.value)
    }

    /// This process' value, made by `make` if need be. Two threads may both make one; one is kept.
    #[inline]
    pub fn get_or_init(&self, make: impl FnOnce() -> T) -> &T {
        match self.get_or_try_init(|| Ok::<T, std::convert::Infallible>(make())) {
            Ok(value) => value,
            Err(never) => match never {},
        }
    }

    /// As `get_or_init`, with a maker that can fail.
    #[inline]
    pub fn get_or_try_init<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&T, E> {
        let found = self.current.load(Ordering::Acquire);
        match self.of_this_process(found) {
            Some(value) => Ok(value),
            None => self.init(found, make),
        }
    }

    #[cold]
    fn init<E>(
        &self,
        mut found: *mut Made<T>,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, E> {
        // Canary of row 41: another thread's value could be found here, and be replaced.
        if cfg!(canary = "look_twice") {
            found = self.current.load(Ordering::Acquire);
        }
        let fresh = Box::into_raw(Box::new(Made {
            generation: generation(),
            value: make()?,
        }));
        // Only what was found to be inherited, or nothing, is replaced.
        match self
            .current
            .compare_exchange(found, fresh, Ordering::AcqRel, Ordering::Acquire)
        {
            // SAFETY: just published; freed only with `self`.
            Ok(_) => Ok(unsafe { &(*fresh).value }),
            Err(theirs) => {
                // SAFETY: ours was never shared; theirs was published by a thread of this process.
                unsafe {
                    drop(Box::from_raw(fresh));
                    Ok(&(*theirs).value)
                }
            }
        }
    }
}

impl<T: 'static> Drop for PerProcess<T> {
    fn drop(&mut self) {
        let made = self.current.load(Ordering::Acquire);
        if made.is_null() {
            return;
        }
        // SAFETY: exclusive access; the pointer came from `Box::into_raw`. An inherited value is leaked.
        unsafe {
            if (*made).generation == generation() {
                drop(Box::from_raw(made));
            }
        }
    }
}

// SAFETY: hands out only `&T`, and drops `T` on whichever thread drops the cell.
unsafe impl<T: Send + Sync> Send for PerProcess<T> {}
// SAFETY: as above; publication is by compare-and-swap.
unsafe impl<T: Send + Sync> Sync for PerProcess<T> {}
