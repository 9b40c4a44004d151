//! Row 3: 64 processes take one `shm:` lock, and one of them is killed every 5 ms.
//!
//! `row03-shm-torture [fair|unfair] [fencing]`; with `fencing`, a part of row 28: the tokens grow.

use std::process::ExitCode;
use std::time::Duration;
use synlock_tests::names::TempDir;
use synlock_tests::process::is_full_load;
use synlock_tests::torture::{Least, Torture, Verdict, run};

fn main() -> ExitCode {
    let dir = TempDir::within("/dev/shm", "torture");
    let full = is_full_load();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|given| given == word);
    let fair = !has("unfair");
    let url = format!("shm:{}/segment", dir.path().display());
    let mut torture = Torture::new(&url, "x");
    torture.options.fair = fair;
    torture.workers = 64;
    torture.time = Duration::from_millis(if full { 60_000 } else { 1_200 });
    torture.kill_every = Some(Duration::from_millis(5));
    // Ten million holds in a minute leave six microseconds for each, and what is done inside is part.
    torture.spin = if fair { 20 } else { 5 };
    let share = if full { 1 } else { 50 };
    let least = if fair { 500_000 } else { 10_000_000 };
    torture.least = Least::of(least / share, 5_000 / share, 0);
    let report = run(&torture, || true);
    let mut verdict = Verdict::default();
    verdict.claim_torture(&report, torture.least, 10_000);
    verdict.claim(
        report.regressions == 0,
        "tokens not greater than the one before",
        report.regressions,
    );
    verdict.finish()
}
