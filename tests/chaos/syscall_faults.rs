//! Row 30: each system call that `flock:` makes on its files fails once, at each place, with each
//! error. The answer must be right, nothing may be held by mistake, and no descriptor may leak.
//!
//! strace injects the errors into a taker, by path, so that only calls about the lock directory are
//! counted. This process looks with `flock(2)` of its own who holds what.

#[path = "companion_faults.rs"]
mod companion_faults;

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use synlock_core::store::flock::file_name;
use synlock_tests::names::TempDir;
use synlock_tests::process::{is_full_load, nanos};
use synlock_tests::taker::Taker;
use synlock_tests::torture::{Random, Verdict};

const CALLS: [&str; 11] = [
    "openat",
    "mkdir",
    "newfstatat",
    "fstat",
    "fstatfs",
    "flock",
    "fcntl",
    "pread64",
    "pwrite64",
    "fchmod",
    "renameat2",
];
const ERRORS: [&str; 10] = [
    "EINTR", "EIO", "ENOSPC", "EMFILE", "ENFILE", "ENOMEM", "ENOLCK", "EDQUOT", "EROFS", "EACCES",
];
/// More than any scenario makes of one call.
const LAST: usize = 50;

/// What a taker does, and with which options.
struct Scenario {
    query: &'static str,
    name: &'static str,
    steps: &'static [&'static str],
}

const SCENARIOS: [Scenario; 6] = [
    Scenario {
        query: "",
        name: "plain",
        steps: &[
            "acquire h 0",
            "check h",
            "release h",
            "acquire h 0",
            "check h",
            "release h",
        ],
    },
    Scenario {
        query: "?fencing=1",
        name: "with-counter",
        steps: &[
            "acquire h 0",
            "check h",
            "release h",
            "acquire h 0",
            "check h",
            "release h",
        ],
    },
    Scenario {
        query: "?group=0",
        name: "of/the/group",
        steps: &["acquire h 0", "release h", "acquire h 20", "release h"],
    },
    Scenario {
        query: "",
        name: "shared",
        steps: &[
            "acquire h 0",
            "promote h 0",
            "check h",
            "demote h",
            "check h",
            "promote h 0",
            "release h",
            "acquire h 0",
            "release h",
        ],
    },
    Scenario {
        query: "?fencing=1",
        name: "looked-at",
        steps: &[
            "acquire h 0",
            "inspect looked-at",
            "list",
            "check h",
            "release h",
            "inspect looked-at",
            "acquire h 0",
            "break looked-at",
            "check h",
            "acquire h 0",
            "release h",
            "clean",
        ],
    },
    Scenario {
        query: "?mode=0660",
        name: "slowly",
        steps: &[
            "acquire h 0",
            "sleep 12",
            "check h",
            "sleep 12",
            "release h",
            "sleep 12",
            "acquire h 0",
            "sleep 12",
            "release h",
            "clean",
            "acquire h 0",
            "release h",
            "ping",
        ],
    },
];

fn holds(file: &File, kind: i32) -> bool {
    // SAFETY: an open descriptor, no memory.
    unsafe {
        let free = libc::flock(file.as_raw_fd(), kind | libc::LOCK_NB) == 0;
        libc::flock(file.as_raw_fd(), libc::LOCK_UN);
        !free
    }
}

fn gate_is_taken(file: &File) -> bool {
    let mut wish = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 1 << 40,
        l_len: 2,
        l_pid: 0,
    };
    // SAFETY: an open descriptor and a structure valid for the call.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut wish) };
    i32::from(wish.l_type) != libc::F_UNLCK
}

/// How the file is held, as its neighbours see it: `x`, `s` or `-`.
fn held(path: &Path) -> char {
    let Ok(file) = OpenOptions::new().read(true).write(true).open(path) else {
        return '-';
    };
    if holds(&file, libc::LOCK_SH) {
        'x'
    } else if holds(&file, libc::LOCK_EX) {
        's'
    } else {
        '-'
    }
}

struct Fault {
    call: &'static str,
    error: &'static str,
    at: usize,
}

/// The beginning of a command under which the fault comes up.
fn strace(base: &Path, fault: &Fault) -> Command {
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "--quiet=all", "-o"])
        .arg(base.join("trace"));
    strace.arg(format!("-etrace={}", fault.call));
    strace.arg(format!(
        "-einject={}:error={}:when={}",
        fault.call, fault.error, fault.at
    ));
    strace
}

fn is_injected(trace: &Path) -> bool {
    fs::read_to_string(trace).is_ok_and(|seen| seen.contains("(INJECTED)"))
}

/// Runs a scenario with one fault. Whether the fault came up, or what went wrong.
fn run(
    base: &Path,
    scenario: &Scenario,
    fault: &Fault,
    fds: Option<usize>,
) -> Result<bool, String> {
    let dir = base.join("locks");
    let _ = fs::remove_dir_all(&dir);
    let file = dir.join(file_name(scenario.name.as_bytes()));
    let trace = base.join("trace");
    let url = format!("flock:{}{}", dir.display(), scenario.query);
    let mut strace = strace(base, fault);
    strace.arg("-P").arg(&dir).arg("-P").arg(&file);
    strace.arg(env!("CARGO_BIN_EXE_flock-taker")).arg(&url);
    let mut taker = Taker::spawn(&mut strace);
    let shared = if scenario.name == "shared" {
        "shared"
    } else {
        ""
    };
    taker.ok(&format!("lock h {} {shared}", scenario.name));
    let mut is = '-';
    for step in scenario.steps {
        let answer = taker.ask(step);
        let code = answer.split(' ').next().unwrap_or_default();
        let bad = |why: &str| Err(format!("{step}: {answer:?}: {why}"));
        let before = is;
        is = match (*step, code) {
            ("acquire h 0" | "acquire h 20", "OK") => {
                if shared.is_empty() {
                    'x'
                } else {
                    's'
                }
            }
            ("promote h 0", "OK") => 'x',
            ("demote h", "OK") => 's',
            ("release h", _) => '-',
            // Whoever is broken finds out at its next check.
            ("break looked-at", "OK") if answer.ends_with("true") => '-',
            (_, "LOST") => '-',
            _ => is,
        };
        let real = held(&file);
        if real != is && !(code != "OK" && real == 's' && before != '-') {
            return bad(&format!("held as {real}, should be {is}"));
        }
        is = real;
        match code {
            "OK" => {}
            // What an earlier step has done or left undone.
            "NOT_HELD" | "LOST" if before == '-' => {}
            _ if fault.error == "EINTR" => return bad("a signal must not show"),
            "EXHAUSTED" | "STORAGE" | "PERMISSION" | "UNAVAILABLE" => {}
            // What POSIX lets a record lock say when somebody else has it.
            "BUSY" if (fault.call, fault.error) == ("fcntl", "EACCES") => {}
            "LOST" if fault.call == "flock" => {}
            // A broken hold whose check failed has not been told yet.
            "ALREADY_HELD" => {}
            _ => return bad("not the right kind of error"),
        }
    }
    if held(&file) != '-' {
        return Err("something is held at the end".to_owned());
    }
    if let Ok(open) = OpenOptions::new().read(true).write(true).open(&file)
        && gate_is_taken(&open)
    {
        return Err("the gate or the counter is left locked".to_owned());
    }
    let left: usize = taker.ok("fds").parse().map_err(|_| "fds".to_owned())?;
    if fds.is_some_and(|usual| left > usual) {
        return Err(format!("{left} descriptors instead of {fds:?}"));
    }
    taker.quit();
    let unfinished = fs::read_dir(&dir).map_or(0, |entries| {
        entries
            .filter(|entry| {
                entry.as_ref().is_ok_and(|entry| {
                    entry
                        .file_name()
                        .to_string_lossy()
                        .starts_with(".synlock-new-")
                })
            })
            .count()
    });
    if unfinished > 0 {
        return Err("an unfinished file is left behind".to_owned());
    }
    Ok(is_injected(&trace))
}

fn usual_fds(base: &Path, scenario: &Scenario) -> usize {
    let dir = base.join("locks");
    let _ = fs::remove_dir_all(&dir);
    let url = format!("flock:{}{}", dir.display(), scenario.query);
    let mut taker = Taker::start(env!("CARGO_BIN_EXE_flock-taker"), &url);
    let shared = if scenario.name == "shared" {
        "shared"
    } else {
        ""
    };
    taker.ok(&format!("lock h {} {shared}", scenario.name));
    for step in scenario.steps {
        taker.ask(step);
    }
    taker.ok("fds").parse().expect("a number")
}

fn main() -> ExitCode {
    let dir = TempDir::new("faults");
    let base: PathBuf = dir.path().to_owned();
    let full = is_full_load();
    let seed = nanos() | 1;
    let mut random = Random(seed);
    let mut verdict = Verdict::default();
    let (mut cases, mut bad) = (0, Vec::new());
    for scenario in &SCENARIOS {
        let fds = usual_fds(&base, scenario);
        for call in CALLS {
            for error in ERRORS {
                for at in 1..=LAST {
                    // The quick load takes the places at which a call first matters, and some more.
                    let always = call == "flock" && at <= 2 && ["EINTR", "EIO"].contains(&error);
                    if !full && !always && random.below(16) != 0 {
                        if at >= 4 {
                            break;
                        }
                        continue;
                    }
                    let fault = Fault { call, error, at };
                    match run(&base, scenario, &fault, Some(fds)) {
                        Ok(true) => cases += 1,
                        Ok(false) => break,
                        Err(why) => {
                            cases += 1;
                            bad.push(format!("{} {call} {error} at {at}: {why}", scenario.name));
                        }
                    }
                }
            }
        }
    }
    for why in &bad {
        eprintln!("{why}");
    }
    verdict.claim(
        bad.is_empty(),
        "wrong answers, false holds, leaks",
        bad.len(),
    );
    let least = if full { 2_000 } else { 40 };
    verdict.claim(cases >= least, &format!("cases (seed {seed})"), cases);
    companion_faults::all(&base, &mut random, &mut verdict);
    verdict.finish()
}
