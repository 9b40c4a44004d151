//! Row 5: two PID namespaces in which the same numbers name different processes share `shm:`. They
//! never hold together, and the death of one is the death of its holds alone.
//!
//! Needs the right to make PID namespaces: root, or user namespaces that everybody may make.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use synlock_core::{Store, Wait};
use synlock_tests::names::TempDir;
use synlock_tests::page::SharedPage;
use synlock_tests::process::{exit_status, fork, wait};
use synlock_tests::torture::Verdict;

/// How many lives each namespace has, and rounds in each; the last one ends inside the lock.
const LIVES: u64 = 20;
const ROUNDS: u64 = 25;

#[derive(Default)]
struct Page {
    inside: AtomicU64,
    rounds: AtomicU64,
    overlaps: AtomicU64,
    recovered: AtomicU64,
    /// Sum of the numbers that the processes have in their own namespaces.
    numbers: AtomicU64,
}

fn first_process(url: &str, page: &Page) -> i32 {
    page.numbers
        .fetch_add(u64::from(std::process::id()), Ordering::SeqCst);
    let lock = Store::open(url)
        .and_then(|store| store.lock("x"))
        .expect("a lock");
    for round in 0..ROUNDS {
        let acquired = lock.acquire(Wait::For(Duration::from_secs(60)), None);
        let Ok(acquired) = acquired else { return 2 };
        if acquired.recovered {
            page.recovered.fetch_add(1, Ordering::SeqCst);
            page.inside.store(0, Ordering::SeqCst);
        }
        if page.inside.fetch_add(1, Ordering::SeqCst) != 0 {
            page.overlaps.fetch_add(1, Ordering::SeqCst);
        }
        std::thread::sleep(Duration::from_micros(50));
        page.rounds.fetch_add(1, Ordering::SeqCst);
        if round + 1 == ROUNDS {
            std::mem::forget(lock);
            return 0; // still inside
        }
        page.inside.fetch_sub(1, Ordering::SeqCst);
        if lock.release().is_err() {
            return 3;
        }
    }
    0
}

/// One namespace after the other, each with a first process.
fn namespaces(url: &str, page: &Page) -> i32 {
    // SAFETY: moves the children that this process will have; it has one thread.
    let apart = |flags| unsafe { libc::unshare(flags) } == 0;
    for _ in 0..LIVES {
        let maker = fork(|| {
            if !apart(libc::CLONE_NEWPID) && !apart(libc::CLONE_NEWUSER | libc::CLONE_NEWPID) {
                return 4;
            }
            exit_status(wait(fork(|| first_process(url, page))))
        });
        let status = exit_status(wait(maker));
        if status != 0 {
            return status;
        }
    }
    0
}

fn main() -> ExitCode {
    let folder = TempDir::within("/dev/shm", "namespaces");
    let url = format!("shm:{}/segment", folder.path().display());
    // SAFETY: atomics, for which zero is a value.
    let page = unsafe { SharedPage::<Page>::new() };
    let both = [(); 2].map(|()| fork(|| namespaces(&url, &page)));
    let statuses = both.map(|pid| exit_status(wait(pid)));
    let get = |count: &AtomicU64| count.load(Ordering::SeqCst);
    let mut verdict = Verdict::default();
    verdict.claim(
        statuses == [0, 0],
        "ends of the namespaces",
        format!("{statuses:?}"),
    );
    verdict.claim(
        get(&page.numbers) == 2 * LIVES,
        "processes of the number 1",
        get(&page.numbers),
    );
    verdict.claim(
        get(&page.rounds) == 2 * LIVES * ROUNDS,
        "rounds",
        get(&page.rounds),
    );
    verdict.claim(
        get(&page.overlaps) == 0,
        "double holds",
        get(&page.overlaps),
    );
    let told = get(&page.recovered);
    verdict.claim(
        told >= 2 * LIVES - 1,
        "deaths that the next was told of",
        told,
    );
    verdict.finish()
}
