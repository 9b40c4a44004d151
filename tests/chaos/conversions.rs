//! Part of row 1 for shared holds: readers are promoted and writers demoted while others want the
//! lock exclusively. What a reader has read must not change until it lets go, through every promotion
//! that works or fails; a writer is alone.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use synlock_core::{Code, Lock, LockOptions, Mode, Store, Wait};
use synlock_tests::load::Stretch;
use synlock_tests::names::TempDir;
use synlock_tests::page::SharedPage;
use synlock_tests::process::{exit_status, fork, is_full_load, nanos, wait};
use synlock_tests::torture::{Random, Verdict};

const WORKERS: u64 = 12;

struct Page {
    stop: AtomicBool,
    value: AtomicU64,
    readers: AtomicI64,
    writers: AtomicI64,
    slipped_in: AtomicU64,
    not_alone: AtomicU64,
    promoted: AtomicU64,
    refused: AtomicU64,
    demoted: AtomicU64,
    written: AtomicU64,
    lost: AtomicU64,
    errors: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::SeqCst);
}

impl Page {
    /// What a writer does; the lock is held exclusively.
    fn write(&self) {
        if self.writers.fetch_add(1, Ordering::SeqCst) != 0
            || self.readers.load(Ordering::SeqCst) != 0
        {
            count(&self.not_alone);
        }
        self.value.fetch_add(1, Ordering::SeqCst);
        for _ in 0..100 {
            std::hint::spin_loop();
        }
        count(&self.written);
        self.writers.fetch_sub(1, Ordering::SeqCst);
    }

    fn is(&self, value: u64) {
        if self.value.load(Ordering::SeqCst) != value {
            count(&self.slipped_in);
        }
    }

    fn trouble(&self, error: &synlock_core::Error) {
        match error.code() {
            Code::Busy | Code::Timeout => count(&self.refused),
            Code::Lost => count(&self.lost),
            _ => {
                eprintln!("FAIL {error:?}");
                count(&self.errors);
            }
        }
    }

    fn read_and_promote(&self, lock: &Lock, random: &mut Random) {
        self.readers.fetch_add(1, Ordering::SeqCst);
        let value = self.value.load(Ordering::SeqCst);
        // Not a reader any more while it is being promoted: it may be the writer before it knows.
        self.readers.fetch_sub(1, Ordering::SeqCst);
        let wait = if random.below(2) == 0 {
            Wait::No
        } else {
            Wait::For(Duration::from_millis(2))
        };
        match lock.promote(wait) {
            Ok(()) => {
                count(&self.promoted);
                self.is(value);
                self.write();
                if random.below(2) == 0 {
                    match lock.demote() {
                        Ok(()) => {
                            count(&self.demoted);
                            self.is(value + 1);
                            std::thread::yield_now();
                            self.is(value + 1);
                        }
                        Err(error) => self.trouble(&error),
                    }
                }
            }
            Err(error) => {
                self.trouble(&error);
                if error.code() != Code::Lost {
                    self.is(value);
                    std::thread::yield_now();
                    self.is(value);
                }
            }
        }
    }
}

fn work(url: &str, page: &Page, seed: u64) -> i32 {
    let store = Store::open(url).expect("a store");
    let mut options = LockOptions::default();
    options.mode = Mode::Shared;
    let reader = store.lock_with("x", options).expect("a lock");
    let writer = store.lock("x").expect("a lock");
    let mut random = Random(seed);
    while !page.stop.load(Ordering::Relaxed) {
        let reads = random.below(3) != 0;
        let lock = if reads { &reader } else { &writer };
        match lock.acquire(Wait::For(Duration::from_millis(5)), None) {
            Ok(_) if reads => page.read_and_promote(lock, &mut random),
            Ok(_) => page.write(),
            Err(error) if matches!(error.code(), Code::Timeout | Code::Busy) => continue,
            Err(error) => {
                page.trouble(&error);
                continue;
            }
        }
        if let Err(error) = lock.release()
            && error.code() != Code::Lost
        {
            page.trouble(&error);
        }
    }
    0
}

fn main() -> ExitCode {
    let dir = TempDir::new("conversions");
    let full = is_full_load();
    let url = format!("flock:{}", dir.path().display());
    // SAFETY: atomics, for which zero is a value.
    let page = unsafe { SharedPage::<Page>::new() };
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let seed = (nanos() | 1).wrapping_mul(2 * worker + 1);
            fork(|| work(&url, &page, seed))
        })
        .collect();
    let share = if full { 1 } else { 50 };
    let figures = [
        ("written", &page.written, 100_000 / share),
        ("promoted", &page.promoted, 20_000 / share),
        ("promotions refused", &page.refused, 5_000 / share),
        ("demoted", &page.demoted, 10_000 / share),
    ];
    let get = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    let stretch = Stretch::of(Duration::from_millis(if full { 60_000 } else { 1_200 }));
    while stretch.goes_on(|| figures.iter().all(|(_, done, least)| get(done) >= *least)) {
        std::thread::sleep(Duration::from_millis(10));
    }
    page.stop.store(true, Ordering::SeqCst);
    let crashed = workers
        .into_iter()
        .filter(|pid| exit_status(wait(*pid)) != 0)
        .count();
    let mut verdict = Verdict::default();
    verdict.claim(crashed == 0, "crashed workers", crashed);
    verdict.claim(
        get(&page.slipped_in) == 0,
        "values changed under a reader",
        get(&page.slipped_in),
    );
    verdict.claim(
        get(&page.not_alone) == 0,
        "writers that were not alone",
        get(&page.not_alone),
    );
    verdict.claim(get(&page.lost) == 0, "holds lost", get(&page.lost));
    verdict.claim(get(&page.errors) == 0, "errors", get(&page.errors));
    for (what, counter, least) in figures {
        verdict.claim(get(counter) >= least, what, get(counter));
    }
    verdict.finish()
}
