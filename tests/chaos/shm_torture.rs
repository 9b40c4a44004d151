//! Row 3: 64 processes take one `shm:` lock, and one of them is killed every 5 ms.
//!
//! `row03-shm-torture [fair|unfair] [leases|readers|permits] [fencing]`; with `fencing`, a part of row 28: the
//! tokens grow.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use synlock_core::{Store, Wait};
use synlock_tests::names::TempDir;
use synlock_tests::process::{exit_status, fork, is_full_load, wait};
use synlock_tests::torture::{Least, Report, Sharing, Torture, Verdict, run};

/// As many as there are processes at a time, and some: each takes a number of the dead, and with it what
/// they left.
const NEWCOMERS: usize = 80;

/// What the dead left and nobody has cleared away though all their numbers were taken again.
fn left_over(url: &str) -> Vec<String> {
    let newcomers: Vec<Store> = (0..NEWCOMERS)
        .map(|number| {
            let store = Store::open(&format!("{url}?label=newcomer{number}")).expect("a store");
            store.ping(Wait::No).expect("a place");
            store
        })
        .collect();
    let lock = newcomers[0].lock("x").expect("a lock");
    lock.acquire(Wait::For(Duration::from_secs(60)), None)
        .expect("the dead hold nothing");
    lock.release().expect("held");
    newcomers[0].check().expect("a segment").texts
}

/// In a process of its own: what it finds it says, and its status counts.
fn check(url: &str) -> i32 {
    let checker = fork(|| {
        let left = left_over(url);
        for text in left.iter().take(10) {
            eprintln!("FAIL {text}");
        }
        i32::from(!left.is_empty())
    });
    exit_status(wait(checker))
}

fn torture_of(url: &str, has: &dyn Fn(&str) -> bool) -> Torture {
    let full = is_full_load();
    let fair = !has("unfair");
    let mut torture = Torture::new(url, "x");
    torture.options.fair = fair;
    torture.workers = 64;
    torture.time = Duration::from_millis(if full { 60_000 } else { 1_200 });
    torture.kill_every = Some(Duration::from_millis(5));
    // Ten million holds in a minute leave six microseconds for each, and what is done inside is part.
    torture.spin = if fair { 20 } else { 5 };
    let share = if full { 1 } else { 50 };
    let mut least = if fair { 500_000 } else { 10_000_000 };
    if has("leases") {
        // None ends by itself, however slow the machine; each is a life that could.
        torture.options.ttl = Some(Duration::from_secs(600));
        least = 100_000;
    }
    if has("readers") || has("permits") {
        torture.sharing = if has("readers") {
            Sharing::Readers
        } else {
            Sharing::Permits(4)
        };
        // To find who is inside each looks at all records.
        least = 50_000;
        torture.spin = 200;
    }
    // Who is alone inside is gone again before it can be caught there, and on a busy machine the others too.
    let inside = match torture.sharing {
        Sharing::Nobody => 0,
        _ => 40,
    };
    torture.least = Least::of(least / share, 5_000 / share, inside / share);
    torture
}

fn judge(torture: &Torture, report: &Report, path: &Path) -> ExitCode {
    let mut verdict = Verdict::default();
    let noted = match torture.sharing {
        Sharing::Nobody => 10_000,
        _ => 0,
    };
    verdict.claim_torture(report, torture.least, noted);
    verdict.claim(
        report.regressions == 0,
        "tokens not greater than the one before",
        report.regressions,
    );
    verdict.claim(
        report.untold == 0 || torture.sharing == Sharing::Readers,
        "holders that were not told that the last one was killed inside (that were)",
        format!("{} ({})", report.untold, report.told),
    );
    let left = check(&format!("shm:{}", path.display()));
    verdict.claim(
        left == 0,
        "findings of the consistency check, or none",
        left,
    );
    verdict.finish()
}

fn main() -> ExitCode {
    let dir = TempDir::within("/dev/shm", "torture");
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|given| given == word);
    let path = dir.path().join("segment");
    let torture = torture_of(&format!("shm:{}", path.display()), &has);
    let report = run(&torture, || true);
    judge(&torture, &report, &path)
}
