//! Row 6: the lock file is removed, renamed or replaced every 20 ms while 8 processes use it. Nothing
//! is written with a stale token, and every loss is reported by the next check.

use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use synlock_core::{Code, Store, Wait};
use synlock_tests::load::Stretch;
use synlock_tests::names::TempDir;
use synlock_tests::page::{FencedResource, SharedPage};
use synlock_tests::process::{exit_status, fork, is_full_load, nanos, wait};
use synlock_tests::torture::Verdict;

const WORKERS: u64 = 8;
const EVERY: Duration = Duration::from_millis(20);

struct Page {
    stop: AtomicBool,
    /// Attacks on the file that have begun, and that are over.
    begun: AtomicU64,
    over: AtomicU64,
    resource: FencedResource,
    holds: AtomicU64,
    /// Checks that came after an attack on the file that was held.
    due: AtomicU64,
    reported: AtomicU64,
    silent: AtomicU64,
    errors: AtomicU64,
    /// Releases that came after such an attack, and said so.
    releases_due: AtomicU64,
    releases_told: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::SeqCst);
}

fn work(url: &str, page: &Page, me: u64) -> i32 {
    let lock = Store::open(url)
        .and_then(|store| store.lock("x"))
        .expect("a lock");
    let get = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    let mut turn = 0;
    while !page.stop.load(Ordering::SeqCst) {
        let fence = match lock.acquire(Wait::For(Duration::from_secs(1)), None) {
            Ok(acquired) => acquired.fence.expect("fencing is on"),
            Err(error) if error.code() == Code::Timeout => continue,
            Err(error) => {
                eprintln!("FAIL {error:?}");
                count(&page.errors);
                continue;
            }
        };
        count(&page.holds);
        // Attacks that begin from here on are attacks on the file that we hold.
        let begun = get(&page.begun);
        let until = nanos() + 8_000_000;
        let mut lost = false;
        turn += 1;
        while nanos() < until && !lost {
            std::thread::sleep(Duration::from_millis(turn % 3));
            if turn.is_multiple_of(4) {
                // Leave it to the release.
                continue;
            }
            let attacked = get(&page.over) > begun;
            let answer = lock.ensure_held();
            match (&answer, attacked) {
                (Ok(()), true) => count(&page.silent),
                (Ok(()), false) => {
                    // Refused if somebody has taken the lock since the check: that is what tokens
                    // are for.
                    page.resource.write(me, fence);
                }
                (Err(error), _) if error.code() == Code::Lost => lost = true,
                (Err(error), _) => {
                    eprintln!("FAIL {error:?}");
                    count(&page.errors);
                }
            }
            if attacked {
                count(&page.due);
                if lost {
                    count(&page.reported);
                }
            }
        }
        let attacked = get(&page.over) > begun && !lost;
        let told = lock
            .release()
            .is_err_and(|error| error.code() == Code::Lost);
        if attacked {
            count(&page.releases_due);
            if told {
                count(&page.releases_told);
            }
        }
    }
    0
}

/// One attack; false if there was no file.
fn attack(dir: &Path, turn: u64) -> bool {
    let file = dir.join("x");
    match turn % 4 {
        0 => std::fs::remove_file(&file).is_ok(),
        1 => std::fs::rename(&file, dir.join(".away")).is_ok(),
        2 => {
            let _ = std::fs::write(dir.join(".new"), b"");
            file.exists() && std::fs::rename(dir.join(".new"), &file).is_ok()
        }
        _ => {
            let (other, link) = (dir.join(".other"), dir.join(".swap"));
            let _ = std::fs::write(&other, b"");
            let _ = std::fs::remove_file(&link);
            file.exists()
                && std::fs::rename(&file, &link).is_ok()
                && std::fs::rename(&other, &file).is_ok()
        }
    }
}

fn main() -> ExitCode {
    let dir = TempDir::new("removed");
    let full = is_full_load();
    let url = format!("flock:{}?fencing=1", dir.path().display());
    // SAFETY: atomics, for which zero is a value.
    let page = unsafe { SharedPage::<Page>::new() };
    let workers: Vec<_> = (1..=WORKERS)
        .map(|me| fork(|| work(&url, &page, me)))
        .collect();
    let get = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    let share = if full { 1 } else { 40 };
    let (attacks, holds, checks) = (2_000 / share, 4_000 / share, 480 / share);
    let is_enough =
        || get(&page.over) >= attacks && get(&page.holds) >= holds && get(&page.due) >= checks;
    let stretch = Stretch::of(Duration::from_millis(if full { 60_000 } else { 1_500 }));
    let mut turn = 0;
    while stretch.goes_on(is_enough) {
        std::thread::sleep(EVERY);
        page.begun.fetch_add(1, Ordering::SeqCst);
        let done = attack(dir.path(), turn);
        turn += 1;
        if done {
            // Attacks that found nothing are over too, but prove nothing: they are taken back.
            page.over.fetch_add(1, Ordering::SeqCst);
        } else {
            page.begun.fetch_sub(1, Ordering::SeqCst);
        }
    }
    page.stop.store(true, Ordering::SeqCst);
    let crashed = workers
        .into_iter()
        .filter(|pid| exit_status(wait(*pid)) != 0)
        .count();
    let mut verdict = Verdict::default();
    let done = get(&page.over);
    verdict.claim(done >= attacks, "attacks on the file", done);
    verdict.claim(crashed == 0, "crashed workers", crashed);
    verdict.claim(get(&page.errors) == 0, "errors", get(&page.errors));
    verdict.claim(get(&page.holds) >= holds, "holds", get(&page.holds));
    verdict.claim(
        get(&page.resource.violations) == 0,
        "writes with a token that was not the writer's alone",
        format!(
            "{} ({} accepted, {} refused)",
            get(&page.resource.violations),
            get(&page.resource.accepted),
            get(&page.resource.refused)
        ),
    );
    verdict.claim(
        get(&page.due) >= checks,
        "checks after a loss",
        get(&page.due),
    );
    verdict.claim(
        get(&page.silent) == 0 && get(&page.reported) == get(&page.due),
        "losses reported by the next check",
        format!("{} of {}", get(&page.reported), get(&page.due)),
    );
    verdict.claim(
        get(&page.releases_told) == get(&page.releases_due),
        "losses reported by release",
        format!(
            "{} of {}",
            get(&page.releases_told),
            get(&page.releases_due)
        ),
    );
    verdict.finish()
}
