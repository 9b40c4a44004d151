//! Rows 10 and 24: 16 processes take 16 locks of a server (`redis`, `postgres`, `mysql`) or a database
//! (`sqlite`) with a TTL of 300 ms; one is killed every 50 ms. Exclusion is judged by what each holder was promised: until its lease's end or its release.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use synlock_core::{Code, LockOptions, Store, Wait};
use synlock_tests::history::{Answer, Judgement, Kind, Orphans, Tapes, judge};
use synlock_tests::load::{Stretch, most};
use synlock_tests::page::SharedPage;
use synlock_tests::places::place;
use synlock_tests::process::{exit_status, fork, is_full_load, nanos, signal, wait};
use synlock_tests::torture::Verdict;

const NAMES: usize = 16;
const WORKERS: usize = 16;
const MOST: usize = 1 << 16;
/// One set of tapes for each name.
type Notes = [Tapes<{ 1 << 12 }, { 1 << 13 }>; NAMES];
const TTL: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_millis(500);
/// More than it takes to say that one is inside.
const MARGIN: Duration = Duration::from_millis(20);

struct Name {
    holder: AtomicU64,
    until: AtomicU64,
    fence: AtomicU64,
}

struct Page {
    stop: AtomicU8,
    names: [Name; NAMES],
    grants: AtomicU64,
    overlaps: AtomicU64,
    regressions: AtomicU64,
    errors: AtomicU64,
    refused: AtomicU64,
    stolen: AtomicU64,
    dead: [AtomicU8; MOST],
}

fn work(url: &str, page: &Page, notes: &Notes, me: u64) -> i32 {
    let store = Store::open(url).expect("a store");
    let mut options = LockOptions::default();
    options.ttl = Some(TTL);
    let locks: Vec<_> = (0..NAMES)
        .map(|number| {
            store
                .lock_with(format!("n{number}"), options.clone())
                .expect("a lock")
        })
        .collect();
    let mut turn = me as usize;
    while page.stop.load(SeqCst) == 0 {
        turn = turn.wrapping_mul(5).wrapping_add(3);
        let (lock, name) = (&locks[turn % NAMES], &page.names[turn % NAMES]);
        let tape = notes[turn % NAMES].of(me);
        let began = nanos();
        tape.begin(Kind::Acquire, began);
        let acquired = lock.acquire(Wait::For(PATIENCE), None);
        let now = nanos();
        let acquired = match acquired {
            Ok(acquired) => {
                tape.end(Answer::Done, acquired.fence.unwrap_or(0), now);
                acquired
            }
            Err(error) if matches!(error.code(), Code::Timeout | Code::Busy) => {
                tape.end(Answer::Busy, 0, now);
                page.refused.fetch_add(1, SeqCst);
                continue;
            }
            // The answer was late, on a machine that does other work: the judge may think either way.
            Err(error)
                if error.code() == Code::Uncertain && now - began >= PATIENCE.as_nanos() as u64 =>
            {
                page.refused.fetch_add(1, SeqCst);
                continue;
            }
            Err(error) => {
                eprintln!("FAIL worker {me}: {error:?}");
                page.errors.fetch_add(1, SeqCst);
                continue;
            }
        };
        let until = nanos() + lock.remaining().map_or(0, |left| left.as_nanos() as u64);
        // Given so late that the next may have it before this one can say that it is inside.
        if until < nanos() + MARGIN.as_nanos() as u64 {
            tape.begin(Kind::Release, nanos().min(until));
            if lock.release().is_ok() {
                tape.end(Answer::Done, 0, nanos());
            }
            continue;
        }
        let (before, ended) = (name.holder.swap(me, SeqCst), name.until.swap(until, SeqCst));
        if before != 0 && nanos() < ended && page.dead[before as usize].load(SeqCst) == 0 {
            page.overlaps.fetch_add(1, SeqCst);
        }
        let fence = acquired.fence.unwrap_or(0);
        if name.fence.swap(fence, SeqCst) >= fence {
            page.regressions.fetch_add(1, SeqCst);
        }
        page.grants.fetch_add(1, SeqCst);
        if turn.is_multiple_of(64) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let ours = name.holder.compare_exchange(me, 0, SeqCst, SeqCst).is_ok();
        if !ours && nanos() < until {
            page.overlaps.fetch_add(1, SeqCst);
        }
        // What was promised ends with the lease.
        tape.begin(Kind::Release, nanos().min(until));
        match lock.release() {
            Ok(_) => tape.end(Answer::Done, 0, nanos()),
            // Whoever was put to sleep by the machine for longer than the lease has lost it.
            Err(error) if error.code() == Code::Lost && nanos() >= until => {}
            Err(error) => {
                eprintln!("FAIL worker {me}: release: {error:?}");
                page.stolen.fetch_add(1, SeqCst);
            }
        }
    }
    0
}

/// How long a lock stays taken after its holder was killed.
fn freed_after(url: &str) -> Duration {
    // SAFETY: an atomic, for which zero is a value.
    let ready = unsafe { SharedPage::<AtomicU64>::new() };
    let mut options = LockOptions::default();
    options.ttl = Some(TTL);
    let holder = fork(|| {
        let store = Store::open(url).expect("a store");
        let lock = store.lock_with("killed", options.clone()).expect("a lock");
        lock.try_acquire().expect("a free lock");
        ready.store(1, SeqCst);
        std::thread::sleep(Duration::from_secs(60));
        0
    });
    while ready.load(SeqCst) == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let start = Instant::now();
    signal(holder, libc::SIGKILL);
    wait(holder);
    let next = fork(|| {
        let store = Store::open(url).expect("a store");
        let lock = store.lock("killed").expect("a lock");
        i32::from(
            lock.acquire(Wait::For(Duration::from_secs(5)), None)
                .is_err(),
        )
    });
    assert_eq!(exit_status(wait(next)), 0, "the next one gets it");
    start.elapsed()
}

fn median_of_five(measure: impl Fn() -> Duration) -> Duration {
    let mut five: [Duration; 5] = std::array::from_fn(|_| measure());
    five.sort();
    five[2]
}

/// How many grants are asked for at full load.
fn least(kind: &str) -> u64 {
    match kind {
        "postgres" | "mysql" | "sqlite" => 20_000,
        _ => 100_000,
    }
}

fn main() -> ExitCode {
    let kind = std::env::args().nth(1).unwrap_or("native".to_owned());
    let ((url, _keep), least) = (place(&kind), least(&kind));
    let full = is_full_load();
    let share = if full { 1 } else { 50 };
    let bound = most(TTL + Duration::from_millis(50));
    // Work of others on this machine only makes it later: then it is measured again.
    let freed = (0..4)
        .map(|_| median_of_five(|| freed_after(&url)))
        .find(|freed| *freed <= bound);
    // SAFETY: atomics, for which zero is a value.
    let page = unsafe { SharedPage::<Page>::new() };
    let notes: Notes = std::array::from_fn(|_| Tapes::new());
    let mut died: HashMap<u64, u64> = HashMap::new();
    let mut number = 0;
    let mut start = || {
        number += 1;
        (number, fork(|| work(&url, &page, &notes, number)))
    };
    let mut workers: Vec<_> = (0..WORKERS).map(|_| start()).collect();
    let stretch = Stretch::of(Duration::from_millis(if full { 120_000 } else { 3_000 }));
    let mut kills = 0;
    while stretch.goes_on(|| kills >= 1_000 / share && page.grants.load(SeqCst) >= least / share) {
        std::thread::sleep(Duration::from_millis(50));
        let victim = kills as usize * 7 % WORKERS;
        let (number, pid) = workers[victim];
        page.dead[number as usize].store(1, SeqCst);
        died.insert(number, nanos());
        signal(pid, libc::SIGKILL);
        wait(pid);
        kills += 1;
        workers[victim] = start();
    }
    page.stop.store(1, SeqCst);
    let crashed = workers
        .iter()
        .filter(|(_, pid)| exit_status(wait(*pid)) != 0)
        .count();
    let count = |counter: &AtomicU64| counter.load(SeqCst);
    let mut verdict = Verdict::default();
    verdict.claim(
        count(&page.overlaps) == 0,
        "overlaps",
        count(&page.overlaps),
    );
    verdict.claim(
        count(&page.regressions) == 0,
        "tokens not greater",
        count(&page.regressions),
    );
    verdict.claim(
        count(&page.stolen) == 0,
        "holds taken within the lease",
        count(&page.stolen),
    );
    verdict.claim(count(&page.errors) == 0, "errors", count(&page.errors));
    verdict.claim(crashed == 0, "crashed workers", crashed);
    verdict.claim(
        count(&page.grants) >= least / share,
        "grants",
        count(&page.grants),
    );
    let judged = notes.iter().fold(Judgement::default(), |sum, tapes| {
        let ops = tapes.read(|worker| died.get(&worker).copied());
        sum.and(&judge(&ops, Orphans::End))
    });
    verdict.claim_history(&judged, least as usize / 50);
    verdict.claim(kills >= 1_000 / share, "kills", kills);
    verdict.claim(
        freed.is_some(),
        "a killed holder's lock is free after (median)",
        freed.map_or(format!("more than {bound:?}"), |freed| format!("{freed:?}")),
    );
    verdict.finish()
}
