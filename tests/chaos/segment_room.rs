//! Row 31 for `shm:`: no room on the file system, in the address space, among the descriptors, the
//! processes, the records or the names. Each is told by its code and leaves nothing behind, and work
//! goes on when there is room.
//!
//! Needs the right to mount: root, or user namespaces that everybody may make.

use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use synlock_core::{Code, Lock, LockOptions, Mode, Result, Store, Wait};
use synlock_tests::names::TempDir;
use synlock_tests::process::{exit_status, fork, signal, wait};
use synlock_tests::room::{alone, mount, mount_apart};
use synlock_tests::torture::Verdict;

/// As many as a segment has places for.
const PROCESSES: usize = 1024;
const MEGABYTE: u64 = 1 << 20;

fn store(folder: &Path, slots: u32) -> Result<Store> {
    Store::open(&format!("shm:{}/segment?slots={slots}", folder.display()))
}

fn code_of<T>(result: &Result<T>) -> Code {
    result.as_ref().err().map_or(Code::Ok, |error| error.code())
}

fn take(lock: &Lock) -> Code {
    code_of(&lock.acquire(Wait::No, None))
}

fn entries(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

/// A pair works, and nobody is told of anything odd.
fn works(store: &Store, name: &str) -> bool {
    let lock = store.lock(name).unwrap();
    take(&lock) == Code::Ok
        && lock.ensure_held().is_ok()
        && lock.release().is_ok()
        && store.check().is_ok_and(|check| check.is_sound())
}

/// Leaves the child with the number of the line that did not hold.
macro_rules! must {
    ($holds:expr) => {
        if !$holds {
            eprintln!("{}:{}: not so: {}", file!(), line!(), stringify!($holds));
            return 1;
        }
    };
}

fn set_limit(which: libc::__rlimit_resource_t, soft: u64) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: a structure that is valid for both calls.
    let done = unsafe {
        libc::getrlimit(which, &raw mut limit) == 0 && {
            limit.rlim_cur = soft;
            libc::setrlimit(which, &raw const limit) == 0
        }
    };
    assert!(done, "a limit cannot be set");
}

fn free_blocks(folder: &Path) -> u64 {
    nix::sys::statvfs::statvfs(folder).unwrap().blocks_free()
}

fn full_file_system(folder: &Path) -> i32 {
    mount_apart(folder, MEGABYTE);
    let empty = free_blocks(folder);
    let store = store(folder, 16).unwrap();
    let lock = store.lock("x").unwrap();
    for _ in 0..3 {
        must!(take(&lock) == Code::Exhausted);
        must!(
            code_of(&lock.acquire(Wait::For(Duration::from_millis(20)), None)) == Code::Exhausted
        );
        must!(code_of(&store.ping(Wait::No)) == Code::Exhausted);
        must!(entries(folder) == 0);
        must!(free_blocks(folder) == empty);
    }
    mount(folder, 64 * MEGABYTE, libc::MS_REMOUNT);
    must!(take(&lock) == Code::Ok);
    must!(entries(folder) == 1);
    // Filled up behind it: nothing that is written later needs room.
    let ballast = std::fs::File::create(folder.join("ballast")).unwrap();
    let mut filled = 0;
    while nix::fcntl::posix_fallocate(&ballast, filled, MEGABYTE as i64).is_ok() {
        filled += MEGABYTE as i64;
    }
    while nix::fcntl::posix_fallocate(&ballast, filled, 4096).is_ok() {
        filled += 4096;
    }
    must!(free_blocks(folder) == 0);
    must!(lock.release().is_ok());
    let held: Vec<_> = (0..15)
        .map(|number| {
            let mut options = LockOptions::default();
            options.label = Some("a label that takes its room".into());
            let lock = store.lock_with(format!("{number:01000}"), options).unwrap();
            (take(&lock), lock)
        })
        .collect();
    must!(held.iter().all(|(code, _)| *code == Code::Ok));
    must!(
        store
            .list(b"", None, 100)
            .is_ok_and(|page| page.locks.len() == 15)
    );
    must!(store.check().is_ok_and(|check| check.is_sound()));
    // Another process finds no room for anything, and needs none.
    drop(held);
    must!(
        exit_status(wait(fork(|| i32::from(!works(
            &self::store(folder, 16).unwrap(),
            "y"
        )))))
            == 0
    );
    0
}

/// Nothing is sparse: the whole size is taken when the segment is made.
fn nearly_full_file_system(folder: &Path) -> i32 {
    mount_apart(folder, 64 * MEGABYTE);
    // In processes that end: a mapping keeps its room.
    let pid = fork(|| i32::from(!works(&store(folder, 16).unwrap(), "x")));
    must!(exit_status(wait(pid)) == 0);
    let size = std::fs::metadata(folder.join("segment")).unwrap().len();
    std::fs::remove_file(folder.join("segment")).unwrap();
    mount(folder, size - 4096, libc::MS_REMOUNT);
    let pid = fork(|| {
        let lock = store(folder, 16).unwrap().lock("x").unwrap();
        must!(take(&lock) == Code::Exhausted);
        must!(entries(folder) == 0);
        0
    });
    must!(exit_status(wait(pid)) == 0);
    mount(folder, size + 4096, libc::MS_REMOUNT);
    let pid = fork(|| i32::from(!works(&store(folder, 16).unwrap(), "x")));
    must!(exit_status(wait(pid)) == 0);
    0
}

fn file_size_limit(folder: &Path) -> i32 {
    set_limit(libc::RLIMIT_FSIZE, MEGABYTE);
    let store = store(folder, 16).unwrap();
    let lock = store.lock("x").unwrap();
    must!(take(&lock) == Code::Exhausted);
    must!(entries(folder) == 0);
    set_limit(libc::RLIMIT_FSIZE, 64 * MEGABYTE);
    must!(take(&lock) == Code::Ok);
    0
}

/// How much address space this process has taken.
fn mapped() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').next().unwrap().parse::<u64>().unwrap() * 4096
}

fn no_memory_to_map(folder: &Path) -> i32 {
    // A large one, so that all the rest fits.
    let store = store(folder, 16_384).unwrap();
    let lock = store.lock("x").unwrap();
    set_limit(libc::RLIMIT_AS, mapped() + 4 * MEGABYTE);
    must!(take(&lock) == Code::Exhausted);
    must!(code_of(&store.ping(Wait::No)) == Code::Exhausted);
    set_limit(libc::RLIMIT_AS, mapped() + 256 * MEGABYTE);
    must!(take(&lock) == Code::Ok);
    must!(lock.release().is_ok());
    must!(works(&store, "y"));
    0
}

/// But for the background thread's bell, which comes with the first trouble and stays.
fn open_descriptors() -> usize {
    let targets = std::fs::read_dir("/proc/self/fd").unwrap();
    let is_bell = |target: &std::path::PathBuf| target.to_string_lossy().contains("[eventfd]");
    targets
        .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok())
        .filter(|target| !is_bell(target))
        .count()
}

/// Allows one descriptor more each time, until it works; from none that is free.
fn few_descriptors(folder: &Path) -> i32 {
    let made_before = entries(folder);
    let store = store(folder, 16).unwrap();
    let lock = store.lock("x").unwrap();
    let open = open_descriptors();
    let lowest = std::fs::File::open("/dev/null").unwrap().as_raw_fd() as u64;
    let mut refused = 0;
    for limit in lowest.. {
        set_limit(libc::RLIMIT_NOFILE, limit);
        let code = take(&lock);
        let waited = (code != Code::Ok)
            .then(|| code_of(&lock.acquire(Wait::For(Duration::from_millis(5)), None)));
        set_limit(libc::RLIMIT_NOFILE, 1024);
        if code == Code::Ok {
            break;
        }
        must!(code == Code::Exhausted);
        must!(waited == Some(Code::Exhausted));
        must!(open_descriptors() == open);
        // It may have been made before there were too few for using it.
        must!(entries(folder) <= 1 && entries(folder) >= made_before);
        refused += 1;
        must!(limit < lowest + 20);
    }
    must!(refused >= 3);
    must!(entries(folder) == 1);
    must!(lock.release().is_ok());
    must!(works(&store, "y"));
    0
}

/// Every process that may attach does, and stays until it is killed.
fn too_many_processes(folder: &Path) -> i32 {
    let (read, write) = nix::unistd::pipe().unwrap();
    let mut users = Vec::new();
    for number in 0..PROCESSES {
        users.push(fork(|| {
            let lock = store(folder, 16)
                .unwrap()
                .lock(format!("{}", number % 16))
                .unwrap();
            let code = take(&lock);
            let answer = [u8::from(code == Code::Ok || code == Code::Busy)];
            let _ = nix::unistd::write(&write, &answer);
            loop {
                std::thread::park();
            }
        }));
        let mut answer = [0];
        must!(nix::unistd::read(&read, &mut answer) == Ok(1) && answer == [1]);
    }
    let late = store(folder, 16).unwrap();
    let lock = late.lock("0").unwrap();
    let refused = [
        take(&lock),
        code_of(&lock.acquire(Wait::For(Duration::from_millis(20)), None)),
    ];
    let pid = users.remove(0);
    signal(pid, libc::SIGKILL);
    wait(pid);
    // The killed one held the name.
    let after = take(&lock);
    let sound = late.check().is_ok_and(|check| check.is_sound());
    for pid in &users {
        signal(*pid, libc::SIGKILL);
    }
    for pid in users {
        wait(pid);
    }
    must!(refused == [Code::Exhausted; 2]);
    must!(after == Code::Ok);
    must!(sound);
    must!(entries(folder) == 1);
    must!(lock.release().is_ok());
    // The dead hold nothing.
    for number in 0..16 {
        let lock = late.lock(format!("{number}")).unwrap();
        must!(take(&lock) == Code::Ok && lock.release().is_ok());
    }
    0
}

/// More holds than the segment has records for.
fn too_many_holds(folder: &Path) -> i32 {
    let store = store(folder, 1).unwrap();
    let mut options = LockOptions::default();
    options.mode = Mode::Shared;
    let mut held = Vec::new();
    let last = loop {
        let lock = store.lock_with("x", options.clone()).unwrap();
        let code = take(&lock);
        if code != Code::Ok {
            break (code, lock);
        }
        held.push(lock);
        must!(held.len() < 1 << 15);
    };
    must!(last.0 == Code::Exhausted);
    must!(held.len() >= PROCESSES * 8);
    must!(
        held.iter()
            .step_by(100)
            .all(|lock| lock.ensure_held().is_ok())
    );
    must!(held.pop().unwrap().release().is_ok());
    must!(take(&last.1) == Code::Ok);
    must!(take(&store.lock_with("x", options).unwrap()) == Code::Exhausted);
    // Another process is refused as well, until somebody lets go.
    let newcomer = |wanted| {
        let pid = fork(|| {
            let mut options = LockOptions::default();
            options.mode = Mode::Shared;
            let lock = self::store(folder, 1)
                .unwrap()
                .lock_with("x", options)
                .unwrap();
            i32::from(take(&lock) != wanted)
        });
        exit_status(wait(pid)) == 0
    };
    must!(newcomer(Code::Exhausted));
    must!(last.1.release().is_ok());
    held.clear();
    must!(works(&store, "x"));
    0
}

/// More names than the segment has slots for, each of them held.
fn too_many_names(folder: &Path) -> i32 {
    let store = store(folder, 16).unwrap();
    let held: Vec<_> = (0..16)
        .map(|number| store.lock(format!("{number}")).unwrap())
        .collect();
    must!(held.iter().all(|lock| take(lock) == Code::Ok));
    let late = store.lock("late").unwrap();
    must!(take(&late) == Code::Exhausted);
    must!(code_of(&late.acquire(Wait::For(Duration::from_millis(20)), None)) == Code::Exhausted);
    must!(held.iter().all(|lock| lock.ensure_held().is_ok()));
    must!(held[7].release().is_ok());
    must!(take(&late) == Code::Ok);
    must!(take(&held[7]) == Code::Exhausted);
    must!(store.check().is_ok_and(|check| check.is_sound()));
    0
}

fn main() -> ExitCode {
    type Case = fn(&Path) -> i32;
    let cases: [(&str, Case); 9] = [
        ("a full file system", full_file_system),
        ("a file system one page too small", nearly_full_file_system),
        ("a limit of file sizes", file_size_limit),
        ("no memory to map it", no_memory_to_map),
        ("few descriptors, when it is made", few_descriptors),
        ("few descriptors, when it is there", |folder| {
            must!(works(&store(folder, 16).unwrap(), "z"));
            exit_status(wait(fork(|| few_descriptors(folder))))
        }),
        ("as many processes as may be", too_many_processes),
        ("as many holds as may be", too_many_holds),
        ("as many names as may be", too_many_names),
    ];
    let mut verdict = Verdict::default();
    for (what, case) in cases {
        let folder = TempDir::within("/dev/shm", "room");
        alone(&mut verdict, what, || case(folder.path()));
    }
    verdict.finish()
}
