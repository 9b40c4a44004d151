//! Row 11: a holder sleeps for 1.5 × its TTL (SIGSTOP) while another writes to what the lock
//! protects; its own late write is refused by its old token, and its handle says that it has lost.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use synlock_core::{Code, LockOptions, Store, Wait};
use synlock_tests::load::patient;
use synlock_tests::page::{FencedResource, SharedPage};
use synlock_tests::process::{exit_status, fork, is_full_load, signal, wait};
use synlock_tests::redis::RedisServer;
use synlock_tests::torture::Verdict;

const TTL: Duration = Duration::from_millis(200);
/// Long enough for any machine.
const PATIENCE: Wait = Wait::For(Duration::from_secs(60));

struct Page {
    step: AtomicU64,
    resource: FencedResource,
}

fn reach(step: &AtomicU64, wanted: u64) {
    while step.load(SeqCst) < wanted {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn main() -> ExitCode {
    let server = RedisServer::start();
    let url = patient(&server.url());
    let rounds = if is_full_load() { 300 } else { 6 };
    let mut options = LockOptions::default();
    options.ttl = Some(TTL);
    let (mut stale, mut told) = (0, 0);
    for _ in 0..rounds {
        // SAFETY: atomics, for which zero is a value.
        let page = unsafe { SharedPage::<Page>::new() };
        let sleeper = fork(|| {
            let store = Store::open(&url).expect("a store");
            let lock = store.lock_with("n", options.clone()).expect("a lock");
            let held = lock.acquire(PATIENCE, None).expect("the lock");
            let fence = held.fence.expect("a token");
            page.resource.write(1, fence);
            page.step.store(1, SeqCst);
            reach(&page.step, 2);
            let written = page.resource.write(1, fence);
            let lost = lock
                .ensure_held()
                .is_err_and(|error| error.code() == Code::Lost);
            i32::from(written) | i32::from(lost) << 1
        });
        reach(&page.step, 1);
        signal(sleeper, libc::SIGSTOP);
        std::thread::sleep(TTL + TTL / 2);
        let other = fork(|| {
            let store = Store::open(&url).expect("a store");
            let lock = store.lock("n").expect("a lock");
            let held = lock.acquire(PATIENCE, None).expect("the lock");
            let written = page.resource.write(2, held.fence.expect("a token"));
            lock.release().expect("a release");
            i32::from(!written)
        });
        assert_eq!(exit_status(wait(other)), 0, "the next holder writes");
        page.step.store(2, SeqCst);
        signal(sleeper, libc::SIGCONT);
        let status = exit_status(wait(sleeper));
        stale += status & 1;
        told += status >> 1 & 1;
    }
    let mut verdict = Verdict::default();
    verdict.claim(
        stale == 0,
        "late writes taken",
        format!("{stale} of {rounds}"),
    );
    verdict.claim(told == rounds, "losses told", format!("{told} of {rounds}"));
    verdict.finish()
}
