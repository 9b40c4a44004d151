//! What an uncontended pair costs that can be counted: four system calls. Take the lock; look whether
//! the path still leads to what was taken; look once more before letting go, to tell of a loss; let go.

use std::process::Command;
use synlock_tests::names::TempDir;
use synlock_tests::taker::Taker;

/// System calls of a process that takes and releases a lock so often: those of `flock`, and all others
/// but the reading of commands and writing of answers; and how many seconds it took.
fn calls(pairs: u32) -> (i64, i64, i64) {
    let start = std::time::Instant::now();
    let dir = TempDir::new("pair");
    let log = dir.path().join("log");
    let url = format!("flock:{}/locks", dir.path().display());
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=!read,write", "-o"]);
    command.arg(&log).arg(env!("CARGO_BIN_EXE_flock-taker"));
    let mut taker = Taker::spawn(command.arg(&url));
    taker.ok("lock a x");
    for _ in 0..pairs {
        taker.ok("acquire a 0");
        taker.ok("release a");
    }
    taker.ok("drop a");
    drop(taker.ask("quit"));
    drop(taker);
    let text = std::fs::read_to_string(&log).unwrap();
    let locks = text.lines().filter(|line| line.contains("flock(")).count();
    let others = text.lines().count() as i64 - locks as i64;
    (locks as i64, others, start.elapsed().as_secs() as i64)
}

#[test]
fn an_uncontended_pair_makes_four_system_calls() {
    let (few, many) = (calls(50), calls(550));
    assert_eq!(many.0 - few.0, 2 * 500, "calls of flock");
    // Once a second somebody looks whether the queue's file is still there.
    let others = many.1 - few.1;
    assert!(
        (900..=1_040 + 8 * many.2).contains(&others),
        "{others} others in 500 pairs and {} s",
        many.2
    );
}
