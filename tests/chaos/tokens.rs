//! Row 9: owner tokens drawn in 64 forked children, whose parent had drawn some before, never meet.
//! `row09-tokens [shm]`; with `shm`, of holds of one lock in shared memory, whose store the children
//! inherit; there no two holds have one fencing token either.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use synlock_core::{Lock, LockOptions, OwnerToken, Store, Wait};
use synlock_tests::names::TempDir;
use synlock_tests::page::SharedPage;
use synlock_tests::process::{exit_status, fork, is_full_load, wait};
use synlock_tests::torture::Verdict;

const CHILDREN: usize = 64;
const EACH: usize = 100_000;

/// An owner token in halves, and a fencing token.
type Drawn = [u64; 3];

struct Page {
    drawn: [[AtomicU64; 3]; CHILDREN * EACH],
}

fn drawn(token: OwnerToken, fence: u64) -> Drawn {
    let bytes = u128::from_ne_bytes(*token.as_bytes());
    [(bytes >> 64) as u64, bytes as u64, fence]
}

fn draw() -> Drawn {
    drawn(OwnerToken::draw().expect("random bytes"), 0)
}

fn hold(lock: &Lock) -> Drawn {
    let held = lock.acquire(Wait::Forever, None).expect("a hold");
    let token = lock.owner_token().expect("a token");
    lock.release().expect("ours to release");
    drawn(token, held.fence.expect("a fencing token"))
}

fn main() -> ExitCode {
    let mut verdict = Verdict::default();
    if std::env::args().nth(1).as_deref() == Some("shm") {
        let dir = TempDir::within("/dev/shm", "tokens");
        let store = Store::open(&format!("shm:{}/segment", dir.path().display())).expect("a store");
        let mut options = LockOptions::default();
        options.fair = false;
        let lock = store.lock_with("x", options).expect("a lock");
        let mut tokens = all(&|| hold(&lock), &mut verdict);
        claim_distinct(
            &mut tokens,
            "fencing tokens",
            |one| [one[2], 0],
            &mut verdict,
        );
        claim_distinct(
            &mut tokens,
            "owner tokens",
            |one| [one[0], one[1]],
            &mut verdict,
        );
    } else {
        let mut tokens = all(&draw, &mut verdict);
        claim_distinct(
            &mut tokens,
            "owner tokens",
            |one| [one[0], one[1]],
            &mut verdict,
        );
    }
    verdict.finish()
}

/// What the parent draws between its forks, and the children.
fn all(draw: &dyn Fn() -> Drawn, verdict: &mut Verdict) -> Vec<Drawn> {
    let each = if is_full_load() { EACH } else { EACH / 50 };
    // SAFETY: atomics, for which zero is a value.
    let page = unsafe { SharedPage::<Page>::new() };
    let mut tokens: Vec<Drawn> = Vec::new();
    let mut children = Vec::new();
    for child in 0..CHILDREN {
        // The block that tokens are dealt from is part used when it is copied.
        tokens.push(draw());
        children.push(fork(|| {
            for place in &page.drawn[child * EACH..][..each] {
                for (part, value) in place.iter().zip(draw()) {
                    part.store(value, Ordering::Relaxed);
                }
            }
            0
        }));
        tokens.push(draw());
    }
    let crashed = children
        .into_iter()
        .filter(|pid| exit_status(wait(*pid)) != 0)
        .count();
    for child in 0..CHILDREN {
        let places = &page.drawn[child * EACH..][..each];
        tokens.extend(
            places
                .iter()
                .map(|place| [0, 1, 2].map(|part: usize| place[part].load(Ordering::Relaxed))),
        );
    }
    verdict.claim(crashed == 0, "crashed children", crashed);
    let drawn = tokens.len();
    verdict.claim(drawn == CHILDREN * (each + 2), "tokens drawn", drawn);
    tokens
}

fn claim_distinct(
    tokens: &mut [Drawn],
    what: &str,
    of: impl Fn(&Drawn) -> [u64; 2],
    verdict: &mut Verdict,
) {
    tokens.sort_unstable_by_key(&of);
    let zeroes = tokens.iter().filter(|one| of(one) == [0, 0]).count();
    let twice = tokens
        .windows(2)
        .filter(|pair| of(&pair[0]) == of(&pair[1]))
        .count();
    verdict.claim(zeroes == 0, &format!("{what} that are zero"), zeroes);
    verdict.claim(twice == 0, &format!("{what} drawn twice"), twice);
}
