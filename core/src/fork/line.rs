//! Generations: which process this is, counted along a line of forks.

use super::sync::{AtomicU64, Ordering, yield_now};

/// Stands in the word while one thread makes a process out of what the fork left.
const BEGINNING: u64 = u64::MAX;

/// What a process knows of its ancestors; a fork copies it.
#[derive(Debug)]
pub(super) struct Line {
    /// The last generation given out.
    pub(super) given: AtomicU64,
    /// The generation whose inherited descriptors have been closed.
    pub(super) swept: AtomicU64,
}

impl Line {
    /// This process' generation, which stands in `word` once it is known; a fork zeroes that.
    /// Where no handler ran in the child, `sweep` is called first: once, and before any thread gets
    /// past this call, since what is listed from then on is the child's own.
    #[inline]
    pub(super) fn current(&self, word: &AtomicU64, sweep: impl FnOnce()) -> u64 {
        match word.load(Ordering::Acquire) {
            0 | BEGINNING => self.begin(word, sweep),
            known => known,
        }
    }

    #[cold]
    fn begin(&self, word: &AtomicU64, sweep: impl FnOnce()) -> u64 {
        // Canary of row 41: everybody takes a number, and whoever comes second may sweep too.
        if cfg!(canary = "two_begin") {
            let next = self.given.fetch_add(1, Ordering::Relaxed) + 1;
            return match word.compare_exchange(0, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    self.sweep_once(next, sweep);
                    next
                }
                Err(known) => known,
            };
        }
        loop {
            match word.compare_exchange(0, BEGINNING, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    let next = self.given.fetch_add(1, Ordering::Relaxed) + 1;
                    self.sweep_once(next, sweep);
                    word.store(next, Ordering::Release);
                    return next;
                }
                Err(BEGINNING) => {
                    while word.load(Ordering::Acquire) == BEGINNING {
                        yield_now();
                    }
                }
                Err(known) => return known,
            }
        }
    }

    fn sweep_once(&self, generation: u64, sweep: impl FnOnce()) {
        if self.swept.swap(generation, Ordering::AcqRel) < generation && generation > 1 {
            sweep();
        }
    }

    /// In a child's handler, which has closed what it inherited: the generation that the child is
    /// about to take needs no more of it.
    pub(super) fn is_swept(&self) {
        let next = self.given.load(Ordering::Relaxed) + 1;
        self.swept.store(next, Ordering::Release);
    }
}
