//! A session's life, as sure as this process can be of it.

use crate::lease::BootTime;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One session. Whoever looks after its sure end finds it over, and from then on it is: an answer
/// that comes later revives nothing, although the server may still know the session.
#[derive(Debug)]
pub(super) struct Life {
    pub id: i64,
    pub password: Vec<u8>,
    /// After so long without a word from us the server ends it, in ms. Another server may grant less.
    timeout: AtomicU64,
    /// Boot time in ns; 0 once it is over.
    sure: AtomicU64,
}

impl Life {
    /// A session that was asked for at `asked`.
    pub fn new(id: i64, password: Vec<u8>, timeout: Duration, asked: BootTime) -> Self {
        Life {
            id,
            password,
            timeout: AtomicU64::new(millis(timeout)),
            sure: AtomicU64::new(asked.after(timeout).as_nanos()),
        }
    }

    /// Until when it lives at least; `None` once it is over.
    pub fn sure_until(&self) -> Option<BootTime> {
        let sure = self.sure.load(Ordering::Acquire);
        (sure != 0).then(|| BootTime::from_nanos(sure))
    }

    /// Whether it is over. Asking after its sure end makes it so.
    pub fn is_over(&self) -> bool {
        // Canary of row 26.
        if cfg!(canary = "trusts_session") {
            return self.sure.load(Ordering::Acquire) == 0;
        }
        loop {
            let sure = self.sure.load(Ordering::Acquire);
            if sure == 0 {
                return true;
            }
            if BootTime::now().as_nanos() < sure {
                return false;
            }
            if self.turn(sure, 0) {
                return true;
            }
        }
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout.load(Ordering::Acquire))
    }

    /// Who may end it has heard of us after `sent`; false if it was over before.
    pub fn prolong(&self, sent: BootTime) -> bool {
        let later = sent.after(self.timeout()).as_nanos();
        self.reach(|sure| sure.max(later))
    }

    /// A server has taken it up again by a request of `asked`, with this timeout: it counts from there, even if
    /// that is less. False if it was over before.
    pub fn resume(&self, asked: BootTime, timeout: Duration) -> bool {
        self.timeout.store(millis(timeout), Ordering::Release);
        self.reach(|_| asked.after(timeout).as_nanos())
    }

    fn reach(&self, end: impl Fn(u64) -> u64) -> bool {
        loop {
            if self.is_over() {
                return false;
            }
            let sure = self.sure.load(Ordering::Acquire);
            if sure != 0 && self.turn(sure, end(sure)) {
                return true;
            }
        }
    }

    /// The server has ended it, or we have.
    pub fn end(&self) {
        self.sure.store(0, Ordering::Release);
    }

    fn turn(&self, from: u64, to: u64) -> bool {
        self.sure
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_that_was_found_over_stays_so() {
        let asked = BootTime::now();
        let life = Life::new(1, Vec::new(), Duration::from_millis(30), asked);
        assert!(!life.is_over() && life.prolong(BootTime::now()));
        std::thread::sleep(Duration::from_millis(60));
        assert!(life.is_over());
        // The answer to a ping that was sent in time comes late.
        assert!(!life.prolong(BootTime::now()) && life.is_over());
        assert_eq!(life.sure_until(), None);
    }

    #[test]
    fn an_answer_never_shortens_a_life() {
        let asked = BootTime::now();
        let life = Life::new(1, Vec::new(), Duration::from_secs(60), asked);
        let sure = life.sure_until();
        assert!(life.prolong(BootTime::from_nanos(1)));
        assert_eq!(life.sure_until(), sure);
    }

    #[test]
    fn a_life_that_is_resumed_for_less_is_sure_for_less() {
        let asked = BootTime::now();
        let life = Life::new(1, Vec::new(), Duration::from_secs(60), asked);
        let less = Duration::from_secs(30);
        assert!(life.resume(asked, less) && life.timeout() == less);
        assert_eq!(life.sure_until(), Some(asked.after(less)));
        assert!(life.prolong(asked.after(less / 2)));
        assert_eq!(life.sure_until(), Some(asked.after(less * 3 / 2)));
    }
}
