//! Row 29: 256 waiters on one lock, with random time limits, cancels, and a signal every millisecond. `row29-waiters flock|memory|shm|sysv|redis|URL`.
//!
//! A store of one process gets 256 threads, any other 8 processes of 32 threads.

use std::any::Any;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::Duration;
use synlock_core::{BootTime, Cancel, Code, Lock, LockOptions, Scope, Store, Wait};
use synlock_tests::load::{Bystander, SOON, Stretch, most};
use synlock_tests::names::{TempDir, unique};
use synlock_tests::page::SharedPage;
use synlock_tests::places;
use synlock_tests::process::{exit_status, fork, is_full_load, nanos, wait};
use synlock_tests::torture::{Random, Verdict};

const WAITERS: usize = 256;
const PROCESSES: usize = 8;
/// The bar's bound for a cancel.
const QUICK_CANCEL: Duration = Duration::from_millis(200);
/// What comes so late came of a poll, not of a wake-up.
const SLOW_WAKE: Duration = Duration::from_millis(200);

#[derive(Default)]
struct Page {
    stop: AtomicBool,
    inside: AtomicU64,
    overlaps: AtomicU64,
    grants: AtomicU64,
    last_grant: AtomicU64,
    stall: AtomicU64,
    timeouts: AtomicU64,
    early: AtomicU64,
    late_by: AtomicU64,
    cancels: AtomicU64,
    cancel_took: AtomicU64,
    interrupts: AtomicU64,
    turn_took: AtomicU64,
    errors: AtomicU64,
    pairs: AtomicU64,
    asking: [AtomicU64; PROCESSES / 2],
    released: [AtomicU64; PROCESSES / 2],
    wake_took: AtomicU64,
    slow_wakes: AtomicU64,
    has_server: AtomicBool,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Page {
    /// A server that has not answered when the time is over is told of, and that is no error. Any other end is
    /// that the lock was not free; one that comes early is counted.
    fn is_time_over(&self, code: Code, took: u64, limit: Duration) -> bool {
        match code {
            Code::Timeout | Code::Busy => true,
            Code::Unavailable | Code::Uncertain => {
                self.has_server.load(Ordering::Relaxed) && took >= limit.as_nanos() as u64
            }
            _ => false,
        }
    }

    fn hold(&self, lock: &Lock, random: &mut Random) {
        if self.inside.fetch_add(1, Ordering::SeqCst) != 0 {
            count(&self.overlaps);
        }
        let now = nanos();
        let before = self.last_grant.swap(now, Ordering::Relaxed);
        self.stall
            .fetch_max(now.saturating_sub(before), Ordering::Relaxed);
        count(&self.grants);
        if random.below(4) == 0 {
            std::thread::sleep(Duration::from_micros(300));
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
        if let Err(error) = lock.release() {
            eprintln!("FAIL {error:?}");
            count(&self.errors);
        }
    }

    fn ended(&self, error: &synlock_core::Error, started: u64, limit: Option<Duration>) {
        let took = nanos() - started;
        match (error.code(), limit) {
            (code, Some(limit)) if self.is_time_over(code, took, limit) => {
                count(&self.timeouts);
                let limit = limit.as_nanos() as u64;
                if took < limit {
                    count(&self.early);
                }
                self.late_by
                    .fetch_max(took.saturating_sub(limit), Ordering::Relaxed);
            }
            (Code::Cancelled, _) => count(&self.cancels),
            _ => {
                let took = Duration::from_nanos(took);
                eprintln!("FAIL after {took:?} of {limit:?}: {error:?}");
                count(&self.errors);
            }
        }
    }

    fn with_limit(&self, lock: &Lock, random: &mut Random) {
        let limit = Duration::from_millis(1 + random.below(120) as u64);
        let started = nanos();
        match lock.acquire(Wait::For(limit), None) {
            Ok(_) => self.hold(lock, random),
            Err(error) => self.ended(&error, started, Some(limit)),
        }
    }

    fn cancelled(&self, lock: &Lock, random: &mut Random) {
        let cancel = Cancel::new();
        let thrown = AtomicU64::new(0);
        let after = Duration::from_millis(random.below(60) as u64);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(after);
                thrown.store(nanos(), Ordering::SeqCst);
                cancel.cancel();
            });
            let started = nanos();
            match lock.acquire(Wait::Forever, Some(&cancel)) {
                Ok(_) => self.hold(lock, random),
                Err(error) => {
                    let took = nanos().saturating_sub(thrown.load(Ordering::SeqCst));
                    self.cancel_took.fetch_max(took, Ordering::Relaxed);
                    self.ended(&error, started, None);
                }
            }
        });
    }

    /// One of two that take turns: each releases when the other waits, and only that can end its wait: nobody
    /// else comes by and looks.
    fn pair(&self, lock: &Lock, pair: usize) {
        let (asking, released) = (&self.asking[pair], &self.released[pair]);
        while !self.stop.load(Ordering::Relaxed) {
            let started = nanos();
            asking.fetch_add(1, Ordering::SeqCst);
            let answer = lock.acquire(Wait::For(SOON), None);
            asking.fetch_sub(1, Ordering::SeqCst);
            match answer {
                Ok(_) => {
                    self.woken(nanos(), released.swap(0, Ordering::SeqCst));
                    let until = |other: u64| {
                        while asking.load(Ordering::SeqCst) != other
                            && !self.stop.load(Ordering::Relaxed)
                        {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    };
                    until(1);
                    // It sleeps by then.
                    std::thread::sleep(Duration::from_millis(20));
                    released.store(nanos(), Ordering::SeqCst);
                    if let Err(error) = lock.release() {
                        self.ended(&error, started, None);
                    }
                    // The other has it, even where newcomers may barge.
                    until(0);
                }
                Err(error) => self.ended(&error, started, None),
            }
        }
    }

    /// A turn of a pair, by when the other had released; 0 for the first.
    fn woken(&self, now: u64, released: u64) {
        if released != 0 {
            let took = now.saturating_sub(released);
            self.wake_took.fetch_max(took, Ordering::Relaxed);
            if took > SLOW_WAKE.as_nanos() as u64 {
                count(&self.slow_wakes);
            }
            count(&self.pairs);
        }
    }

    /// As a language binding waits: the call comes back for its host, and is made again.
    fn interrupted(&self, lock: &Lock, random: &mut Random) {
        let until = BootTime::now().after(Duration::from_millis(300));
        loop {
            let (started, left) = (nanos(), until.left());
            let answer = lock.acquire(Wait::For(left), None);
            self.turn_took
                .fetch_max(nanos() - started, Ordering::Relaxed);
            match answer {
                Ok(_) => return self.hold(lock, random),
                Err(error) if error.code() == Code::Interrupted => count(&self.interrupts),
                Err(error) => return self.ended(&error, started, Some(left)),
            }
            if self.stop.load(Ordering::Relaxed) {
                let _ = lock.abandon();
                return;
            }
        }
    }
}

extern "C" fn nothing(_signal: i32) {}

/// Makes SIGALRM interrupt calls, and do nothing else.
fn handle_signals() {
    // SAFETY: installs a handler that does nothing; the structure is valid for the call.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
        libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
    }
}

fn work(url: &str, page: &Page, threads: usize, seed: u64, pairs: &[usize]) -> i32 {
    let store = Store::open(url).expect("a store");
    handle_signals();
    let ids: Vec<AtomicI32> = (0..threads).map(|_| AtomicI32::new(0)).collect();
    std::thread::scope(|scope| {
        for (thread, id) in ids.iter().enumerate() {
            let store = &store;
            scope.spawn(move || {
                // SAFETY: asks for a number.
                id.store(unsafe { libc::gettid() }, Ordering::SeqCst);
                let plain = store.lock("x").expect("a lock");
                let mut options = LockOptions::default();
                options.interruptible = true;
                let turns = store.lock_with("x", options).expect("a lock");
                let mut random = Random(seed.wrapping_mul(2 * thread as u64 + 1) | 1);
                while !page.stop.load(Ordering::Relaxed) {
                    match random.below(8) {
                        0..=3 => page.with_limit(&plain, &mut random),
                        4 | 5 => page.interrupted(&turns, &mut random),
                        _ => page.cancelled(&plain, &mut random),
                    }
                }
            });
        }
        for pair in pairs {
            let lock = store.lock(format!("pair-{pair}")).expect("a lock");
            let pair = *pair;
            scope.spawn(move || page.pair(&lock, pair));
        }
        // A timer's signal would nearly always go to one thread; this one goes to each in turn.
        for id in ids.iter().cycle() {
            if page.stop.load(Ordering::Relaxed) {
                break;
            }
            let id = id.load(Ordering::SeqCst);
            if id != 0 {
                // SAFETY: signals a thread of this process, which has a handler.
                unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), id, libc::SIGALRM) };
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    0
}

/// The slowest of some cancels of waits that nothing else ends.
fn cancel_while_held(url: &str) -> Duration {
    let store = Store::open(url).expect("a store");
    let holder = store.lock("held").expect("a lock");
    holder.acquire(Wait::No, None).expect("it is free");
    let cancel = Cancel::new();
    let ended = AtomicU64::new(0);
    let thrown = std::thread::scope(|scope| {
        for _ in 0..PROCESSES {
            scope.spawn(|| {
                let lock = store.lock("held").expect("a lock");
                let error = lock
                    .acquire(Wait::Forever, Some(&cancel))
                    .expect_err("it is held");
                assert_eq!(error.code(), Code::Cancelled, "{error:?}");
                ended.fetch_max(nanos(), Ordering::SeqCst);
            });
        }
        // Until they wait; one that does not yet is ended all the sooner.
        std::thread::sleep(Duration::from_millis(100));
        let thrown = nanos();
        cancel.cancel();
        thrown
    });
    Duration::from_nanos(ended.load(Ordering::SeqCst).saturating_sub(thrown))
}

fn of_this_host(word: &str, dir: &TempDir, memory: &TempDir) -> String {
    match word {
        "flock" => format!("flock:{}", dir.path().display()),
        "shm" => format!("shm:{}/segment", memory.path().display()),
        "sysv" => format!("sysv:{}", unique("waiters")),
        "memory" => format!("memory:{}", unique("waiters")),
        url => url.to_owned(),
    }
}

fn main() -> ExitCode {
    synlock_tests::ipc::set_apart();
    let dir = TempDir::new("waiters");
    let memory = TempDir::within("/dev/shm", "waiters");
    let word = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "flock".to_owned());
    let (url, _server) = match word.as_str() {
        "redis" => {
            let (url, server) = places::place("redis");
            // What the server takes longer than that for is trouble, which is not what this row is about.
            (format!("{url}?io_timeout={}", SOON.as_millis()), server)
        }
        word => (
            of_this_host(word, &dir, &memory),
            Box::new(()) as Box<dyn Any>,
        ),
    };
    let scope = Store::open(&url).expect("a store").capabilities().scope;
    let processes = if scope == Scope::Process {
        1
    } else {
        PROCESSES
    };
    // SAFETY: atomics, for which zero is a value.
    let page = unsafe { SharedPage::<Page>::new() };
    page.has_server
        .store(scope == Scope::Cluster, Ordering::SeqCst);
    let full = is_full_load();
    page.last_grant.store(nanos(), Ordering::SeqCst);
    let workers: Vec<_> = (0..processes)
        .map(|process| {
            let seed = nanos();
            let pairs = if processes == 1 {
                vec![0, 0]
            } else {
                vec![process / 2]
            };
            fork(|| work(&url, &page, WAITERS / processes, seed, &pairs))
        })
        .collect();
    let get = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    let share = if full { 1 } else { 50 };
    let figures = [
        ("grants", &page.grants, 20_000 / share),
        ("time limits that passed", &page.timeouts, 2_000 / share),
        ("cancelled", &page.cancels, 1_000 / share),
        ("turns of two", &page.pairs, 1_000 / share),
        ("interrupted", &page.interrupts, 1_000 / share),
    ];
    let bystander = Bystander::start();
    let stretch = Stretch::of(Duration::from_millis(if full { 60_000 } else { 1_500 }));
    while stretch.goes_on(|| figures.iter().all(|(_, done, least)| get(done) >= *least)) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let stopped = nanos();
    page.stop.store(true, Ordering::SeqCst);
    let crashed = workers
        .into_iter()
        .filter(|pid| exit_status(wait(*pid)) != 0)
        .count();
    let ended = Duration::from_nanos(nanos() - stopped);
    // Without a kick every one would take a poll: where others use the machine, one that is quick says enough.
    let rounds = if full { 1 } else { 10 };
    let while_held = (0..rounds)
        .map(|_| cancel_while_held(&url))
        .find(|took| *took <= QUICK_CANCEL);
    let machine = bystander.end();
    let time = |counter: &AtomicU64| Duration::from_nanos(get(counter));
    let stall_limit = match scope {
        Scope::Cluster => Duration::from_secs(1),
        _ => Duration::from_millis(250),
    };
    let mut verdict = Verdict::default();
    let mut none = |what: &str, figure: u64| verdict.claim(figure == 0, what, figure);
    none("crashed processes", crashed as u64);
    none("overlaps", get(&page.overlaps));
    none("errors", get(&page.errors));
    none("time limits that ended early", get(&page.early));
    for (what, counter, least) in figures {
        verdict.claim(get(counter) >= least, what, get(counter));
    }
    let (slow, turns) = (get(&page.slow_wakes), get(&page.pairs));
    verdict.claim(
        slow * 2 < turns,
        "turns of two that took a poll",
        format!("{slow} of {turns}"),
    );
    verdict.claim(
        while_held.is_some(),
        "slowest cancel while the lock is held",
        while_held.map_or(format!("more than {QUICK_CANCEL:?}"), |took| {
            format!("{took:?}")
        }),
    );
    let ms = Duration::from_millis;
    let times = [
        (
            "longest time without a grant",
            time(&page.stall),
            stall_limit,
        ),
        (
            "longest wait for one other's release",
            time(&page.wake_took),
            stall_limit,
        ),
        ("latest end of a time limit", time(&page.late_by), ms(50)),
        ("slowest cancel", time(&page.cancel_took), QUICK_CANCEL),
        (
            "longest time without a turn for the host",
            time(&page.turn_took),
            ms(200),
        ),
        ("until all waiters had ended", ended, ms(2_000)),
    ];
    for (what, figure, limit) in times {
        // What the machine let others wait, who want nothing of the lock, is not the lock's doing.
        let words = format!("{figure:?} (the machine itself {machine:?})");
        verdict.claim(figure <= most(limit) + machine, what, words);
    }
    verdict.finish()
}
