//! What a program under load asks of the machine that it runs on: time enough for its figures, and how long
//! the machine itself stood still.

use crate::page::SharedPage;
use crate::process::{exit_status, fork, is_full_load, nanos, wait};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// What a call that is bounded comes back within, on any machine; one that is not would take for ever.
pub const SOON: Duration = Duration::from_secs(20);
/// The most that something may take: what the bar says, at its full load. The quick one runs on any machine
/// and beside anything, where only what never ends can be told from what is late.
#[must_use]
pub fn most(bar: Duration) -> Duration {
    if is_full_load() { bar } else { SOON.max(bar) }
}

/// A URL of a store that has time for a server which the machine lets wait.
#[must_use]
pub fn patient(url: &str) -> String {
    let mark = if url.contains('?') { '&' } else { '?' };
    format!("{url}{mark}connect_timeout=20000&io_timeout=20000")
}

/// How much slower than it should be a machine may be until its figures are given up.
const SLOWEST: u32 = 20;

/// A stretch of work: as long as was asked for, and longer on a slow machine if not enough was done yet.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    began: u64,
    time: Duration,
}

impl Stretch {
    /// Begins now.
    pub fn of(time: Duration) -> Self {
        Stretch {
            began: nanos(),
            time,
        }
    }

    /// Whether to go on, by whether enough was done.
    pub fn goes_on(&self, is_enough: impl FnOnce() -> bool) -> bool {
        let spent = Duration::from_nanos(nanos() - self.began);
        spent < self.time || (spent < self.time * SLOWEST && !is_enough())
    }
}

/// A process that does nothing but to wake up each millisecond, and notes how late that was.
#[derive(Debug)]
pub struct Bystander {
    page: SharedPage<Page>,
    pid: libc::pid_t,
}

#[derive(Debug)]
struct Page {
    stop: AtomicBool,
    longest: AtomicU64,
}

impl Bystander {
    /// Starts it; call it from a program with one thread.
    pub fn start() -> Self {
        // SAFETY: atomics, for which zero is a value.
        let page = unsafe { SharedPage::<Page>::new() };
        let pid = fork(|| {
            while !page.stop.load(Ordering::Relaxed) {
                let before = nanos();
                std::thread::sleep(Duration::from_millis(1));
                page.longest.fetch_max(nanos() - before, Ordering::Relaxed);
            }
            0
        });
        Bystander { page, pid }
    }

    /// The longest that the machine let a process wait that wanted to run.
    pub fn end(self) -> Duration {
        self.page.stop.store(true, Ordering::Relaxed);
        assert_eq!(exit_status(wait(self.pid)), 0, "the bystander");
        Duration::from_nanos(self.page.longest.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn a_url_gets_its_patience_beside_what_it_has() {
        assert_eq!(
            [patient("redis://a"), patient("redis://a?db=1")],
            [
                "redis://a?connect_timeout=20000&io_timeout=20000",
                "redis://a?db=1&connect_timeout=20000&io_timeout=20000"
            ]
        );
    }

    #[test]
    fn a_stretch_lasts_until_enough_is_done_and_not_for_ever() {
        let stretch = Stretch::of(Duration::from_millis(2));
        assert!(stretch.goes_on(|| true));
        let left = Cell::new(3);
        while stretch.goes_on(|| left.get() == 0) && left.get() > 0 {
            left.set(left.get() - 1);
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(left.get(), 0);
        while stretch.goes_on(|| false) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
