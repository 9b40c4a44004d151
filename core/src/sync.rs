//! Mutexes of this crate. A panic while one is held poisons nothing: the state behind each is valid
//! between any two statements.
//!
//! ThreadSanitizer does not see into the standard library's, so under `--cfg tsan` they come from
//! `parking_lot`. Elsewhere they do not: its global table does not survive a fork.

pub(crate) use std::sync::atomic::AtomicBool;

#[cfg(tsan)]
pub use parking_lot::{Mutex, MutexGuard, RwLock};

#[cfg(not(tsan))]
pub use plain::{Mutex, RwLock};
#[cfg(not(tsan))]
pub use std::sync::MutexGuard;

#[cfg(not(tsan))]
mod plain {
    use std::sync::{MutexGuard, PoisonError, RwLockReadGuard, RwLockWriteGuard};

    /// A mutex without poison.
    #[derive(Debug, Default)]
    pub struct Mutex<T>(std::sync::Mutex<T>);

    impl<T> Mutex<T> {
        /// Unlocked.
        pub const fn new(value: T) -> Self {
            Mutex(std::sync::Mutex::new(value))
        }

        /// Waits for the mutex.
        #[inline]
        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        /// Takes the mutex if it is free.
        pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            match self.0.try_lock() {
                Ok(guard) => Some(guard),
                Err(std::sync::TryLockError::Poisoned(poison)) => Some(poison.into_inner()),
                Err(std::sync::TryLockError::WouldBlock) => None,
            }
        }
    }

    /// A reader-writer lock without poison.
    #[derive(Debug, Default)]
    pub struct RwLock<T>(std::sync::RwLock<T>);

    impl<T> RwLock<T> {
        /// Waits to read.
        pub fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().unwrap_or_else(PoisonError::into_inner)
        }

        /// Waits to write.
        pub fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().unwrap_or_else(PoisonError::into_inner)
        }
    }
}
