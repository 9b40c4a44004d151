//! Row 1: 64 processes take one `flock:` lock, and one of them is killed every 5 ms.
//!
//! `row01-flock-torture [fair|unfair] [fencing|removing]`; with `fencing`, a part of row 28: the tokens grow;
//! with `removing`, each hold takes its file along when it ends, as Symfony 8.2 does.

use std::process::ExitCode;
use std::time::Duration;
use synlock_tests::names::TempDir;
use synlock_tests::process::is_full_load;
use synlock_tests::torture::{Least, Torture, Verdict, run};

fn main() -> ExitCode {
    let dir = TempDir::new("torture");
    let full = is_full_load();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|given| given == word);
    let (fencing, fair) = (has("fencing"), !has("unfair"));
    let removing = has("removing");
    let query = if fencing { "?fencing=1" } else { "" };
    let scheme = if removing { "flock+remove" } else { "flock" };
    let url = format!("{scheme}:{}{query}", dir.path().display());
    let mut torture = Torture::new(&url, "x");
    torture.options.fair = fair;
    torture.workers = 64;
    torture.time = Duration::from_millis(if full { 60_000 } else { 1_200 });
    torture.kill_every = Some(Duration::from_millis(5));
    // In turns there are fewer holds: longer ones, so that as many are hit.
    torture.spin = if fair { 60 } else { 20 };
    let share = if full { 1 } else { 50 };
    let least = match (fencing || removing, fair) {
        (true, _) => 100_000,
        (false, true) => 500_000,
        (false, false) => 5_000_000,
    };
    torture.least = Least::of(least / share, 5_000 / share, 100 / share);
    let report = run(&torture, || true);
    let mut verdict = Verdict::default();
    verdict.claim_torture(&report, torture.least, 10_000);
    if fencing {
        verdict.claim(
            report.regressions == 0,
            "tokens not greater than the one before",
            report.regressions,
        );
    }
    verdict.finish()
}
