//! The torture: forked workers take one lock again and again, write what it protects, and are killed
//! in the middle of it.
//!
//! Each worker has a number of its own, never used again. The killer writes the victim's number into
//! the *death ledger* before it kills, so finding a dead holder's mark inside is no overlap.

use crate::history::{Answer, Judgement, Kind, Orphans, Tapes, judge};
use crate::load::{Bystander, Stretch, most};
use crate::page::{FencedResource, SharedPage};
use crate::process::{exit_status, fork, is_stopped, nanos, signal, wait};
use std::cell::UnsafeCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;
use synlock_core::{Acquired, Code, LockOptions, Mode, Store, Wait};

const MOST_WORKERS: usize = 1 << 20;
/// For how long one is tried to be caught inside the lock, in nanoseconds.
const CATCH: u64 = 2_000_000;
/// How long nobody may come in, besides what the machine itself stands still.
const MOST_STALL: Duration = Duration::from_millis(250);
/// Workers whose operations are noted, and how many of each; more than the bar's full load needs.
type Notes = Tapes<{ 1 << 14 }, { 1 << 14 }>;

/// What to do to a store.
#[derive(Clone, Debug)]
pub struct Torture {
    /// The store.
    pub url: String,
    /// The lock.
    pub name: String,
    /// Options of the lock.
    pub options: LockOptions,
    /// Workers at any time.
    pub workers: usize,
    /// How long; longer on a machine that has not done so much by then.
    pub time: Duration,
    /// What must be done.
    pub least: Least,
    /// A worker is killed this often; every other time one inside, if one can be caught there.
    pub kill_every: Option<Duration>,
    /// Turns of a loop inside the lock.
    pub spin: u32,
    /// Who may be inside together.
    pub sharing: Sharing,
}

/// Who may be inside together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    /// Nobody.
    Nobody,
    /// Readers, which three of four workers are.
    Readers,
    /// As many as there are permits, of which each takes one.
    Permits(u32),
}

impl Sharing {
    fn mode(self, worker: u64) -> Mode {
        match self {
            Sharing::Readers if !worker.is_multiple_of(4) => Mode::Shared,
            Sharing::Nobody | Sharing::Readers => Mode::Exclusive,
            Sharing::Permits(of) => Mode::Permits { take: 1, of },
        }
    }
}

impl Torture {
    /// 8 workers for a second, nobody killed.
    pub fn new(url: &str, name: &str) -> Self {
        Torture {
            url: url.to_owned(),
            name: name.to_owned(),
            options: LockOptions::default(),
            workers: 8,
            time: Duration::from_secs(1),
            least: Least::default(),
            kill_every: None,
            spin: 50,
            sharing: Sharing::Nobody,
        }
    }
}

/// Figures to reach.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Least {
    /// Times the lock was had.
    pub grants: u64,
    /// Workers killed.
    pub kills: u64,
    /// Of these, inside the lock.
    pub killed_inside: u64,
}

impl Least {
    /// So many.
    pub fn of(grants: u64, kills: u64, killed_inside: u64) -> Self {
        Least {
            grants,
            kills,
            killed_inside,
        }
    }
}

/// What came of it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Times the lock was had.
    pub grants: u64,
    /// Workers killed.
    pub kills: u64,
    /// Of these, inside the lock.
    pub killed_inside: u64,
    /// Two living holders at once.
    pub overlaps: u64,
    /// Updates lost though nobody had died.
    pub lost_updates: u64,
    /// Fencing tokens not greater than the one before.
    pub regressions: u64,
    /// Holds that the store called lost.
    pub lost: u64,
    /// Holds after one that was killed inside which were not told so.
    pub untold: u64,
    /// Those that were.
    pub told: u64,
    /// Errors that are none of busy, timeout and lost.
    pub errors: u64,
    /// Workers that ended badly on their own.
    pub crashes: u64,
    /// The longest time without a grant.
    pub stall: Duration,
    /// The longest that the machine kept a process waiting that had nothing to do with the lock.
    pub machine: Duration,
    /// What the history says, as far as it was noted.
    pub history: Judgement,
}

struct Page {
    stop: AtomicBool,
    holder: AtomicU64,
    /// Only touched inside the lock; not atomic on purpose.
    first: UnsafeCell<u64>,
    second: UnsafeCell<u64>,
    fence: AtomicU64,
    resource: FencedResource,
    last_grant: AtomicU64,
    stall: AtomicU64,
    grants: AtomicU64,
    overlaps: AtomicU64,
    lost_updates: AtomicU64,
    regressions: AtomicU64,
    lost: AtomicU64,
    untold: AtomicU64,
    told: AtomicU64,
    errors: AtomicU64,
    /// Who is inside and not alone, by seat.
    together: AtomicU64,
    dead: [AtomicU8; MOST_WORKERS],
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Page {
    fn is_dead(&self, worker: u64) -> bool {
        self.dead[worker as usize].load(Ordering::SeqCst) != 0
    }

    fn came_in(&self) {
        let now = nanos();
        let before = self.last_grant.swap(now, Ordering::Relaxed);
        self.stall
            .fetch_max(now.saturating_sub(before), Ordering::Relaxed);
    }

    fn is_somebody_alone(&self) -> bool {
        let holder = self.holder.load(Ordering::SeqCst);
        holder != 0 && !self.is_dead(holder)
    }

    /// Everything that one of several does inside, of whom there may be `most`.
    fn inside_together(&self, seat: usize, most: u32, spin: u32) {
        self.came_in();
        let others = self.together.fetch_or(1 << seat, Ordering::SeqCst);
        if others.count_ones() >= most || self.is_somebody_alone() {
            count(&self.overlaps);
        }
        for _ in 0..spin {
            std::hint::spin_loop();
        }
        if self.is_somebody_alone() {
            count(&self.overlaps);
        }
        count(&self.grants);
        self.together.fetch_and(!(1 << seat), Ordering::SeqCst);
    }

    /// Everything a holder does inside.
    fn inside(&self, me: u64, acquired: &Acquired, spin: u32) {
        self.came_in();
        let previous = self.holder.swap(me, Ordering::SeqCst);
        if previous != 0 && !self.is_dead(previous) {
            count(&self.overlaps);
        }
        if self.together.load(Ordering::SeqCst) != 0 {
            count(&self.overlaps);
        }
        if previous != 0 {
            // Beside readers one of them may have been told.
            count(if acquired.recovered {
                &self.told
            } else {
                &self.untold
            });
        }
        // SAFETY: inside the lock there is one writer, which is what is being tested; volatile
        // accesses of aligned words.
        let (first, second) = unsafe {
            (
                self.first.get().read_volatile(),
                self.second.get().read_volatile(),
            )
        };
        // A dead holder may have left one counter behind the other.
        if first != second && previous == 0 {
            count(&self.lost_updates);
        }
        let next = first.max(second) + 1;
        // SAFETY: as above.
        unsafe { self.first.get().write_volatile(next) };
        for _ in 0..spin {
            std::hint::spin_loop();
        }
        // SAFETY: as above.
        unsafe {
            if self.first.get().read_volatile() != next {
                count(&self.lost_updates);
            }
            self.second.get().write_volatile(next);
        }
        if let Some(fence) = acquired.fence {
            if self.fence.swap(fence, Ordering::SeqCst) >= fence {
                count(&self.regressions);
            }
            self.resource.write(me, fence);
        }
        count(&self.grants);
        if self
            .holder
            .compare_exchange(me, 0, Ordering::SeqCst, Ordering::SeqCst)
            .is_err()
        {
            count(&self.overlaps);
        }
    }
}

fn work(torture: &Torture, page: &Page, notes: &Notes, me: u64, seat: usize) -> i32 {
    let tape = notes.of(me);
    let mut options = torture.options.clone();
    options.mode = torture.sharing.mode(me);
    let most = match options.mode {
        Mode::Exclusive => 1,
        Mode::Shared => u32::MAX,
        Mode::Permits { of, .. } => of,
    };
    let lock = Store::open(&torture.url).and_then(|store| store.lock_with(&torture.name, options));
    let lock = match lock {
        Ok(lock) => lock,
        Err(error) => {
            eprintln!("FAIL worker {me}: {error:?}");
            return 2;
        }
    };
    let mut held = 0u32;
    while !page.stop.load(Ordering::Relaxed) {
        tape.begin(Kind::Acquire, nanos());
        let acquired = lock.acquire(Wait::For(Duration::from_secs(1)), None);
        let now = nanos();
        match acquired {
            Ok(acquired) => {
                tape.end(Answer::Done, acquired.fence.unwrap_or(0), now);
                held += 1;
                // Now and then long enough for the killer to come.
                let longer = if held.is_multiple_of(64) { 700 } else { 1 };
                let spin = torture.spin * longer;
                if most == 1 {
                    page.inside(me, &acquired, spin);
                } else {
                    page.inside_together(seat, most, spin);
                }
                tape.begin(Kind::Release, nanos());
                match lock.release() {
                    Ok(_) => tape.end(Answer::Done, 0, nanos()),
                    Err(error) if error.code() == Code::Lost => count(&page.lost),
                    Err(error) => {
                        count(&page.errors);
                        eprintln!("FAIL worker {me}: {error:?}");
                    }
                }
            }
            Err(error) if matches!(error.code(), Code::Timeout | Code::Busy) => {
                tape.end(Answer::Busy, 0, now);
            }
            Err(error) => {
                count(&page.errors);
                eprintln!("FAIL worker {me}: {error:?}");
            }
        }
    }
    0
}

impl Page {
    /// Stops the worker of a seat, which is not alone, and forgets that it is inside, if it is.
    fn take_out(&self, seat: usize, pid: libc::pid_t) -> bool {
        signal(pid, libc::SIGSTOP);
        // Until then it may come in or go; afterwards it holds what it holds until it is killed.
        if !is_stopped(pid) {
            return false;
        }
        let bit = 1 << seat;
        self.together.fetch_and(!bit, Ordering::SeqCst) & bit != 0
    }
}

/// Stops the worker that is inside the lock, so that the kill finds it there; where it stands among them. By
/// the time of a signal most have left again: those go on.
fn stop_inside(page: &Page, workers: &[(u64, libc::pid_t)]) -> Option<usize> {
    let end = nanos() + CATCH;
    while nanos() < end {
        let inside = page.holder.load(Ordering::SeqCst);
        let Some(place) = workers.iter().position(|worker| worker.0 == inside) else {
            continue;
        };
        let (worker, pid) = workers[place];
        signal(pid, libc::SIGSTOP);
        let is_inside = is_stopped(pid) && page.holder.load(Ordering::SeqCst) == worker;
        if is_inside {
            return Some(place);
        }
        signal(pid, libc::SIGCONT);
    }
    None
}

/// Tortures a store; call it from a program with one thread. `nemesis` is called about once a
/// millisecond besides, and says whether it has done enough.
pub fn run(torture: &Torture, mut nemesis: impl FnMut() -> bool) -> Report {
    // SAFETY: atomics and words, for which zero is a value.
    let page = unsafe { SharedPage::<Page>::new() };
    page.last_grant.store(nanos(), Ordering::Relaxed);
    let notes = Notes::new();
    let mut died: HashMap<u64, u64> = HashMap::new();
    let mut number = 0;
    let mut start = |seat: usize| {
        number += 1;
        let me = number;
        (me, fork(|| work(torture, &page, &notes, me, seat)))
    };
    let mut workers: Vec<(u64, libc::pid_t)> = (0..torture.workers).map(&mut start).collect();
    let mut report = Report::default();
    let mut random = Random(nanos() | 1);
    let bystander = Bystander::start();
    let stretch = Stretch::of(torture.time);
    let goes_on = |report: &Report, is_enough: bool| {
        stretch.goes_on(|| {
            is_enough
                && page.grants.load(Ordering::Relaxed) >= torture.least.grants
                && report.kills >= torture.least.kills
                && report.killed_inside >= torture.least.killed_inside
        })
    };
    let mut next_kill = nanos();
    let mut is_enough = false;
    while goes_on(&report, is_enough) {
        std::thread::sleep(Duration::from_millis(1));
        is_enough = nemesis();
        let Some(every) = torture.kill_every else {
            continue;
        };
        // On a busy machine a kill may take longer than the time between two.
        while nanos() >= next_kill
            && goes_on(&report, is_enough)
            && report.kills < MOST_WORKERS as u64 / 2
        {
            next_kill += every.as_nanos() as u64;
            let caught = report
                .kills
                .is_multiple_of(2)
                .then(|| stop_inside(&page, &workers))
                .flatten();
            // Where several are inside, one of them, if it stays for long enough.
            let together = page.together.load(Ordering::SeqCst);
            let place = match caught {
                Some(place) => place,
                None if together != 0 => together.trailing_zeros() as usize,
                None => random.below(workers.len()),
            };
            let (victim, pid) = workers[place];
            page.dead[victim as usize].store(1, Ordering::SeqCst);
            died.insert(victim, nanos());
            let was_inside = torture.sharing != Sharing::Nobody && page.take_out(place, pid);
            signal(pid, libc::SIGKILL);
            let status = exit_status(wait(pid));
            report.crashes += u64::from(status != -libc::SIGKILL && status != 0);
            // Of one that was not caught it is known if nobody has come in since.
            let inside =
                caught.is_some() || was_inside || page.holder.load(Ordering::SeqCst) == victim;
            report.killed_inside += u64::from(inside);
            report.kills += 1;
            workers[place] = start(place);
        }
    }
    page.stop.store(true, Ordering::SeqCst);
    let machine = bystander.end();
    for (_, pid) in workers {
        report.crashes += u64::from(exit_status(wait(pid)) != 0);
    }
    let get = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    Report {
        grants: get(&page.grants),
        overlaps: get(&page.overlaps),
        lost_updates: get(&page.lost_updates),
        regressions: get(&page.regressions) + get(&page.resource.violations),
        lost: get(&page.lost),
        untold: get(&page.untold),
        told: get(&page.told),
        errors: get(&page.errors),
        stall: Duration::from_nanos(get(&page.stall)),
        machine,
        history: match torture.sharing {
            Sharing::Nobody => judge(
                &notes.read(|worker| died.get(&worker).copied()),
                Orphans::End,
            ),
            _ => Judgement::default(),
        },
        ..report
    }
}

/// A small generator of numbers that nobody need trust.
#[derive(Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.draw() >> 16) as usize % end
    }
}

/// Prints each claim with its figure, and `N passed, N failed`; the program's exit status.
#[derive(Debug, Default)]
pub struct Verdict {
    passed: u32,
    failed: u32,
}

#[expect(clippy::print_stdout, reason = "rows report on stdout")]
impl Verdict {
    /// A claim that must hold.
    pub fn claim(&mut self, holds: bool, what: &str, figure: impl std::fmt::Display) {
        println!("{} {what}: {figure}", if holds { "ok  " } else { "FAIL" });
        if holds {
            self.passed += 1;
        } else {
            self.failed += 1;
        }
    }

    /// What a torture came to, whatever the store: nothing went wrong, and enough was done for that to say much.
    pub fn claim_torture(&mut self, report: &Report, least: Least, noted: usize) {
        self.claim(report.overlaps == 0, "overlaps", report.overlaps);
        self.claim(
            report.lost_updates == 0,
            "lost updates",
            report.lost_updates,
        );
        self.claim(report.errors == 0, "errors", report.errors);
        self.claim(report.lost == 0, "holds said to be lost", report.lost);
        self.claim(report.crashes == 0, "crashed workers", report.crashes);
        // A torture goes on until it has its grants; each of them is noted as long as there is room.
        self.claim_history(&report.history, noted.min(least.grants as usize));
        self.claim(report.grants >= least.grants, "grants", report.grants);
        self.claim(
            report.kills >= least.kills,
            "killed (inside the lock)",
            format!("{} ({})", report.kills, report.killed_inside),
        );
        if least.killed_inside > 0 {
            self.claim(
                report.killed_inside >= least.killed_inside,
                "killed inside the lock",
                report.killed_inside,
            );
        }
        self.claim(
            report.stall <= most(MOST_STALL) + report.machine,
            "longest time without a grant (and that the machine let others wait)",
            format!("{:?} ({:?})", report.stall, report.machine),
        );
    }

    /// That a lock can have made this history of at least so many operations.
    pub fn claim_history(&mut self, judged: &Judgement, least: usize) {
        self.claim(
            judged.is_sound() && judged.ops >= least,
            "the history that was noted",
            format!(
                "{} operations, {} overlaps, {} refusals of a free lock, {} tokens that do not grow",
                judged.ops, judged.overlaps, judged.false_busy, judged.regressions
            ),
        );
    }

    /// Totals; 1 if anything failed.
    pub fn finish(self) -> std::process::ExitCode {
        println!("{} passed, {} failed", self.passed, self.failed);
        std::process::ExitCode::from(u8::from(self.failed > 0))
    }
}
