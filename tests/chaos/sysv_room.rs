//! Row 31, `sysv:`: a kernel without room for another set, semaphore or step, sets of other users, and a
//! guard whose holder is stopped. Errors in words, and all works when there is room again.

use std::process::ExitCode;
use synlock_core::{Code, Error, Lock, Store, Wait};
use synlock_tests::process::{exit_status, fork, signal, wait};
use synlock_tests::torture::Verdict;

/// Semaphores a set, semaphores in all, steps a call, sets.
fn limit(numbers: &str) {
    std::fs::write("/proc/sys/kernel/sem", numbers).expect("limits of one's own");
}

const ROOM: &str = "32000 1024000000 500 32000";

/// A kernel's table of one's own, whose limits may be set.
fn set_apart() {
    // SAFETY: no pointers involved.
    let alone = unsafe {
        libc::unshare(libc::CLONE_NEWIPC) == 0
            || libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWIPC) == 0
    };
    assert!(alone, "neither root nor user namespaces");
}

fn lock(name: &str) -> Lock {
    let store = Store::open("sysv:room").expect("a store");
    store.lock(name).expect("a lock")
}

fn taken(name: &str) -> Result<Lock, Error> {
    let lock = lock(name);
    lock.acquire(Wait::No, None).map(|_| lock)
}

/// An error of this code that says `words`.
fn says(verdict: &mut Verdict, what: &str, got: Result<Lock, Error>, code: Code, words: &str) {
    let text = got
        .as_ref()
        .map_or_else(ToString::to_string, |_| "taken".into());
    let right = got.is_err_and(|error| error.code() == code && error.message().contains(words));
    verdict.claim(right, what, text);
}

fn works(verdict: &mut Verdict, what: &str, name: &str) {
    let got = taken(name);
    let text = got
        .as_ref()
        .map_or_else(ToString::to_string, |_| "taken".into());
    verdict.claim(got.is_ok_and(|lock| lock.release().is_ok()), what, text);
}

/// Runs in a child, as another user if told; whether it was right.
fn child(work: impl FnOnce() -> bool) -> bool {
    exit_status(wait(fork(|| i32::from(!work())))) == 0
}

fn main() -> ExitCode {
    set_apart();
    let mut verdict = Verdict::default();
    let verdict = &mut verdict;
    let exhausted = Code::Exhausted;

    limit("32000 1024000000 500 3");
    let (a, b) = (taken("a").expect("room"), taken("b").expect("room"));
    says(
        verdict,
        "no room for another set",
        taken("c"),
        exhausted,
        "no room for another semaphore set",
    );
    a.ensure_held().expect("still held");
    // An idle set is given up for one that is needed; the guard is the third.
    a.release().expect("ours");
    works(verdict, "the set of a free lock makes room", "c");
    works(verdict, "and comes back", "a");
    b.ensure_held().expect("still held");
    drop(b);

    limit("50 1024000000 500 32000");
    says(
        verdict,
        "no set may be as large",
        taken("d"),
        exhausted,
        "the first number",
    );
    limit(ROOM);
    let kept = taken("a").expect("room");
    limit("32000 90 500 32000");
    says(
        verdict,
        "no semaphores left",
        taken("long enough to need more"),
        exhausted,
        "kernel/sem",
    );
    drop(kept);
    limit("32000 1024000000 1 32000");
    says(
        verdict,
        "one step a call",
        taken("a"),
        Code::Storage,
        "the third number",
    );
    limit(ROOM);
    works(verdict, "all of it afterwards", "d");
    let known = taken("a").expect("room");
    limit("32000 1024000000 1 32000");
    let kept = known.release();
    verdict.claim(
        kept.is_ok() || kept.as_ref().is_err_and(|error| error.code() != Code::Lost),
        "a release without steps is no loss",
        kept.map_or_else(|error| error.to_string(), |_| "released".into()),
    );
    limit(ROOM);
    drop(known);
    works(verdict, "and is made good", "a");

    // Root's sets are no one else's; the row needs root to be somebody else.
    // SAFETY: asks for a number.
    let refused = unsafe { libc::geteuid() } == 0
        && child(|| {
            // SAFETY: no pointers involved; the child becomes somebody else.
            let changed = unsafe { libc::setuid(65534) } == 0;
            let error = taken("a").err();
            changed
                && error.is_some_and(|error| {
                    error.code() == Code::Permission
                        && error.message().contains("belongs to somebody else")
                })
        });
    verdict.claim(refused, "another user's set is refused in words", refused);

    // A maker that dies with the guard, and one that is stopped with it.
    let key = guard_key();
    // SAFETY: no pointers involved.
    let guard = unsafe { libc::semget(key, 0, 0) };
    verdict.claim(
        guard >= 0,
        "the guard is where the format says",
        format!("0x{key:08x}"),
    );
    let hold = move || {
        let mut take = libc::sembuf {
            sem_num: 0,
            sem_op: 1,
            sem_flg: libc::SEM_UNDO as i16,
        };
        // SAFETY: one valid step.
        unsafe { libc::semop(guard, &raw mut take, 1) };
        // SAFETY: stops this process until it is killed.
        unsafe { libc::raise(libc::SIGSTOP) };
        0
    };
    let stopped = fork(hold);
    let mut status = 0;
    // SAFETY: `status` is valid for writes; the child is ours.
    unsafe { libc::waitpid(stopped, &raw mut status, libc::WUNTRACED) };
    says(
        verdict,
        "a maker is stopped",
        taken("new"),
        Code::Unavailable,
        "is stopped",
    );
    works(verdict, "which keeps no known name", "a");
    signal(stopped, libc::SIGKILL);
    wait(stopped);
    works(verdict, "a dead maker keeps nobody", "new");
    std::mem::take(verdict).finish()
}

/// As `core/FORMATS.md` says.
fn guard_key() -> i32 {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(b"synlock sysv\0room\0guard");
    i32::from_ne_bytes([hash[0], hash[1], hash[2], hash[3]])
}
