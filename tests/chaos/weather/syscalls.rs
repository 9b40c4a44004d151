//! Row 30 for Redis: each system call that a connection is made of fails once, at each place, with each
//! error. The answer must be right, nothing may be held by mistake, and no descriptor may leak.
//!
//! strace injects the errors into a taker; this process asks the server who holds what.

use crate::code;
use std::path::Path;
use std::process::Command;
use synlock_core::{Store, Wait};
use synlock_tests::load::{SOON, patient};
use synlock_tests::names::{TempDir, unique};
use synlock_tests::process::{is_full_load, nanos};
use synlock_tests::redis::RedisServer;
use synlock_tests::taker::Taker;
use synlock_tests::torture::Random;

const TAKER: &str = env!("CARGO_BIN_EXE_flock-taker");
/// Of a call, what the system may say to it.
const CALLS: [(&str, &[&str]); 8] = [
    ("socket", NO_ROOM),
    ("getsockopt", NO_ROOM),
    ("setsockopt", NO_ROOM),
    ("eventfd2", &["EMFILE", "ENFILE", "ENOMEM"]),
    ("poll", &["EINTR", "ENOMEM"]),
    ("connect", NO_WAY),
    ("sendto", BROKEN),
    ("recvfrom", BROKEN),
];
const NO_ROOM: &[&str] = &["ENOMEM", "ENOBUFS", "EMFILE", "ENFILE", "EACCES", "EPERM"];
const NO_WAY: &[&str] = &[
    "EACCES",
    "EADDRNOTAVAIL",
    "ECONNREFUSED",
    "EHOSTUNREACH",
    "ENETUNREACH",
    "ETIMEDOUT",
    "ENOBUFS",
];
const BROKEN: &[&str] = &[
    "EINTR",
    "ENOMEM",
    "ENOBUFS",
    "ECONNRESET",
    "EPIPE",
    "ETIMEDOUT",
];
/// More than the taker makes of one call.
const LAST: usize = 60;

struct Fault {
    call: &'static str,
    error: &'static str,
    at: usize,
}

/// Two locks of one taker: one waits for the other.
const STEPS: [&str; 9] = [
    "acquire h 0",
    "check h",
    "acquire i MS",
    "release h",
    "acquire h 0",
    "check h",
    "release h",
    "acquire i 60000",
    "release i",
];

/// Whether the fault came up, or what went wrong.
/// `brief` is for how long, in ms, the one waits in vain.
fn run(url: &str, trace: &Path, fault: &Fault, usual: usize, brief: u32) -> Result<bool, String> {
    let store = Store::open(&patient(url)).unwrap();
    let name = unique("fault");
    // On one CPU nobody looks for a reply before blocking, so that the calls are the same each time.
    let mut strace = Command::new("taskset");
    strace.args(["1", "strace", "-f", "-qq", "-o"]).arg(trace);
    strace.arg(format!("-etrace={}", fault.call));
    strace.arg(format!(
        "-einject={}:error={}:when={}",
        fault.call, fault.error, fault.at
    ));
    let mut taker = Taker::spawn(strace.arg(TAKER).arg(patient(&format!("{url}?ttl=60000"))));
    for handle in ["h", "i"] {
        // A second attempt, where making the store met the fault.
        let lock = format!("lock {handle} {name}");
        if taker.code(&lock) != "OK" {
            taker.ok(&lock);
        }
    }
    let mut holder = None;
    for step in STEPS {
        let in_vain = step == "acquire i MS";
        let answer = taker.ask(&step.replace("MS", &brief.to_string()));
        let found = answer.split(' ').next().unwrap_or_default();
        let words: Vec<&str> = step.split(' ').collect();
        match (words[0], found) {
            ("acquire", "OK") => holder = Some(words[1]),
            ("release", _) if holder == Some(words[1]) => holder = None,
            (_, "LOST") => holder = None,
            _ => {}
        }
        let bad = |why: &str| Err(format!("{step}: {answer:?}: {why}"));
        let held = store.inspect(&name).map(|found| found.holders.len());
        match (found, held) {
            // Who is told that it holds, does; who is told that it has let go, has.
            ("OK", Ok(held)) if held == usize::from(holder.is_some()) => {}
            ("OK", held) => return bad(&format!("held {held:?}")),
            ("TIMEOUT" | "BUSY", _) if in_vain => {}
            // What an earlier step has done or left undone.
            ("NOT_HELD" | "LOST" | "BUSY" | "TIMEOUT" | "ALREADY_HELD", _)
                if fault.error != "EINTR" => {}
            _ if fault.error == "EINTR" => return bad("a signal must not show"),
            ("UNAVAILABLE" | "UNCERTAIN" | "EXHAUSTED" | "PERMISSION", _) => {}
            _ => return bad("not the right kind of error"),
        }
    }
    // Nothing stays behind, not even for its lease.
    let after = store.lock(&name).unwrap();
    let freed = code(after.acquire(Wait::For(SOON), None));
    if freed != synlock_core::Code::Ok {
        return Err(format!("at the end: {freed:?}"));
    }
    after.release().unwrap();
    let left: usize = taker.ok("fds").parse().map_err(|_| "fds".to_owned())?;
    taker.quit();
    // A background release may have opened a connection that stays for the next one.
    if left > usual + 1 {
        return Err(format!("{left} descriptors instead of {usual}"));
    }
    let seen = std::fs::read_to_string(trace).unwrap_or_default();
    Ok(seen.contains("(INJECTED)"))
}

fn usual_fds(url: &str) -> usize {
    let mut taker = Taker::start(TAKER, &patient(&format!("{url}?ttl=60000")));
    taker.ok("lock h usual");
    taker.ok("lock i usual");
    for step in STEPS {
        taker.ask(&step.replace("MS", "30"));
    }
    taker.ok("fds").parse().expect("a number")
}

#[test]
fn faults_of_system_calls() {
    let server = RedisServer::start();
    let (folder, full) = (TempDir::new("faults"), is_full_load());
    let trace = folder.path().join("trace");
    let mut cases = 0;
    for url in [server.url(), server.socket_url()] {
        let usual = usual_fds(&url);
        let seed = nanos() | 1;
        let mut random = Random(seed);
        for (call, errors) in CALLS {
            for error in errors {
                // The first poll is that of Rust's own start, which ends the process.
                for at in 1 + usize::from(call == "poll")..=LAST {
                    // The quick load takes an interrupted reading, and some more.
                    let always = (call, *error, at) == ("recvfrom", "EINTR", 3);
                    if !full && !always && random.below(5) != 0 {
                        if at >= 4 {
                            break;
                        }
                        continue;
                    }
                    let fault = Fault { call, error, at };
                    // A slow machine may need longer to say that it is taken.
                    let found = run(&url, &trace, &fault, usual, 30)
                        .or_else(|_| run(&url, &trace, &fault, usual, 3000));
                    match found {
                        Ok(true) => cases += 1,
                        Ok(false) => break,
                        Err(why) => panic!("{url}: {call} {error} at {at}, seed {seed}: {why}"),
                    }
                }
            }
        }
    }
    let least = if full { 500 } else { 20 };
    assert!(cases >= least, "{cases} cases");
}
