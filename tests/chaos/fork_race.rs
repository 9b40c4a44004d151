//! Part of row 7: a thread takes locks on files that it opens anew each time, while another thread
//! forks. No child may have a copy of a description on which the parent has a lock.

#[path = "fork_heard.rs"]
mod fork_heard;

use std::fs;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use synlock_core::{Store, Wait};
use synlock_tests::load::Stretch;
use synlock_tests::names::TempDir;
use synlock_tests::process::{exit_status, is_full_load, wait};
use synlock_tests::torture::Verdict;

/// Copies of locked descriptions among this process' descriptors of lock files.
fn locked_copies(dir: &str) -> i32 {
    let mut found = 0;
    for entry in fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten()
    {
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        if !target.to_string_lossy().starts_with(dir) {
            continue;
        }
        let info = entry.path().to_string_lossy().replace("/fd/", "/fdinfo/");
        let info = fs::read_to_string(info).unwrap_or_default();
        found += i32::from(info.contains("FLOCK"));
    }
    found
}

fn main() -> ExitCode {
    let dir = TempDir::new("fork-race");
    let prefix = format!("{}/", dir.path().display());
    let store = Store::open(&format!("flock:{}", dir.path().display())).expect("a store");
    let stop = Arc::new(AtomicBool::new(false));
    let taken = Arc::new(AtomicU64::new(0));
    let takers: Vec<_> = (0..3)
        .map(|thread| {
            let (store, stop, taken) = (store.clone(), stop.clone(), taken.clone());
            std::thread::spawn(move || {
                let mut number = 0u64;
                let mut held = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let lock = store
                        .lock(format!("{thread}-{}", number % 500))
                        .expect("a lock");
                    lock.acquire(Wait::Forever, None).expect("free");
                    taken.fetch_add(1, Ordering::Relaxed);
                    number += 1;
                    held.push(lock);
                    // Held while children look, then dropped together.
                    if held.len() == 100 {
                        std::thread::sleep(Duration::from_millis(2));
                        held.clear();
                    }
                }
            })
        })
        .collect();
    let (mut children, mut copies) = (0, 0);
    let full = is_full_load();
    let share = if full { 1 } else { 50 };
    let stretch = Stretch::of(Duration::from_millis(if full { 60_000 } else { 1_200 }));
    while stretch
        .goes_on(|| children >= 2_500 / share && taken.load(Ordering::Relaxed) >= 10_000 / share)
    {
        // SAFETY: the child reads files and leaves; glibc keeps its allocator usable after a fork.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // Time for the parent to lock what it was opening.
            std::thread::sleep(Duration::from_millis(1));
            let found = locked_copies(&prefix);
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(found.min(100)) };
        }
        assert!(pid > 0, "no process to be had");
        children += 1;
        copies += exit_status(wait(pid));
    }
    stop.store(true, Ordering::Relaxed);
    let panicked = takers
        .into_iter()
        .filter_map(|taker| taker.join().err())
        .count();
    let taken = taken.load(Ordering::Relaxed);
    let mut verdict = Verdict::default();
    verdict.claim(panicked == 0, "threads that panicked", panicked);
    verdict.claim(
        taken >= 10_000 / share,
        "locks taken on new descriptors",
        taken,
    );
    verdict.claim(children >= 2_500 / share, "children", children);
    verdict.claim(copies == 0, "locked descriptions found in children", copies);
    fork_heard::run(&mut verdict);
    verdict.finish()
}
