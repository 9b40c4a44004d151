//! The Rust face of a hold: released when it goes out of scope.

use crate::lease::Wait;
use crate::lock::{Acquired, Lock, Released};
use crate::{Code, Error, Result};
use std::ops::Deref;

/// A held lock. Dropping it releases; a lost lock is noticed by [`Lock::ensure_held`].
#[derive(Debug)]
#[must_use = "dropping the guard releases the lock"]
pub struct Guard {
    lock: Lock,
    acquired: Acquired,
}

impl Guard {
    /// How the acquire went.
    pub fn acquired(&self) -> &Acquired {
        &self.acquired
    }

    /// Releases now, and says how it went.
    ///
    /// # Errors
    /// As [`Lock::release`].
    pub fn release(self) -> Result<Released> {
        self.lock.release()
    }
}

impl Deref for Guard {
    type Target = Lock;

    fn deref(&self) -> &Lock {
        &self.lock
    }
}

impl Lock {
    /// Acquires and wraps the handle, so that the end of the scope releases.
    ///
    /// # Errors
    /// As [`Lock::acquire`].
    pub fn into_guard(self, wait: Wait) -> Result<Guard> {
        let acquired = self.acquire(wait, None)?;
        Ok(Guard {
            lock: self,
            acquired,
        })
    }

    /// As [`Lock::into_guard`] without waiting; `None` if somebody else holds the lock.
    ///
    /// # Errors
    /// As [`Lock::acquire`], but for `Busy`.
    pub fn try_guard(self) -> Result<Option<Guard>> {
        match self.into_guard(Wait::No) {
            Ok(guard) => Ok(Some(guard)),
            Err(error) if error.code() == Code::Busy => Ok(None),
            Err(error) => Err::<_, Error>(error),
        }
    }
}
