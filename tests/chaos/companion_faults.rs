//! Row 30 for the queue in which the waiters of `flock:` stand: each system call that is made for the
//! mapped file fails once, at each place, with each error, in one who waits and in one who wakes. Without the
//! queue waiters poll; so whatever fails, every call ends as if nothing had.

use super::{ERRORS, Fault, LAST, held, is_injected, strace};
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};
use synlock_tests::load::SOON;
use synlock_tests::process::is_full_load;
use synlock_tests::taker::Taker;
use synlock_tests::torture::{Random, Verdict};

const PROGRAM: &str = env!("CARGO_BIN_EXE_flock-taker");
/// By file; and those that are made for no other one.
const CALLS: [(&str, bool); 10] = [
    ("openat", true),
    ("newfstatat", true),
    ("fcntl", true),
    ("pread64", true),
    ("mmap", true),
    ("fallocate", false),
    ("pwrite64", false),
    ("fchmod", false),
    ("linkat", false),
    ("futex", false),
];
/// How long a fault may take to come up that does not come at all.
const MOMENT: Duration = Duration::from_millis(150);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    /// It makes the queue and stands in it; who holds is a stranger.
    Waits,
    /// It holds; who waits is another process.
    Wakes,
}

/// What a taker keeps open and mapped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
struct Kept {
    fds: usize,
    maps: usize,
}

impl Kept {
    fn of(taker: &mut Taker) -> Kept {
        let mapped = fs::read_to_string(format!("/proc/{}/maps", taker.ok("pid")));
        let mapped = mapped.expect("the taker lives");
        Kept {
            fds: taker.ok("fds").parse().expect("a number"),
            maps: mapped
                .lines()
                .filter(|line| line.contains("/.synlock"))
                .count(),
        }
    }
}

fn expect(taker: &mut Taker, step: &str) -> Result<(), String> {
    match taker.ask(step) {
        answer if answer.starts_with("OK") => Ok(()),
        answer => Err(format!("{step}: {answer:?}")),
    }
}

fn is_held(file: &Path, wanted: char, when: &str) -> Result<(), String> {
    match held(file) {
        is if is == wanted => Ok(()),
        is => Err(format!("held as {is} {when}")),
    }
}

/// Waits for it, while it may still come.
fn until(limit: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    while !is_so() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// The one who waits gets the lock when the stranger lets go, not before.
fn waits(file: &Path, one: &mut Taker, came_up: impl Fn() -> bool) -> Result<(), String> {
    let stranger = File::create(file).expect("a file");
    stranger.lock().expect("nobody has it");
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| expect(one, "acquire h 60000"));
        until(MOMENT, || came_up() || asked.is_finished());
        let was_early = asked.is_finished();
        drop(stranger);
        let answer = asked.join().expect("an answer");
        match was_early {
            true => Err(format!("it did not wait: {answer:?}")),
            false => answer,
        }
    })?;
    is_held(file, 'x', "by the one who waited")
}

/// Who waits for the one gets the lock when it lets go, not before.
fn wakes(url: &str, file: &Path, one: &mut Taker) -> Result<(), String> {
    expect(one, "acquire h 0")?;
    let mut other = Taker::start(PROGRAM, url);
    let mut third = Taker::start(PROGRAM, url);
    other.ok("lock h x");
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| expect(&mut other, "acquire h 60000"));
        until(SOON, || third.ok("waiters x") == "1" || asked.is_finished());
        let was_early = asked.is_finished();
        let released = expect(one, "release h");
        let answer = asked.join().expect("an answer");
        match was_early {
            true => Err(format!("it did not wait: {answer:?}")),
            false => released.and(answer),
        }
    })?;
    is_held(file, 'x', "by the one who was woken")?;
    let busy = one.code("acquire h 0");
    if busy != "BUSY" {
        return Err(format!("{busy} while another holds"));
    }
    expect(&mut other, "release h")?;
    expect(one, "acquire h 0")
}

/// Whether the fault came up, or what went wrong; `None` for none.
fn run(base: &Path, role: Role, fault: Option<(&Fault, bool)>) -> Result<(bool, Kept), String> {
    let dir = base.join("locks");
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir(&dir).expect("a folder");
    let file = dir.join("x");
    let url = format!("flock:{}", dir.display());
    let trace = base.join("trace");
    let _ = fs::remove_file(&trace);
    let mut one = match fault {
        None => Taker::start(PROGRAM, &url),
        Some((fault, by_file)) => {
            let mut strace = strace(base, fault);
            if by_file {
                // As it is called where it is made, opened, opened again and used.
                strace.args(["-P", ".", "-P", ".synlock", "-P"]);
                strace.arg(dir.join(".synlock"));
                for fd in 3..10 {
                    strace.arg("-P").arg(format!("/proc/self/fd/{fd}"));
                }
            }
            Taker::spawn(strace.arg(PROGRAM).arg(&url))
        }
    };
    one.ok("lock h x");
    match role {
        Role::Waits => waits(&file, &mut one, || is_injected(&trace))?,
        Role::Wakes => wakes(&url, &file, &mut one)?,
    }
    for step in ["check h", "release h", "acquire h 0", "release h"] {
        expect(&mut one, step)?;
    }
    is_held(&file, '-', "at the end")?;
    let attaches = fault.is_some_and(|(fault, _)| {
        matches!(fault.call, "openat" | "mmap") && (fault.error == "EMFILE" || is_full_load())
    });
    if attaches {
        // By then it has asked again for a queue that was not to be had.
        one.ok("sleep 1100");
        for step in ["acquire h 0", "release h"] {
            expect(&mut one, step)?;
        }
        let waiters = one.ok("waiters x");
        if waiters != "0" {
            return Err(format!(
                "{waiters:?} wait in a queue that should be there again"
            ));
        }
    }
    let kept = Kept::of(&mut one);
    one.quit();
    let unfinished = fs::read_dir(&dir).expect("the folder").flatten();
    let names: Vec<_> = unfinished.map(|entry| entry.file_name()).collect();
    if names.iter().any(|name| name != "x" && name != ".synlock") {
        return Err(format!("{names:?} are left behind"));
    }
    Ok((is_injected(&trace), kept))
}

pub fn all(base: &Path, random: &mut Random, verdict: &mut Verdict) {
    let full = is_full_load();
    let (mut cases, mut bad) = (0, Vec::new());
    for role in [Role::Waits, Role::Wakes] {
        let (_, usual) = run(base, role, None).expect("without a fault");
        for (call, by_file) in CALLS {
            for error in ERRORS {
                for at in 1..=LAST {
                    let always = ["openat", "mmap"].contains(&call) && error == "EMFILE";
                    if !full && !always && random.below(12) != 0 {
                        if at >= 4 {
                            break;
                        }
                        continue;
                    }
                    let fault = Fault { call, error, at };
                    let why = match run(base, role, Some((&fault, by_file))) {
                        Ok((false, _)) => break,
                        Ok((true, kept)) if kept.fds <= usual.fds && kept.maps <= usual.maps => {
                            cases += 1;
                            continue;
                        }
                        Ok((true, kept)) => format!("{kept:?} instead of {usual:?}"),
                        Err(why) => why,
                    };
                    cases += 1;
                    bad.push(format!("{role:?}: {call} {error} at {at}: {why}"));
                }
            }
        }
    }
    for why in &bad {
        eprintln!("{why}");
    }
    verdict.claim(bad.is_empty(), "faults of the queue that show", bad.len());
    let least = if full { 300 } else { 20 };
    verdict.claim(cases >= least, "cases of the queue", cases);
}
