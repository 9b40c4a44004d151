//! Row 36: what reads bytes from outside, fed with noise that looks almost right: URLs and the
//! options of each store, replies of servers, the state in a lock file. Nothing panics, takes
//! a second, or allocates more than 64 MiB. `parsers url|reply|item|frame|
//! answer|packet|message|state`; `tests/fuzz/run` puts it under AddressSanitizer at full load.

mod databases;
mod mutate;
mod targets;

use mutate::Mutator;
use std::alloc::{GlobalAlloc, Layout, System};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use synlock_tests::load::most;
use synlock_tests::process::{is_full_load, nanos};
use synlock_tests::torture::Verdict;

const MOST_BYTES: usize = 64 * 1024 * 1024;
/// The bar's; elsewhere a run that takes long is told from one that never ends.
const LONGEST: Duration = Duration::from_secs(1);

/// The system's allocator, counting.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(now, Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// When the run under way began; 0 while none is.
static SINCE: AtomicU64 = AtomicU64::new(0);

/// Ends the program if a run never ends.
fn watch() {
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let since = SINCE.load(Relaxed);
            if since != 0 && nanos().saturating_sub(since) > 10 * most(LONGEST).as_nanos() as u64 {
                eprintln!("FAIL a run does not end");
                std::process::exit(1);
            }
        }
    });
}

/// The worst that has been seen.
#[derive(Default)]
struct Worst {
    runs: u64,
    read: u64,
    panics: u64,
    time: Duration,
    bytes: usize,
}

impl Worst {
    fn run(&mut self, target: fn(&[u8]) -> bool, input: &[u8]) {
        let before = NOW.load(Relaxed);
        PEAK.store(before, Relaxed);
        SINCE.store(nanos(), Relaxed);
        let start = Instant::now();
        let done = std::panic::catch_unwind(|| target(input));
        let time = start.elapsed();
        SINCE.store(0, Relaxed);
        let bytes = PEAK.load(Relaxed).saturating_sub(before);
        self.runs += 1;
        self.read += u64::from(matches!(done, Ok(true)));
        if done.is_err() || time > most(LONGEST) || bytes > MOST_BYTES {
            let end = input.len().min(400);
            eprintln!(
                "{} bytes, {time:?}, {bytes} bytes allocated, panic: {}: {}",
                input.len(),
                done.is_err(),
                input[..end].escape_ascii()
            );
        }
        self.panics += u64::from(done.is_err());
        self.time = self.time.max(time);
        self.bytes = self.bytes.max(bytes);
    }
}

#[expect(clippy::print_stdout, reason = "rows report on stdout")]
fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or_default();
    let Some(target) = targets::find(&name) else {
        return ExitCode::from(2);
    };
    let runs = if is_full_load() { 10_000_000 } else { 200_000 };
    let seed = std::env::var("SYNLOCK_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(nanos);
    println!("SYNLOCK_SEED={seed} repeats this");
    watch();
    let mut worst = Worst::default();
    let seeds = (target.seeds)();
    for input in seeds.iter().chain(&(target.extremes)()) {
        worst.run(target.run, input);
    }
    let mut mutator = Mutator::new(seed, seeds, target.words);
    while worst.runs < runs && worst.panics < 5 {
        let mut input = mutator.next();
        (target.mend)(&mut input, mutator.coin());
        worst.run(target.run, &input);
    }
    let mut verdict = Verdict::default();
    verdict.claim(worst.panics == 0, "panics", worst.panics);
    verdict.claim(worst.runs >= runs, "runs", worst.runs);
    verdict.claim(
        worst.read >= runs / 100,
        "of them read to the end",
        worst.read,
    );
    verdict.claim(
        worst.time <= most(LONGEST),
        "the longest",
        format!("{:?}", worst.time),
    );
    verdict.claim(
        worst.bytes <= MOST_BYTES,
        "the most bytes allocated by one",
        worst.bytes,
    );
    verdict.finish()
}
