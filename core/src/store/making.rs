//! What one thread of a process makes for all of them, or few at a time: the others wait, none longer than it wants.

use crate::lease::BootTime;
use crate::{Code, Error, Result};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Before time is judged again, which a suspended machine stops for a condition variable alone.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Making {
    most: u32,
    makers: Mutex<u32>,
    freed: Condvar,
}

impl Default for Making {
    fn default() -> Self {
        Self::by(1)
    }
}

/// The right to make it; the next one's when it is dropped.
#[derive(Debug)]
pub(super) struct Maker<'a>(&'a Making);

impl Making {
    /// By so many at a time.
    pub fn by(most: u32) -> Self {
        Making {
            most,
            makers: Mutex::new(0),
            freed: Condvar::new(),
        }
    }

    /// Waits until fewer make it, at most until `deadline`.
    pub fn begin(&self, deadline: BootTime) -> Result<Maker<'_>> {
        let mut makers = self.makers.lock().unwrap_or_else(PoisonError::into_inner);
        while *makers >= self.most {
            let left = deadline.left();
            if left.is_zero() {
                let words = "another thread of this process has not reached the server yet";
                return Err(Error::new(Code::Unavailable, words));
            }
            let woken = self.freed.wait_timeout(makers, left.min(LONGEST_SLEEP));
            makers = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        *makers += 1;
        Ok(Maker(self))
    }
}

impl Drop for Maker<'_> {
    fn drop(&mut self) {
        let mut makers = self.0.makers.lock().unwrap_or_else(PoisonError::into_inner);
        *makers -= 1;
        drop(makers);
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    #[test]
    fn one_makes_it_at_a_time_and_a_wait_for_it_ends() {
        let making = Making::default();
        let soon = || BootTime::now().after(Duration::from_secs(60));
        let first = making.begin(soon()).unwrap();
        let refused = making.begin(BootTime::now().after(Duration::from_millis(5)));
        assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
        let made = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let _maker = making.begin(soon()).unwrap();
                    made.fetch_add(1, SeqCst);
                });
            }
            assert_eq!(made.load(SeqCst), 0);
            drop(first);
        });
        assert_eq!(made.load(SeqCst), 4);
    }

    #[test]
    fn two_make_it_at_a_time() {
        let making = Making::by(2);
        let until = |ms| BootTime::now().after(Duration::from_millis(ms));
        let makers = [(); 2].map(|()| making.begin(until(60_000)).unwrap());
        assert!(making.begin(until(5)).is_err());
        drop(makers);
        making.begin(until(60_000)).unwrap();
    }
}
