//! Row 31 for `sqlite:`: a file system that is full, or that may only be read. Both are told by their code, nobody
//! holds by them, and work goes on when there is room again.
//!
//! Needs the right to mount: root, or user namespaces that everybody may make.

use std::path::Path;
use std::process::ExitCode;
use synlock_core::{Code, Lock, Result, State, Store, Wait};
use synlock_tests::names::TempDir;
use synlock_tests::process::{exit_status, fork, wait};
use synlock_tests::room::{alone, mount, mount_apart};
use synlock_tests::torture::Verdict;

const MEGABYTE: u64 = 1 << 20;
/// More than fit into what is left when the file system is full.
const NAMES: usize = 400;

fn store(folder: &Path) -> Store {
    Store::open(&format!("sqlite:{}/locks.db", folder.display())).unwrap()
}

fn code_of<T>(result: &Result<T>) -> Code {
    result.as_ref().err().map_or(Code::Ok, |error| error.code())
}

fn take(lock: &Lock) -> Code {
    code_of(&lock.acquire(Wait::No, None))
}

/// Leaves the child with 1 and the line that did not hold.
macro_rules! must {
    ($holds:expr) => {
        if !$holds {
            eprintln!("{}:{}: not so: {}", file!(), line!(), stringify!($holds));
            return 1;
        }
    };
}

fn fill(folder: &Path) {
    let ballast = std::fs::File::create(folder.join("ballast")).unwrap();
    let mut filled = 0;
    for step in [MEGABYTE as i64, 4096] {
        while nix::fcntl::posix_fallocate(&ballast, filled, step).is_ok() {
            filled += step;
        }
    }
}

fn full(folder: &Path) -> i32 {
    mount_apart(folder, 4 * MEGABYTE);
    let store = store(folder);
    let held = store.lock("held").unwrap();
    must!(take(&held) == Code::Ok);
    fill(folder);
    let mut taken = Vec::new();
    let refused = (0..NAMES).find_map(|number| {
        let lock = store.lock(format!("{number:0900}")).unwrap();
        match take(&lock) {
            Code::Ok => {
                taken.push(lock);
                None
            }
            code => Some((code, lock)),
        }
    });
    let Some((code, refused)) = refused else {
        eprintln!("it is never full");
        return 1;
    };
    if code != Code::Exhausted {
        eprintln!("{code:?} after {}", taken.len());
        return 1;
    }
    must!(refused.state() == State::Idle);
    // What was held before is held still.
    must!(held.ensure_held().is_ok());
    must!(take(&store.lock("held").unwrap()) != Code::Ok);
    std::fs::remove_file(folder.join("ballast")).unwrap();
    must!(taken.iter().all(|lock| lock.ensure_held().is_ok()));
    must!(!store.is_locked(format!("{:0900}", taken.len())).unwrap());
    must!(take(&refused) == Code::Ok);
    must!(refused.release().is_ok() && held.release().is_ok());
    must!(taken.iter().all(|lock| lock.release().is_ok()));
    0
}

fn read_only(folder: &Path) -> i32 {
    mount_apart(folder, 4 * MEGABYTE);
    let made = fork(|| {
        let lock = store(folder).lock("made").unwrap();
        i32::from(take(&lock) != Code::Ok || lock.release().is_err())
    });
    must!(exit_status(wait(made)) == 0);
    mount(folder, 4 * MEGABYTE, libc::MS_REMOUNT | libc::MS_RDONLY);
    let store = store(folder);
    for name in ["made", "new"] {
        let lock = store.lock(name).unwrap();
        let code = take(&lock);
        if code != Code::Permission {
            eprintln!("{name}: {code:?}");
            return 1;
        }
        must!(lock.state() == State::Idle);
    }
    mount(folder, 4 * MEGABYTE, libc::MS_REMOUNT);
    for name in ["made", "new"] {
        let lock = store.lock(name).unwrap();
        must!(take(&lock) == Code::Ok && lock.ensure_held().is_ok() && lock.release().is_ok());
    }
    0
}

fn main() -> ExitCode {
    type Case = fn(&Path) -> i32;
    let cases: [(&str, Case); 2] = [
        ("a full file system", full),
        ("a file system that may only be read", read_only),
    ];
    let mut verdict = Verdict::default();
    for (what, case) in cases {
        let folder = TempDir::within("/dev/shm", "room");
        alone(&mut verdict, what, || case(folder.path()));
    }
    verdict.finish()
}
