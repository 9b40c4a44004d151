//! Looking for a reply for a moment before the thread blocks for it: to be woken on a CPU of one's own takes
//! longer than a server of this machine takes to answer.
//!
//! It never happens on one CPU, nor while others wait for this one, and where it is in vain (a distant
//! server, a busy one) it soon hardly happens at all. Decision 0260 has the figures.

use crate::fork::PerProcess;
use nix::sys::resource::{UsageWho, getrusage};
use std::cell::Cell;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// The longest look.
const LONGEST: Duration = Duration::from_micros(40);
/// The most receives that pass without a look, however often it was in vain.
const MOST_PASSED: u32 = 1024;

/// What one connection's looks have been worth so far.
#[derive(Debug, Default)]
pub(super) struct Spin {
    /// How many receives pass after the next look in vain.
    pause: AtomicU32,
    /// How many of them are still to pass.
    to_pass: AtomicU32,
}

impl Spin {
    /// What `look` finds in a moment, which ends after `within`; `None` if that is nothing, or nobody looked.
    pub fn find<T>(
        &self,
        within: Duration,
        look: impl FnMut() -> io::Result<Option<T>>,
    ) -> io::Result<Option<T>> {
        if !has_cpus() || self.passes() {
            return Ok(None);
        }
        if was_pushed_off() {
            self.was_in_vain();
            return Ok(None);
        }
        self.look(within.min(LONGEST), look)
    }

    fn look<T>(
        &self,
        within: Duration,
        mut look: impl FnMut() -> io::Result<Option<T>>,
    ) -> io::Result<Option<T>> {
        let start = Instant::now();
        loop {
            if let Some(found) = look()? {
                self.pause.store(0, Relaxed);
                return Ok(Some(found));
            }
            if start.elapsed() >= within {
                self.was_in_vain();
                return Ok(None);
            }
            std::hint::spin_loop();
        }
    }

    fn passes(&self) -> bool {
        self.to_pass
            .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }

    fn was_in_vain(&self) {
        let pause = self.pause.load(Relaxed);
        self.to_pass.store(pause, Relaxed);
        let longer = pause.saturating_mul(2).clamp(1, MOST_PASSED);
        self.pause.store(longer, Relaxed);
    }
}

/// Whether the one who answers can run beside this thread.
fn has_cpus() -> bool {
    static HAS: PerProcess<bool> = PerProcess::new();
    *HAS.get_or_init(|| std::thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1))
}

/// Whether somebody else wanted this thread's CPU since it was asked last.
fn was_pushed_off() -> bool {
    thread_local! {
        static LAST: Cell<Option<i64>> = const { Cell::new(None) };
    }
    let Ok(usage) = getrusage(UsageWho::RUSAGE_THREAD) else {
        return true;
    };
    let now = usage.involuntary_context_switches();
    LAST.with(|last| last.replace(Some(now)).is_some_and(|before| before != now))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn a_look_finds_what_comes_and_stays_eager() {
        let spin = Spin::default();
        for _ in 0..3 {
            let mut looks = 0;
            let found = spin.look(LONG, || {
                looks += 1;
                Ok((looks == 5).then_some(looks))
            });
            assert_eq!(found.unwrap(), Some(5));
            assert!(!spin.passes());
        }
    }

    #[test]
    fn looks_in_vain_get_rare_until_one_is_not() {
        let spin = Spin::default();
        let mut passed = Vec::new();
        for _ in 0..13 {
            assert_eq!(spin.look(Duration::ZERO, || Ok(None::<()>)).unwrap(), None);
            passed.push((0..).take_while(|_| spin.passes()).count());
        }
        assert_eq!(passed[..4], [0, 1, 2, 4]);
        assert_eq!(passed[11..], [1024, 1024]);
        assert_eq!(spin.look(LONG, || Ok(Some(1))).unwrap(), Some(1));
        assert_eq!(spin.look(Duration::ZERO, || Ok(None::<()>)).unwrap(), None);
        assert!(!spin.passes());
    }

    #[test]
    fn what_fails_ends_the_look() {
        let failed = Spin::default().look(LONG, || {
            Err::<Option<()>, _>(io::ErrorKind::ConnectionReset.into())
        });
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
