//! Row 7, Rust: what a forked child does with an inherited lock never disturbs the parent's, and
//! never keeps the lock after the parent. On this host's stores, or on the kinds that are named.

#[path = "fork_servers.rs"]
mod fork_servers;
#[path = "fork_uncertain.rs"]
mod fork_uncertain;

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use synlock_core::{Code, Lock, Result, State, Store, Wait};
use synlock_tests::load::most;
use synlock_tests::names::{TempDir, unique};
use synlock_tests::page::SharedPage;
use synlock_tests::process::{exit_status, fork, is_full_load, nanos, signal, wait};
use synlock_tests::torture::Verdict;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Fate {
    Exits,
    DropsHandle,
    Releases,
    Executes,
    IsKilled,
    OutlivesRelease,
    OutlivesParent,
}

const FATES: [Fate; 7] = [
    Fate::Exits,
    Fate::DropsHandle,
    Fate::Releases,
    Fate::Executes,
    Fate::IsKilled,
    Fate::OutlivesRelease,
    Fate::OutlivesParent,
];

/// How long after its end a lock may still be refused.
const FREED: Duration = Duration::from_millis(100);

struct Page {
    held: AtomicBool,
    /// Set before the parent releases or dies.
    ending: AtomicBool,
    ended: AtomicU64,
    child_is_right: AtomicBool,
    child_done: AtomicBool,
    /// A child that outlives something lives until then.
    over: AtomicBool,
    premature: AtomicBool,
    late: AtomicBool,
}

fn pause() {
    std::thread::sleep(Duration::from_micros(200));
}

fn until(flag: &AtomicBool) -> bool {
    let end = nanos() + 60_000_000_000;
    while !flag.load(Ordering::SeqCst) {
        if nanos() > end {
            return false;
        }
        pause();
    }
    true
}

/// Ends the child if that is its fate, and waits for it, unless it lives on; whether it ended as it should.
fn meets_its_fate(pid: libc::pid_t, fate: Fate) -> bool {
    let expected = match fate {
        Fate::OutlivesRelease | Fate::OutlivesParent => return true,
        Fate::IsKilled => {
            signal(pid, libc::SIGKILL);
            -libc::SIGKILL
        }
        _ => 0,
    };
    exit_status(wait(pid)) == expected
}

fn refuses<T>(result: Result<T>) -> bool {
    result.is_err_and(|error| error.code() == Code::ForkedHandle)
}

/// Whether all that can be asked of a handle of the parent's is refused, but for its release.
fn is_forked(lock: &Lock) -> bool {
    lock.state() == State::Forked
        && refuses(lock.ensure_held())
        && refuses(lock.is_acquired())
        && refuses(lock.acquire(Wait::No, None))
        && refuses(lock.acquire_at_once())
        && refuses(lock.refresh(None))
        && refuses(lock.promote(Wait::No))
        && refuses(lock.demote())
        && refuses(lock.export())
        && refuses(lock.abandon())
        && refuses(lock.lost_fd())
        && refuses(lock.on_lost(|| {}))
        && lock.fencing_token().is_none()
        && lock.owner_token().is_none()
        && lock.remaining().is_none()
}

/// Takes a lock that nobody holds. A try is told that it is busy where the row of a table is in another
/// client's transaction, who cleans up, at that moment.
fn gets(lock: &Lock) -> bool {
    let end = nanos() + 20_000_000_000;
    loop {
        match lock.try_acquire() {
            Ok(Some(_)) => return true,
            Ok(None) if nanos() < end => pause(),
            _ => return false,
        }
    }
}

/// What every child must find, whatever it does afterwards.
fn is_right(held: &Lock, idle: &Lock, store: &Store) -> bool {
    let fresh = store.lock("another").expect("a lock");
    is_forked(held)
        && idle.state() == State::Idle
        && gets(idle)
        && idle.release().is_ok()
        && gets(&fresh)
        && fresh.release().is_ok()
}

fn child(fate: Fate, held: Lock, idle: Lock, store: Store, page: &Page) -> i32 {
    page.child_is_right
        .store(is_right(&held, &idle, &store), Ordering::SeqCst);
    match fate {
        Fate::DropsHandle => drop(held),
        Fate::Releases => {
            let refused = refuses(held.release());
            page.child_is_right.fetch_and(refused, Ordering::SeqCst);
            std::mem::forget(held);
        }
        _ => std::mem::forget(held),
    }
    page.child_done.store(true, Ordering::SeqCst);
    match fate {
        Fate::Executes => {
            let error = Command::new("sleep").arg("0.02").exec();
            panic!("sleep: {error}");
        }
        Fate::IsKilled => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        Fate::OutlivesRelease | Fate::OutlivesParent => {
            // SAFETY: lets this child live on when its parent dies.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0) };
            until(&page.over);
        }
        // With the exit handlers of the parent's program.
        Fate::Exits => std::process::exit(0),
        Fate::DropsHandle | Fate::Releases => {}
    }
    0
}

/// The process that holds the lock. A contender of its own is asked where another process could not
/// be one (`memory:`).
fn parent(url: &str, fate: Fate, page: &Page, contends: bool) -> i32 {
    let store = Store::open(url).expect("a store");
    let held = store.lock("x").expect("a lock");
    let idle = store.lock("idle").expect("a lock");
    let contender = store.lock("x").expect("a lock");
    held.acquire(Wait::For(Duration::from_secs(5)), None)
        .expect("the lock is free");
    page.held.store(true, Ordering::SeqCst);
    let pid = fork(|| {
        child(
            fate,
            // The child's copies of the parent's handles, whose destructors it owns.
            copy(&held),
            copy(&idle),
            store.clone(),
            page,
        )
    });
    if !until(&page.child_done) {
        return 3;
    }
    if !meets_its_fate(pid, fate) {
        return 4;
    }
    for _ in 0..15 {
        pause();
        if contends && contender.try_acquire().is_ok_and(|got| got.is_some()) {
            page.premature.store(true, Ordering::SeqCst);
        }
    }
    if held.ensure_held().is_err() {
        return 5;
    }
    page.ending.store(true, Ordering::SeqCst);
    if fate == Fate::OutlivesParent {
        page.ended.store(nanos(), Ordering::SeqCst);
        signal(std::process::id() as libc::pid_t, libc::SIGKILL);
    }
    let released = held.release().is_ok();
    page.ended.store(nanos(), Ordering::SeqCst);
    if contends {
        let free = contender.try_acquire().is_ok_and(|got| got.is_some());
        page.late.store(!free, Ordering::SeqCst);
    }
    i32::from(!released) * 6
}

/// A handle as a fork copies it: the same bytes, so that the child drops what the parent made.
fn copy(lock: &Lock) -> Lock {
    // SAFETY: called in the forked child, where the original is never used or dropped.
    unsafe { std::ptr::read(lock) }
}

#[derive(Default)]
struct Tally {
    premature: u32,
    late: u32,
    wrong_in_child: u32,
    crashed: u32,
    rounds: u32,
    slowest: Duration,
}

impl Tally {
    fn claim(&self, kind: &str, fate: Fate, verdict: &mut Verdict) {
        verdict.claim(
            self.premature + self.late + self.wrong_in_child + self.crashed == 0,
            &format!("{kind} child {fate:?}"),
            format!(
                "{} rounds: {} premature, {} late (slowest {:?}), {} wrong in the child, {} crashed",
                self.rounds, self.premature, self.late, self.slowest, self.wrong_in_child, self.crashed
            ),
        );
    }
}

fn round(url: &str, fate: Fate, is_shared: bool, tally: &mut Tally) {
    // SAFETY: atomics, for which zero is a value.
    let page = unsafe { SharedPage::<Page>::new() };
    let contender = Store::open(url)
        .and_then(|store| store.lock("x"))
        .expect("a lock");
    let pid = fork(|| parent(url, fate, &page, !is_shared));
    let held = until(&page.held);
    let mut freed = None;
    if is_shared && held {
        let end = nanos() + 120_000_000_000;
        let patience = 2 * most(FREED).as_nanos() as u64;
        let is_late = || match page.ended.load(Ordering::SeqCst) {
            0 => nanos() > end,
            at => nanos() > at + patience,
        };
        while freed.is_none() && !is_late() {
            if contender.try_acquire().is_ok_and(|got| got.is_some()) {
                if page.ending.load(Ordering::SeqCst) {
                    freed = Some(nanos());
                } else {
                    page.premature.store(true, Ordering::SeqCst);
                    break;
                }
                let _ = contender.release();
            } else {
                pause();
            }
        }
    }
    let status = exit_status(wait(pid));
    page.over.store(true, Ordering::SeqCst);
    let expected = if fate == Fate::OutlivesParent {
        -libc::SIGKILL
    } else {
        0
    };
    tally.rounds += 1;
    tally.crashed += u32::from(status != expected || !held);
    tally.premature += u32::from(page.premature.load(Ordering::SeqCst));
    tally.wrong_in_child += u32::from(!page.child_is_right.load(Ordering::SeqCst));
    let mut late = page.late.load(Ordering::SeqCst);
    if is_shared {
        let waited = freed.map(|at| at.saturating_sub(page.ended.load(Ordering::SeqCst)));
        let waited = waited.map_or(Duration::MAX, Duration::from_nanos);
        tally.slowest = tally.slowest.max(waited);
        late |= waited > most(FREED);
    }
    tally.late += u32::from(late);
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if !words.is_empty() {
        return fork_servers::run(&words);
    }
    let rounds = if is_full_load() { 100 } else { 3 };
    synlock_tests::ipc::set_apart();
    let dir = TempDir::new("forks");
    let stores = [
        (format!("flock:{}", dir.path().display()), true),
        (format!("flock:{}?fencing=1", dir.path().display()), true),
        (format!("shm:{}/segment", dir.path().display()), true),
        (format!("sysv:{}", unique("forks")), true),
        ("sysv:?dialect=symfony".to_owned(), true),
        (format!("memory:{}", unique("forks")), false),
    ];
    let mut verdict = Verdict::default();
    for (url, is_shared) in stores {
        for fate in FATES {
            let mut tally = Tally::default();
            for _ in 0..rounds {
                if tally.late > 0 {
                    break;
                }
                round(&url, fate, is_shared, &mut tally);
            }
            let kind = url.split(':').next().unwrap_or_default();
            tally.claim(kind, fate, &mut verdict);
        }
    }
    verdict.finish()
}
