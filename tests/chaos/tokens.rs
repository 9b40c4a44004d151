//! Row 9: owner tokens drawn in 64 forked children, whose parent had drawn some before, never meet.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use synlock_core::OwnerToken;
use synlock_tests::page::SharedPage;
use synlock_tests::process::{exit_status, fork, is_full_load, wait};
use synlock_tests::torture::Verdict;

const CHILDREN: usize = 64;
const EACH: usize = 100_000;

struct Page {
    halves: [AtomicU64; 2 * CHILDREN * EACH],
}

fn halves(token: OwnerToken) -> [u64; 2] {
    let bytes = u128::from_ne_bytes(*token.as_bytes());
    [(bytes >> 64) as u64, bytes as u64]
}

fn main() -> ExitCode {
    let each = if is_full_load() { EACH } else { EACH / 50 };
    // SAFETY: atomics, for which zero is a value.
    let page = unsafe { SharedPage::<Page>::new() };
    let mut tokens: Vec<[u64; 2]> = Vec::new();
    let mut children = Vec::new();
    for child in 0..CHILDREN {
        // The block that tokens are dealt from is part used when it is copied.
        tokens.push(halves(OwnerToken::draw().expect("random bytes")));
        children.push(fork(|| {
            for number in 0..each {
                let drawn = halves(OwnerToken::draw().expect("random bytes"));
                for (half, value) in drawn.into_iter().enumerate() {
                    page.halves[2 * (child * EACH + number) + half].store(value, Ordering::Relaxed);
                }
            }
            0
        }));
        tokens.push(halves(OwnerToken::draw().expect("random bytes")));
    }
    let crashed = children
        .into_iter()
        .filter(|pid| exit_status(wait(*pid)) != 0)
        .count();
    for child in 0..CHILDREN {
        for number in 0..each {
            let at = 2 * (child * EACH + number);
            let half = |half: usize| page.halves[at + half].load(Ordering::Relaxed);
            tokens.push([half(0), half(1)]);
        }
    }
    let drawn = tokens.len();
    let zeroes = tokens.iter().filter(|token| **token == [0, 0]).count();
    tokens.sort_unstable();
    tokens.dedup();
    let mut verdict = Verdict::default();
    verdict.claim(crashed == 0, "crashed children", crashed);
    verdict.claim(zeroes == 0, "tokens that are zero", zeroes);
    verdict.claim(drawn == CHILDREN * (each + 2), "tokens drawn", drawn);
    verdict.claim(
        tokens.len() == drawn,
        "tokens drawn twice",
        drawn - tokens.len(),
    );
    verdict.finish()
}
