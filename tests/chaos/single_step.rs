//! Row 4: a process is killed at each instruction of each operation on `shm:`. Whoever is attached
//! already then acquires within a second; what the dead process' records say is gone as soon as the
//! next process attaches, and nothing else is left.
//!
//! Each operation is stepped through once, to learn its instructions; then, for each kill, a child
//! runs to that instruction and is killed in front of it.
//!
//! `row04-single-step [OPERATION…]`; at full load every instruction, otherwise every 50th
//! from a random one on (fewer of the long ones).

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use synlock_core::{Lock, LockOptions, Mode, Store, Wait};
use synlock_tests::load::most;
use synlock_tests::names::TempDir;
use synlock_tests::page::SharedPage;
use synlock_tests::process::{exit_status, fork, is_full_load, nanos, wait};
use synlock_tests::segment::Segment;
use synlock_tests::step::{Step, Traced, mark, stay_on_one_processor};
use synlock_tests::torture::Verdict;

/// How long the next one may take.
fn limit() -> Duration {
    most(Duration::from_secs(1))
}

/// How often a child is tried again that did not take the path that was looked at: a clock was read
/// at another time, or a sleep ended otherwise.
const TRIES: u32 = 5;
/// Which time that a waiter asks the kernel about the holder it has queued already, and is about to
/// sleep.
const QUEUED: u32 = 3;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Operation {
    /// Making the segment, and attaching to it.
    Make,
    /// The same in the place of one of before the host's last start.
    Remake,
    Attach,
    Acquire,
    AcquireShared,
    AcquirePermit,
    /// Queueing, sleeping, giving up.
    Wait,
    /// Queueing, being offered the lock and taking it.
    Wake,
    Extend,
    Promote,
    Demote,
    Release,
    ReleaseShared,
    /// A release that wakes the next.
    HandOver,
    /// Taking over from somebody whose lease has run out.
    Expire,
    /// Giving a name up for another one.
    Retire,
}

use Operation::{
    Acquire, AcquirePermit, AcquireShared, Attach, Demote, Expire, Extend, HandOver, Make, Promote,
    Release, ReleaseShared, Remake, Retire, Wait as WaitFor, Wake,
};

const ALL: [Operation; 16] = [
    Make,
    Remake,
    Attach,
    Acquire,
    AcquireShared,
    AcquirePermit,
    WaitFor,
    Wake,
    Extend,
    Promote,
    Demote,
    Release,
    ReleaseShared,
    HandOver,
    Expire,
    Retire,
];

impl Operation {
    fn makes_the_segment(self) -> bool {
        matches!(self, Make | Remake)
    }

    fn options(self) -> LockOptions {
        let mut options = LockOptions::default();
        match self {
            AcquireShared | ReleaseShared | Promote => options.mode = Mode::Shared,
            AcquirePermit => options.mode = Mode::Permits { take: 2, of: 3 },
            Extend => options.ttl = Some(Duration::from_secs(60)),
            _ => {}
        }
        options
    }

    fn name(self) -> &'static str {
        if self == Retire { "new" } else { "x" }
    }

    /// What the child does; the operation is between the marks.
    fn run(self, url: &str) {
        let store = open(url);
        let lock = || {
            store
                .lock_with(self.name(), self.options())
                .expect("a lock")
        };
        if matches!(self, Make | Remake | Attach) {
            mark();
            store.ping(Wait::No).expect("it attaches");
            mark();
            return;
        }
        let warm = store.lock("warm").expect("a lock");
        warm.acquire(Wait::No, None).expect("it is free");
        warm.release().expect("it is held");
        let lock = lock();
        match self {
            WaitFor => {
                mark();
                let _ = lock.acquire(Wait::For(Duration::from_millis(5)), None);
            }
            Wake => {
                mark();
                // One that goes astray waits in vain.
                let _ = lock.acquire(Wait::For(limit()), None);
            }
            Extend | Promote | Demote | Release | ReleaseShared | HandOver => {
                lock.acquire(Wait::No, None).expect("it is free");
                if self == HandOver {
                    while store.inspect("x").expect("it can be asked").waiters != Some(1) {
                        std::thread::sleep(Duration::from_micros(100));
                    }
                }
                mark();
                match self {
                    Extend => lock.refresh(None).expect("it is held"),
                    Promote => lock.promote(Wait::No).map(drop).expect("nobody else reads"),
                    Demote => lock.demote().expect("it is held"),
                    _ => lock.release().map(drop).expect("it is held"),
                }
            }
            _ => {
                mark();
                lock.acquire(Wait::No, None).expect("it is free");
            }
        }
        mark();
    }
}

fn unreleased() -> LockOptions {
    let mut options = LockOptions::default();
    options.auto_release = false;
    options
}

fn open(url: &str) -> Store {
    Store::open(url).expect("a URL")
}

/// A process that waits for the lock when it is told to.
#[derive(Default)]
struct Page {
    wanted: AtomicU64,
    done: AtomicU64,
    got_at: AtomicU64,
}

struct World {
    folder: TempDir,
    path: PathBuf,
    url: String,
    operation: Operation,
    page: SharedPage<Page>,
    waiter: Option<libc::pid_t>,
    /// Attached before all of it, except where there is nothing to attach to.
    store: Option<Store>,
}

/// What came of the kills.
#[derive(Default)]
struct Tally {
    kills: usize,
    /// Of children that took another path than the one that was looked at.
    astray: usize,
    slowest: Duration,
    wrong: Vec<String>,
}

/// The instructions of an operation.
#[derive(Default)]
struct Path {
    at: Vec<u64>,
    released: Option<usize>,
}

impl Path {
    /// Lets a child that stands at `from` go on to `to`: runs to an instruction shortly before it
    /// that is not met too often, and steps from there. True if the child came to its end.
    fn follow(&self, child: &mut Traced, from: usize, to: usize) -> Result<bool, String> {
        let mut best = (usize::MAX, from, 0);
        for at in (from..=to).rev() {
            let steps = to - at;
            if steps >= best.0 {
                break; // further back it only gets worse
            }
            let meetings = self.meetings(from, at);
            best = best.min((steps + meetings, at, meetings));
        }
        let (_, at, meetings) = best;
        if meetings > 0 && is_at_mark(child.run_to(self.at[at], meetings as u32))? {
            return Ok(true);
        }
        for _ in at..to {
            if is_at_mark(child.step())? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How often the instruction at `at` is met after `from`.
    fn meetings(&self, from: usize, at: usize) -> usize {
        let met = &self.at[from..=at];
        let same = |other: &&u64| **other == self.at[at];
        met.iter().skip(1).filter(same).count()
    }
}

/// Whether a child came to its mark; it must not end.
fn is_at_mark(step: Step) -> Result<bool, String> {
    match step {
        Step::Stepped => Ok(false),
        Step::Marked => Ok(true),
        Step::Ended(status) => Err(format!("the child ended: {status:#x}")),
    }
}

impl World {
    fn new(operation: Operation) -> Self {
        let folder = TempDir::within("/dev/shm", "step");
        let path = folder.path().join("segment");
        let slots = if operation == Retire { 2 } else { 8 };
        let mut world = World {
            url: format!("shm:{}?slots={slots}", path.display()),
            folder,
            path,
            operation,
            // SAFETY: atomics, for which zero is a value.
            page: unsafe { SharedPage::new() },
            waiter: None,
            store: None,
        };
        if !operation.makes_the_segment() {
            let store = open(&world.url);
            world.pair(&store, "x").expect("a new segment");
            world.store = Some(store);
        }
        if operation == HandOver {
            let (url, page) = (world.url.clone(), world.page);
            world.waiter = Some(fork(|| wait_when_told(&url, page)));
        }
        world
    }

    fn pair(&self, store: &Store, name: &str) -> synlock_core::Result<bool> {
        let lock = store.lock(name)?;
        let recovered = lock.acquire(Wait::For(limit()), None)?.recovered;
        lock.release()?;
        Ok(recovered)
    }

    /// As it must be before the child begins; what the parent holds meanwhile.
    fn prepare(&self) -> Option<Lock> {
        if self.operation.makes_the_segment() {
            let _ = std::fs::remove_file(&self.path);
            if self.operation == Remake {
                // Made by another process: this one would remember what it saw.
                let maker = fork(|| i32::from(open(&self.url).ping(Wait::No).is_err()));
                assert_eq!(exit_status(wait(maker)), 0, "a new segment");
                Segment::open(&self.path).write(40, 7);
            }
            return None;
        }
        let store = self.store.as_ref().expect("attached");
        let mut options = unreleased();
        match self.operation {
            Expire => options.ttl = Some(Duration::from_millis(1)),
            WaitFor | Wake => {}
            Retire => {
                // The name that was given to the child's goes again.
                self.pair(store, "x").expect("names make room");
                self.pair(store, "warm").expect("names make room");
                return None;
            }
            _ => return None,
        }
        let lock = store.lock_with("x", options).expect("a lock");
        lock.acquire(Wait::For(limit()), None).expect("it is free");
        if self.operation == Expire {
            std::thread::sleep(Duration::from_millis(2));
        }
        Some(lock)
    }

    fn start(&self) -> (Option<Lock>, Traced) {
        let held = self.prepare();
        if self.operation == HandOver {
            self.page.wanted.fetch_add(1, Ordering::SeqCst);
        }
        let child = Traced::start(|| {
            self.operation.run(&self.url);
            0
        });
        (held, child)
    }

    /// Which instructions the operation is made of, and at which of them the parent lets go.
    fn trace(&self) -> Result<Path, String> {
        let (held, mut child) = self.start();
        let mut path = Path::default();
        let mut probes = 0;
        let mut releases = held.as_ref().filter(|_| self.operation == Wake);
        loop {
            path.at.push(child.at());
            if releases.is_some() && child.is_about_to_call(libc::SYS_fcntl) {
                probes += 1;
                if probes == QUEUED {
                    releases.take().map(Lock::release);
                    path.released = Some(path.at.len() - 1);
                }
            }
            match child.step() {
                Step::Stepped => {}
                Step::Marked => break,
                Step::Ended(status) => return Err(format!("the child ended: {status:#x}")),
            }
        }
        child.kill();
        if self.operation == Wake && path.released.is_none() {
            return Err("it did not queue".to_owned());
        }
        self.look_after(held, nanos())?;
        Ok(path)
    }

    /// One child, killed before that instruction of the path; whether it was there.
    fn kill_at(&self, path: &Path, instruction: usize, tally: &mut Tally) -> Result<bool, String> {
        let (held, mut child) = self.start();
        let mut from = 0;
        let mut ended = false;
        if let Some(release) = path.released.filter(|release| *release <= instruction) {
            ended = path.follow(&mut child, from, release)?;
            held.as_ref().map(Lock::release);
            from = release;
        }
        ended = ended || path.follow(&mut child, from, instruction)?;
        let there = !ended && child.at() == path.at[instruction];
        child.kill();
        let killed = Instant::now();
        self.look_after(held, nanos())?;
        tally.slowest = tally.slowest.max(killed.elapsed());
        tally.kills += 1;
        Ok(there)
    }

    /// What the next ones find after the kill: first whoever is attached, then a new process.
    fn look_after(&self, held: Option<Lock>, killed: u64) -> Result<(), String> {
        let trouble =
            |what: &'static str| move |error: synlock_core::Error| format!("{what}: {error}");
        let before = self.found()?;
        if let Some(held) = held {
            let _ = held.release();
        }
        if self.operation == HandOver {
            self.waiter_got_it(killed)?;
        }
        let name = self.operation.name();
        if let Some(store) = &self.store {
            let recovered = self.pair(store, name).map_err(trouble("the next"))?;
            let dead_held = before.iter().any(|text| text.starts_with("holder"));
            let tells = !matches!(self.operation, Expire | HandOver);
            if tells && recovered != dead_held {
                return Err(format!("recovered is {recovered}, after {before:?}"));
            }
        }
        // What is left now is in the dead process' own records.
        let allowed = |text: &String| text.starts_with("record") || text.starts_with("waiter");
        let rest = if self.store.is_some() {
            self.found()?
        } else {
            Vec::new()
        };
        if !rest.iter().all(allowed) {
            return Err(format!("left for the next acquire: {rest:?}"));
        }
        // The next process gets its number, and with it its records.
        let newcomer = fork(|| {
            self.pair(&open(&self.url), name).expect("a newcomer");
            0
        });
        if exit_status(wait(newcomer)) != 0 {
            return Err("the next process got nothing".to_owned());
        }
        let took = nanos() - killed;
        if took > limit().as_nanos() as u64 {
            return Err(format!("the next came after {} ms", took / 1_000_000));
        }
        let rest = self.found()?;
        if !rest.is_empty() {
            return Err(format!("left for the next process: {rest:?}"));
        }
        let files: Vec<_> = std::fs::read_dir(self.folder.path())
            .map_err(|error| error.to_string())?
            .filter_map(|file| file.ok().map(|file| file.file_name()))
            .collect();
        if files != ["segment"] {
            return Err(format!("files: {files:?}"));
        }
        Ok(())
    }

    fn found(&self) -> Result<Vec<String>, String> {
        let found = open(&self.url)
            .check()
            .map_err(|error| format!("the check: {error}"))?;
        Ok(found.texts)
    }

    fn waiter_got_it(&self, killed: u64) -> Result<(), String> {
        let wanted = self.page.wanted.load(Ordering::SeqCst);
        let end = nanos() + 5 * limit().as_nanos() as u64;
        while self.page.done.load(Ordering::SeqCst) < wanted {
            if nanos() > end {
                return Err("the waiter never got it".to_owned());
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        let waited = self
            .page
            .got_at
            .load(Ordering::SeqCst)
            .saturating_sub(killed);
        if waited > limit().as_nanos() as u64 {
            return Err(format!("the waiter got it after {} ms", waited / 1_000_000));
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(pid) = self.waiter {
            self.page.wanted.store(u64::MAX, Ordering::SeqCst);
            assert_eq!(exit_status(wait(pid)), 0, "the waiter");
        }
    }
}

fn wait_when_told(url: &str, page: SharedPage<Page>) -> i32 {
    let store = open(url);
    let lock = store.lock("x").expect("a lock");
    let mut done = 0;
    loop {
        let wanted = page.wanted.load(Ordering::SeqCst);
        if wanted == u64::MAX {
            return 0;
        }
        if wanted == done {
            std::thread::sleep(Duration::from_micros(50));
            continue;
        }
        // Behind the child, which takes it first.
        while !store.is_locked("x").unwrap_or(false) {
            std::thread::yield_now();
        }
        if lock.acquire(Wait::For(5 * limit()), None).is_err() {
            return 2;
        }
        page.got_at.store(nanos(), Ordering::SeqCst);
        if lock.release().is_err() {
            return 3;
        }
        done += 1;
        page.done.store(done, Ordering::SeqCst);
    }
}

fn row(operation: Operation, stride: usize) -> (usize, Tally) {
    let world = World::new(operation);
    let mut tally = Tally::default();
    let path = match world.trace() {
        Ok(path) => path,
        Err(text) => {
            tally.wrong.push(text);
            return (0, tally);
        }
    };
    let first = nanos() as usize / 1_000 % stride;
    for instruction in (first..path.at.len()).step_by(stride) {
        let mut there = Ok(false);
        for _ in 0..TRIES {
            there = world.kill_at(&path, instruction, &mut tally);
            if !matches!(there, Ok(false)) {
                break;
            }
        }
        match there {
            Ok(there) => tally.astray += usize::from(!there),
            Err(text) => tally
                .wrong
                .push(format!("killed at instruction {instruction}: {text}")),
        }
        if tally.wrong.len() == 3 {
            break;
        }
    }
    (path.at.len(), tally)
}

fn main() -> ExitCode {
    stay_on_one_processor();
    let stride = if is_full_load() { 1 } else { 50 };
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut verdict = Verdict::default();
    for operation in ALL {
        let named = format!("{operation:?}").to_lowercase();
        if !words.is_empty() && !words.contains(&named) {
            continue;
        }
        let started = Instant::now();
        // To make a segment takes milliseconds, and many steps that nobody else can see.
        let stride = match stride {
            50 if operation.makes_the_segment() => 400,
            50 if operation == Wake => 200,
            other => other,
        };
        let (instructions, tally) = row(operation, stride);
        let mut figure = format!(
            "{instructions} instructions, {} kills, {} astray, the next after {:?} at most; {:.1} s",
            tally.kills,
            tally.astray,
            tally.slowest,
            started.elapsed().as_secs_f64()
        );
        for text in &tally.wrong {
            figure += &format!("\n     {text}");
        }
        let good = tally.wrong.is_empty() && tally.astray * 4 <= tally.kills;
        verdict.claim(good, &named, figure);
    }
    verdict.finish()
}
