//! What an uncontended pair costs that can be counted: no system call, no allocation.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};
use synlock_core::{Lock, LockOptions, Mode, Store, Wait};
use synlock_tests::names::TempDir;
use synlock_tests::process::{exit_status, fork, wait};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts what each thread asks for.
struct Counting;

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const PAIRS: u32 = 2_000;

fn locks(store: &Store) -> Vec<Lock> {
    let with = |change: &dyn Fn(&mut LockOptions)| {
        let mut options = LockOptions::default();
        change(&mut options);
        store.lock_with("x", options).unwrap()
    };
    vec![
        with(&|_| {}),
        with(&|options| options.ttl = Some(Duration::from_secs(30))),
        with(&|options| options.fair = false),
        with(&|options| options.mode = Mode::Shared),
    ]
}

fn pairs(lock: &Lock, count: u32) {
    for pair in 0..count {
        let wait = [Wait::No, Wait::Forever, Wait::For(Duration::from_secs(5))];
        lock.acquire(wait[pair as usize % 3], None).unwrap();
        lock.release().unwrap();
    }
}

fn folder_and_url() -> (TempDir, String) {
    let folder = TempDir::within("/dev/shm", "pair");
    let url = format!("shm:{}/segment", folder.path().display());
    (folder, url)
}

/// On the stores whose pair takes less time than to ask for memory.
#[test]
fn an_uncontended_pair_allocates_nothing() {
    let (_folder, shm) = folder_and_url();
    for url in [shm.as_str(), "memory:pair"] {
        allocates_nothing(url);
    }
}

fn allocates_nothing(url: &str) {
    let (store, counted) = (Store::open(url).unwrap(), Store::open(url).unwrap());
    counted.measure(true);
    for lock in locks(&store).into_iter().chain(locks(&counted)) {
        let first = ALLOCATIONS.get();
        pairs(&lock, 3);
        let before = ALLOCATIONS.get();
        assert!(before > first, "the counter counts");
        pairs(&lock, PAIRS);
        let allocations = ALLOCATIONS.get() - before;
        assert_eq!(allocations, 0, "{url}: {:?}", lock.options());
    }
}

/// From here on the kernel ends this process at any system call but its exit. A clock that the kernel
/// does not let processes read by themselves is the machine's matter.
fn forbid_system_calls() {
    const LOAD_NUMBER: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        step(LOAD_NUMBER, 0, 0, 0),
        step(IF_EQUAL, 2, 0, libc::SYS_exit_group as u32),
        step(IF_EQUAL, 1, 0, libc::SYS_clock_gettime as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the program outlives the calls; it concerns this process alone.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const filter,
            ) == 0
    };
    assert!(done, "the kernel has seccomp filters");
}

/// Runs `child` in a process of its own, in which nobody else's threads are.
fn ends_well(child: impl Fn()) -> (i32, Duration) {
    let started = Instant::now();
    let pid = fork(|| {
        child();
        // SAFETY: ends the process at once, by the one call that is allowed.
        unsafe { libc::_exit(0) }
    });
    (exit_status(wait(pid)), started.elapsed())
}

#[test]
fn an_uncontended_pair_makes_no_system_call() {
    let (_folder, url) = folder_and_url();
    for which in 0..8 {
        let run = |again: bool, count: u32| {
            ends_well(|| {
                let store = Store::open(&url).unwrap();
                store.measure(which >= 4);
                let lock = &locks(&store)[which % 4];
                pairs(lock, 3);
                forbid_system_calls();
                pairs(lock, count);
                if again {
                    // The proof that the kernel looks: this one asks for the file.
                    let _ = std::fs::metadata("/");
                }
            })
        };
        assert_eq!(run(true, PAIRS).0, -libc::SIGSYS);
        // Once a second a process looks whether the file still stands in its place: where this takes
        // so long that it is due, it says nothing, and fewer are tried.
        let (mut tries, mut count) = (0, PAIRS);
        loop {
            let (status, took) = run(false, count);
            tries += 1;
            count = (count * 2 / 3).max(100);
            if status != 0 && took > Duration::from_millis(900) && tries < 20 {
                continue;
            }
            assert_eq!(status, 0, "lock {which}, {took:?}");
            break;
        }
    }
}
