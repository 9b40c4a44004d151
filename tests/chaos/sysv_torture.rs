//! Row 2: 64 processes take one `sysv:` lock, and one of them is killed every 5 ms; meanwhile somebody
//! looks at the semaphore that counts what is free.
//!
//! `row02-sysv-torture [native|symfony] [fencing]`; with `fencing`, a part of row 28: the tokens grow.

use std::process::ExitCode;
use std::time::Duration;
use synlock_core::Store;
use synlock_core::store::sysv::clean_up;
use synlock_tests::names::unique;
use synlock_tests::process::is_full_load;
use synlock_tests::torture::{Least, Torture, Verdict, run};

fn main() -> ExitCode {
    synlock_tests::ipc::set_apart();
    let full = is_full_load();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|given| given == word);
    let (symfony, fencing) = (has("symfony"), has("fencing"));
    let native = format!("sysv:{}", unique("torture"));
    let url = if symfony {
        "sysv:?dialect=symfony".to_owned()
    } else {
        native.clone()
    };
    let mut torture = Torture::new(&url, &unique("torture"));
    // Few, so that often nobody waits: only then Symfony's set is removed.
    torture.workers = if symfony { 4 } else { 64 };
    torture.time = Duration::from_millis(if full { 60_000 } else { 1_200 });
    torture.kill_every = Some(Duration::from_millis(5));
    // The kernel hands over at once, so holds are long to be hit.
    torture.spin = 100;
    let share = if full { 1 } else { 50 };
    let watcher = Store::open(&url).expect("a store");
    let (mut looks, mut crowds) = (0u64, 0u64);
    let name = torture.name.clone();
    // Each release of Symfony's makes a new set.
    let least = if symfony { 100_000 } else { 1_000_000 };
    torture.least = Least::of(least / share, 5_000 / share, 100 / share);
    let report = run(&torture, || {
        looks += 1;
        let holders = watcher.inspect(&name).expect("a look").holders;
        crowds += u64::from(holders.len() > 1);
        looks > 100
    });
    let mut verdict = Verdict::default();
    verdict.claim_torture(&report, torture.least, 2_000);
    verdict.claim(
        crowds == 0 && looks > 100,
        "looks that saw two holders",
        format!("{crowds} of {looks}"),
    );
    if fencing {
        verdict.claim(
            report.regressions == 0,
            "tokens not greater than the one before",
            report.regressions,
        );
    }
    // Nobody is left: the lock is free, and the last set goes.
    let after = watcher.lock(&name).expect("a lock");
    verdict.claim(
        after.try_acquire().is_ok_and(|got| got.is_some()),
        "free when all are gone",
        "",
    );
    drop(after);
    if !symfony {
        let removed = clean_up(&native).expect("a clean-up");
        verdict.claim(removed == 1, "sets removed at the end", removed);
    }
    verdict.finish()
}
