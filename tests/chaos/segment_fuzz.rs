//! Row 36: a segment of `shm:` whose header and sections hold anything at all. Whoever uses it neither
//! crashes, nor hangs for a second, nor asks for more than 64 MiB at once.
//!
//! One execution is one damage and one operation on what is there then. They run in a child, so that
//! a crash or a hang is a finding; SYNLOCK_SEED repeats a run.

use std::alloc::{GlobalAlloc, Layout, System};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use synlock_core::{LockOptions, Mode, Store, Wait};
use synlock_tests::load::most;
use synlock_tests::names::TempDir;
use synlock_tests::page::SharedPage;
use synlock_tests::process::{exit_status, fork, is_full_load, nanos, signal, wait_for};
use synlock_tests::segment::Segment;
use synlock_tests::torture::{Random, Verdict};

const MOST_AT_ONCE: usize = 64 << 20;
const LONGEST: Duration = Duration::from_secs(1);
/// How many executions one child, and one attachment, lives for.
const PER_CHILD: u64 = 4_000;
const PER_STORE: u64 = 40;

struct Bounded;

// SAFETY: the system's allocator, refusing what is too large.
unsafe impl GlobalAlloc for Bounded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > MOST_AT_ONCE {
            return std::ptr::null_mut();
        }
        // SAFETY: passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Bounded = Bounded;

#[derive(Default)]
struct Page {
    executions: AtomicU64,
    began_at: AtomicU64,
    granted: AtomicU64,
    what: AtomicU64,
}

/// Where damage is done: anywhere in the header, or in the part of a section that is in use.
fn place(segment: &Segment, rng: &mut Random) -> u64 {
    let sections = segment.sections();
    let section = rng.below(7);
    let length = match section {
        0 => 128,
        3 => {
            // One of the five arrays of words, its first records.
            let array = (sections[4] - sections[3]) / 5;
            return sections[3] + rng.below(5) as u64 * array + rng.below(64) as u64 * 8;
        }
        6 => 1088 * segment.slots(),
        _ => 1024.min(sections[section + 1] - sections[section]),
    };
    sections[section] + rng.below((length / 8) as usize) as u64 * 8
}

fn word(before: u64, rng: &mut Random) -> u64 {
    let small = rng.below(70) as u64;
    match rng.below(10) {
        0 => 0,
        1 => u64::MAX,
        2 => before ^ 1 << (small % 64),
        3 => before.wrapping_add(1),
        4 => before.wrapping_sub(1),
        5 => rng.draw(),
        6 => small,
        7 => (small << 46) | (rng.draw() % 64),
        8 => rng.draw() >> (small % 64),
        // A grant, a place or a life of somebody.
        _ => ((small % 32) << 49) | ((rng.draw() & 7) << 46) | (rng.draw() % 256),
    }
}

fn mode(rng: &mut Random) -> Mode {
    match rng.below(3) {
        0 => Mode::Exclusive,
        1 => Mode::Shared,
        _ => Mode::Permits { take: 1, of: 2 },
    }
}

fn operate(store: &Store, rng: &mut Random, page: &Page) {
    let name = ["x", "y", "z", "w", "v"][rng.below(5)];
    match rng.below(8) {
        0 => drop(store.check()),
        1 => drop(store.list(b"", None, 10)),
        2 => drop(store.inspect(name)),
        3 => drop(store.break_lock(name)),
        4 => drop(store.wait_free(name, Wait::No)),
        other => {
            let mut options = LockOptions::default();
            options.mode = mode(rng);
            if other == 5 {
                options.ttl = Some(Duration::from_millis(1 + rng.below(50) as u64));
            }
            let Ok(lock) = store.lock_with(name, options) else {
                return;
            };
            let wait = if other == 6 {
                Wait::For(Duration::from_millis(2))
            } else {
                Wait::No
            };
            if lock.acquire(wait, None).is_ok() {
                page.granted.fetch_add(1, Ordering::Relaxed);
                let _ = lock.refresh(None);
                let _ = lock.promote(Wait::No);
                let _ = lock.demote();
                let _ = lock.release();
            }
        }
    }
}

/// Without cutting the file short, which is a declared SIGBUS.
fn restore(path: &Path, whole: &[u8]) {
    let file = std::fs::File::options().write(true).open(path);
    let written = file.and_then(|file| file.write_all_at(whole, 0));
    written.expect("the file can be written");
}

fn child(path: &Path, whole: &[u8], seed: u64, page: &Page) -> i32 {
    let mut rng = Random(seed | 1);
    let mut serial = 0u64;
    for execution in 0..PER_CHILD {
        page.began_at.store(nanos(), Ordering::SeqCst);
        if execution % PER_STORE == 0 {
            serial += 1;
            restore(path, whole);
        }
        // Another text each time: an URL that is known is not opened again.
        let url = format!("shm:{}?label={seed}.{serial}", path.display());
        let segment = Segment::open(path);
        for _ in 0..=rng.below(3) {
            let at = place(&segment, &mut rng);
            // The header is judged when the file is opened, and most of its words end that.
            if at < 96 && execution % PER_STORE != 0 {
                continue;
            }
            segment.write(at, word(segment.read(at), &mut rng));
        }
        page.what.store(execution, Ordering::Relaxed);
        if let Ok(store) = Store::open(&url) {
            operate(&store, &mut rng, page);
        }
        if execution % PER_STORE == 0 {
            restore(path, whole);
        }
        page.executions.fetch_add(1, Ordering::Relaxed);
    }
    0
}

/// Waits for the child; what was wrong with it.
fn watch(pid: libc::pid_t, page: &Page) -> Option<String> {
    loop {
        if let Some(status) = wait_for(pid, Duration::from_millis(20)) {
            return (status != 0).then(|| format!("ended with {status}"));
        }
        let since = nanos().saturating_sub(page.began_at.load(Ordering::SeqCst));
        if Duration::from_nanos(since) > most(LONGEST) {
            signal(pid, libc::SIGKILL);
            let status = exit_status(synlock_tests::process::wait(pid));
            return Some(format!("hung, killed: {status}"));
        }
    }
}

fn main() -> ExitCode {
    let folder = TempDir::within("/dev/shm", "segment-fuzz");
    let path = folder.path().join("segment");
    // SAFETY: atomics, for which zero is a value.
    let page = unsafe { SharedPage::<Page>::new() };
    let made = fork(|| {
        let store = Store::open(&format!("shm:{}?slots=4", path.display())).expect("a URL");
        for name in ["x", "y", "z"] {
            let lock = store.lock(name).expect("a lock");
            lock.acquire(Wait::No, None).expect("it is free");
            std::mem::forget(lock);
        }
        0
    });
    assert_eq!(exit_status(synlock_tests::process::wait(made)), 0);
    let whole = std::fs::read(&path).expect("a segment");
    let least: u64 = if is_full_load() { 10_000_000 } else { 100_000 };
    let seed = std::env::var("SYNLOCK_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let mut seed: u64 = seed.unwrap_or_else(nanos);
    let mut findings = Vec::new();
    while page.executions.load(Ordering::Relaxed) < least && findings.len() < 3 {
        seed = seed.wrapping_add(2);
        page.began_at.store(nanos(), Ordering::SeqCst);
        let pid = fork(|| child(&path, &whole, seed, &page));
        if let Some(what) = watch(pid, &page) {
            let execution = page.what.load(Ordering::Relaxed);
            findings.push(format!(
                "SYNLOCK_SEED={} execution {execution}: {what}",
                seed - 2
            ));
        }
    }
    let mut verdict = Verdict::default();
    let executions = page.executions.load(Ordering::Relaxed);
    verdict.claim(
        executions >= least || !findings.is_empty(),
        "executions",
        executions,
    );
    let granted = page.granted.load(Ordering::Relaxed);
    verdict.claim(granted > executions / 100, "granted all the same", granted);
    verdict.claim(findings.is_empty(), "findings", findings.join("; "));
    verdict.finish()
}
