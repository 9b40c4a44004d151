//! Rows 10, 23 and 24: 16 processes take 16 locks of a server or a database, and one is killed every 50 ms, or as
//! often as the store gets over it. Exclusion is judged by what each holder was promised: until its lease's end
//! (300 ms where the store has such) or its release; without leases until its release alone. Processes of `tiered`
//! are those of two hosts.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use synlock_core::{Code, Fence, LockOptions, Store, Wait};
use synlock_tests::history::{Answer, Judgement, Kind, Orphans, Tapes, judge};
use synlock_tests::load::{SOON, Stretch, most};
use synlock_tests::page::SharedPage;
use synlock_tests::places::{hosts, place};
use synlock_tests::process::{exit_status, fork, is_full_load, nanos, signal, wait};
use synlock_tests::services::zookeeper::{TICK, session};
use synlock_tests::torture::Verdict;

const NAMES: usize = 16;
const WORKERS: usize = 16;
const MOST: usize = 1 << 16;
/// One set of tapes for each name.
type Notes = [Tapes<{ 1 << 12 }, { 1 << 13 }>; NAMES];
const PATIENCE: Duration = Duration::from_millis(500);
/// More than it takes to say that one is inside.
const MARGIN: Duration = Duration::from_millis(20);

/// What a kind of store promises, and how fast it is.
#[derive(Clone, Copy)]
struct Promise {
    /// None where a hold ends with its owner's session.
    ttl: Option<Duration>,
    /// How long after its owner's death a lock may be taken at most.
    freed: Duration,
    /// How often one is killed.
    every: Duration,
    /// How many grants are asked for at full load.
    least: u64,
    /// Whether a refusal says that somebody has it: votes that are split say no such thing.
    busy_is_held: bool,
    /// What is not counted on of a lease: how long the machine may let the server's clock stand.
    late: Duration,
}

impl Promise {
    fn of(kind: &str) -> Self {
        let ms = Duration::from_millis;
        let leased = |ttl, more, every, least| Promise {
            ttl: Some(ms(ttl)),
            freed: ms(ttl + more),
            every: ms(every),
            least,
            busy_is_held: true,
            late: Duration::ZERO,
        };
        let of_session = |freed, every, least| Promise {
            ttl: None,
            freed,
            every: ms(every),
            least,
            busy_is_held: true,
            late: Duration::ZERO,
        };
        match kind {
            "postgres" | "mysql" | "sqlite" => leased(300, 50, 50, 20_000),
            // They count whole seconds, and so many that none is missing.
            // Whoever waits asks at the latest a quarter of a second after an item has ended.
            "memcached" if is_full_load() => leased(1_000, 2_300, 400, 5_000),
            // Its clock is a timer of its own, which others' requests may overtake after the machine stood still.
            "memcached" => Promise {
                late: ms(2_000),
                ..leased(3_000, 2_000, 400, 5_000)
            },
            "etcd" => leased(2_000, 2_000, 400, 5_000),
            "postgres+advisory" | "mysql+advisory" => of_session(ms(1_000), 50, 20_000),
            // A session goes once its time is up, at a tick of the server.
            "zookeeper" => of_session(ms(u64::from(session())) + TICK * 2, 400, 5_000),
            "quorum" => Promise {
                busy_is_held: false,
                ..leased(300, 50, 50, 20_000)
            },
            // The lease that the other host waits for is as long again.
            "tiered" => leased(300, 300 + 50, 50, 100_000),
            _ => leased(300, 50, 50, 100_000),
        }
    }

    fn options(self) -> LockOptions {
        let mut options = LockOptions::default();
        options.ttl = self.ttl;
        options
    }

    /// How many kills are asked for at full load, of those that its time has room for.
    fn kills(self) -> u64 {
        (50_000 / self.every.as_millis()) as u64
    }
}

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
    /// Grants without a token, of a store that says that it gives such.
    bare: AtomicU64,
    errors: AtomicU64,
    refused: AtomicU64,
    stolen: AtomicU64,
    dead: [AtomicU8; MOST],
}

fn work(url: &str, kind: Promise, page: &Page, notes: &Notes, me: u64) -> i32 {
    let store = Store::open(url).expect("a store");
    let options = kind.options();
    let has_tokens = store.capabilities().fence != Fence::None;
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
                if kind.busy_is_held {
                    tape.end(Answer::Busy, 0, now);
                }
                page.refused.fetch_add(1, SeqCst);
                continue;
            }
            // The answer was late, on a machine that does other work: the judge may think either way.
            Err(error)
                if matches!(error.code(), Code::Uncertain | Code::Unavailable)
                    && now - began >= PATIENCE.as_nanos() as u64 =>
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
        let until = match (kind.ttl, lock.remaining()) {
            (None, _) => u64::MAX,
            (_, left) => {
                let sure = left.map_or(Duration::ZERO, |left| left.saturating_sub(kind.late));
                nanos() + sure.as_nanos() as u64
            }
        };
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
        if let Some(fence) = acquired.fence
            && name.fence.swap(fence, SeqCst) >= fence
        {
            page.regressions.fetch_add(1, SeqCst);
        }
        let is_bare = has_tokens && acquired.fence.is_none();
        page.bare.fetch_add(is_bare.into(), SeqCst);
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

/// How long a lock stays taken after its holder was killed; by whoever is farthest away.
fn freed_after(urls: &[String], kind: Promise) -> Duration {
    let (here, there) = (&urls[0], &urls[urls.len() - 1]);
    // SAFETY: an atomic, for which zero is a value.
    let ready = unsafe { SharedPage::<AtomicU64>::new() };
    let holder = fork(|| {
        let store = Store::open(here).expect("a store");
        let lock = store.lock_with("killed", kind.options()).expect("a lock");
        lock.try_acquire().expect("a free lock");
        ready.store(1, SeqCst);
        std::thread::sleep(Duration::from_secs(60));
        0
    });
    while ready.load(SeqCst) == 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let next = |patience| {
        let other = fork(|| {
            let store = Store::open(there).expect("a store");
            let lock = store.lock_with("killed", kind.options()).expect("a lock");
            i32::from(lock.acquire(patience, None).is_err())
        });
        exit_status(wait(other)) == 0
    };
    // A lease may end meanwhile.
    assert!(kind.ttl.is_some() || !next(Wait::No), "held and free");
    let start = Instant::now();
    signal(holder, libc::SIGKILL);
    wait(holder);
    assert!(next(Wait::For(SOON)), "the next one gets it");
    start.elapsed()
}

/// How long the locks of killed holders stayed taken: of half of them at most, of all but one of twenty, of any.
#[derive(Debug)]
struct Freed([Duration; 3]);

impl Freed {
    fn of(rounds: usize, urls: &[String], kind: Promise) -> Self {
        let mut all: Vec<_> = (0..rounds).map(|_| freed_after(urls, kind)).collect();
        all.sort();
        Freed([rounds / 2, (rounds * 19).div_ceil(20) - 1, rounds - 1].map(|at| all[at]))
    }

    /// The machine is late itself now and then; what a store leaves over is late in each round.
    fn is_within(&self, bound: Duration) -> bool {
        self.0[1] <= bound
    }
}

/// Row 23: clients of advisory locks are killed one by one, and each one's lock is free soon.
fn kill_clients(urls: &[String], kind: Promise) -> ExitCode {
    let rounds = if is_full_load() { 300 } else { 6 };
    let late = (0..rounds)
        .map(|_| freed_after(urls, kind))
        .filter(|freed| *freed > most(kind.freed))
        .count();
    let mut verdict = Verdict::default();
    verdict.claim(
        late == 0,
        "locks of killed clients that were not free soon",
        late,
    );
    verdict.finish()
}

fn main() -> ExitCode {
    let name = std::env::args().nth(1).unwrap_or("native".to_owned());
    let ((url, _keep), kind) = (place(&name), Promise::of(&name));
    let urls = hosts(&url);
    if std::env::args().nth(2).as_deref() == Some("clients") {
        return kill_clients(&urls, kind);
    }
    let (least, least_kills) = (kind.least, kind.kills());
    let full = is_full_load();
    let share = if full { 1 } else { 50 };
    let bound = most(kind.freed);
    // Where it takes seconds, once is enough at the quick load to tell it from never.
    let rounds = match (full, kind.freed < Duration::from_secs(1)) {
        (true, true) => 40,
        (true, false) => 20,
        (false, true) => 5,
        (false, false) => 1,
    };
    // Work of others on this machine only makes it later: then it is measured again.
    let mut freed = Freed::of(rounds, &urls, kind);
    for _ in 0..3 {
        if !freed.is_within(bound) {
            freed = Freed::of(rounds, &urls, kind);
        }
    }
    // SAFETY: atomics, for which zero is a value.
    let page = unsafe { SharedPage::<Page>::new() };
    let notes: Notes = std::array::from_fn(|_| Tapes::new());
    let mut died: HashMap<u64, u64> = HashMap::new();
    let mut number = 0;
    let mut start = || {
        number += 1;
        let url = &urls[number as usize % urls.len()];
        (number, fork(|| work(url, kind, &page, &notes, number)))
    };
    let mut workers: Vec<_> = (0..WORKERS).map(|_| start()).collect();
    let stretch = Stretch::of(Duration::from_millis(if full { 120_000 } else { 3_000 }));
    let mut kills = 0;
    while stretch
        .goes_on(|| kills >= least_kills / share && page.grants.load(SeqCst) >= least / share)
    {
        std::thread::sleep(kind.every);
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
    let bare = count(&page.bare);
    verdict.claim(bare == 0, "grants without a token", bare);
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
    verdict.claim(kills >= least_kills / share, "kills", kills);
    verdict.claim(
        freed.is_within(bound),
        "killed holders' locks are free after (median, 95 %, worst)",
        format!("{:?} of {rounds}, at most {bound:?}", freed.0),
    );
    verdict.finish()
}
