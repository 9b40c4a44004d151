//! Time: leases and deadlines on the boot-time clock, which also counts suspended time.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// A point on `CLOCK_BOOTTIME`, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct BootTime(u64);

/// Added to every reading; only tests move it.
static SHIFT_NS: AtomicI64 = AtomicI64::new(0);

impl BootTime {
    /// Now.
    #[inline]
    pub fn now() -> Self {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `time` is valid for writes; the clock exists since Linux 2.6.39, so the call cannot fail.
        unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time) };
        let ns = time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64;
        BootTime(ns.saturating_add_signed(SHIFT_NS.load(Ordering::Relaxed)))
    }

    /// Nanoseconds of a clock that is cheaper to read, some milliseconds behind, and stands still while
    /// the machine sleeps: for what is done now and then, never for leases.
    #[cfg(all(any(feature = "flock", feature = "shm"), not(loom)))]
    #[inline]
    pub(crate) fn coarse_nanos() -> u64 {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: as above; this clock exists since Linux 2.6.32.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) };
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }

    /// This point, `later` on; saturating.
    #[must_use]
    pub fn after(self, later: Duration) -> Self {
        BootTime(
            self.0
                .saturating_add(u64::try_from(later.as_nanos()).unwrap_or(u64::MAX)),
        )
    }

    /// This point, `earlier` back; saturating.
    #[must_use]
    pub fn before(self, earlier: Duration) -> Self {
        BootTime(
            self.0
                .saturating_sub(u64::try_from(earlier.as_nanos()).unwrap_or(u64::MAX)),
        )
    }

    /// Time from `earlier` to this point; zero if it lies after.
    pub fn since(self, earlier: BootTime) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Time from now to this point; zero if it has passed.
    pub fn left(self) -> Duration {
        self.since(BootTime::now())
    }

    /// Whether it has been reached.
    pub fn has_passed(self) -> bool {
        BootTime::now() >= self
    }

    /// From nanoseconds since boot.
    pub fn from_nanos(ns: u64) -> Self {
        BootTime(ns)
    }

    /// Nanoseconds since boot.
    pub fn as_nanos(self) -> u64 {
        self.0
    }
}

/// Moves this process' clock by `by_ms`, for tests of suspend and of expiry without sleeping.
#[doc(hidden)]
pub fn shift_clock_for_tests(by_ms: i64) {
    SHIFT_NS.fetch_add(by_ms * 1_000_000, Ordering::Relaxed);
}

/// What clocks of two machines may differ by over a TTL: 1 % of it and 2 ms.
pub fn drift_allowance(ttl: Duration) -> Duration {
    ttl / 100 + Duration::from_millis(2)
}

/// How long a caller will wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// Try once.
    No,
    /// At most this long.
    For(Duration),
    /// Until it is granted, cancelled or fails.
    Forever,
}

impl Wait {
    /// The deadline of a wait that begins now; `None` is never.
    pub fn deadline(self) -> Option<BootTime> {
        match self {
            Wait::No => Some(BootTime::now()),
            Wait::For(duration) => Some(BootTime::now().after(duration)),
            Wait::Forever => None,
        }
    }

    /// From milliseconds as the C ABI counts them: 0 tries, negative waits for ever.
    #[inline]
    pub fn from_millis(ms: i64) -> Self {
        match u64::try_from(ms) {
            Err(_) => Wait::Forever,
            Ok(0) => Wait::No,
            Ok(ms) => Wait::For(Duration::from_millis(ms)),
        }
    }
}
