//! Calls that must be back in time, whatever the server does.

use crate::{code, ms};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use synlock_core::{Code, Result};
use synlock_tests::process::is_full_load;

/// How long the machine itself kept a thread from running since the last look: that is none of the store's.
pub struct Stalls {
    longest: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Stalls {
    pub fn watch() -> Self {
        let stalls = Stalls {
            longest: Arc::default(),
            over: Arc::default(),
        };
        let (longest, over) = (Arc::clone(&stalls.longest), Arc::clone(&stalls.over));
        std::thread::spawn(move || {
            while !over.load(SeqCst) {
                let start = Instant::now();
                std::thread::sleep(ms(1));
                let late = start.elapsed().saturating_sub(ms(1)).as_micros();
                longest.fetch_max(u64::try_from(late).unwrap_or(u64::MAX), SeqCst);
            }
        });
        stalls
    }

    fn take(&self) -> Duration {
        Duration::from_micros(self.longest.swap(0, SeqCst))
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.over.store(true, SeqCst);
    }
}

pub const TIMEOUT: Duration = Duration::from_millis(300);

/// Runs a call; it must be back within the timeout, a tenth of it and 50 ms. At the quick load the suites of
/// other stores run beside this one, each with servers of its own: there it has longer, and a call without a
/// bound would never be back.
pub fn in_time<T>(stalls: &Stalls, what: &str, call: impl FnOnce() -> Result<T>) -> Code {
    let slack = if is_full_load() { ms(50) } else { TIMEOUT * 10 };
    stalls.take();
    let start = Instant::now();
    let found = code(call());
    let took = start.elapsed();
    let bound = TIMEOUT * 11 / 10 + stalls.take() * 2 + slack;
    assert!(took <= bound, "{what}: {took:?} of {bound:?}");
    found
}
