//! `sysv:` as several processes see it: sets that others make, fill, remove and own; limits of the kernel.

use std::process::Command;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use synlock_core::store::sysv::{Generation, clean_up, symfony_key};
use synlock_core::{Cancel, Code, Lock, LockOptions, Mode, Store, Wait};
use synlock_tests::apart;
use synlock_tests::names::{TempDir, unique};
use synlock_tests::process::{exit_status, fork, wait};

/// A space of one's own, swept when dropped.
struct Space(String);

impl Space {
    fn new() -> Self {
        Space(format!("sysv:{}", unique("store")))
    }

    fn open(&self) -> Store {
        Store::open(&self.0).unwrap()
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = clean_up(&self.0);
    }
}

fn held(store: &Store, name: &str) -> Lock {
    let lock = store.lock(name).unwrap();
    lock.acquire(Wait::No, None).unwrap();
    lock
}

fn with(store: &Store, name: &str, change: impl FnOnce(&mut LockOptions)) -> Lock {
    let mut options = LockOptions::default();
    change(&mut options);
    store.lock_with(name, options).unwrap()
}

fn code<T: std::fmt::Debug>(result: synlock_core::Result<T>) -> Code {
    result.map_or_else(|error| error.code(), |_| Code::Ok)
}

/// Runs PHP; what it prints.
fn php(script: &str) -> String {
    let done = Command::new("php").args(["-r", script]).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap()
}

fn remove(key: i32) {
    let key = format!("0x{key:08x}");
    let _ = Command::new("ipcrm").args(["-S", &key]).output();
}

/// A key that no other test has.
fn fresh_key() -> i32 {
    symfony_key(Generation::Crc32, unique("key").as_bytes()) | 1
}

#[test]
fn spaces_do_not_meet() {
    let (one, other) = (Space::new(), Space::new());
    let _a = held(&one.open(), "x");
    let _b = held(&other.open(), "x");
    assert_eq!(
        code(one.open().lock("x").unwrap().acquire(Wait::No, None)),
        Code::Busy
    );
}

#[test]
fn processes_that_make_a_set_together_make_one() {
    let space = Space::new();
    for round in 0..20 {
        let name = format!("x{round}");
        let barrier = Arc::new(Barrier::new(4));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (barrier, name) = (barrier.clone(), name.clone());
                // Another URL is another store, which looks for itself.
                let store = space.open();
                std::thread::spawn(move || {
                    let lock = store.lock(&name).unwrap();
                    barrier.wait();
                    let got = lock.try_acquire().unwrap().is_some();
                    barrier.wait();
                    got
                })
            })
            .collect();
        let got = threads.into_iter().filter_map(|thread| thread.join().ok());
        assert_eq!(got.filter(|got| *got).count(), 1);
    }
}

#[test]
fn permits_are_those_that_all_agree_on() {
    let space = Space::new();
    let store = space.open();
    let permits = |take, of| {
        with(&store, "p", |options| {
            options.mode = Mode::Permits { take, of }
        })
    };
    let (a, b) = (permits(2, 3), permits(1, 5));
    // Who waits while the lock is held exclusively brings its number along.
    let all = held(&store, "p");
    assert_eq!(
        code(a.acquire(Wait::For(Duration::from_millis(20)), None)),
        Code::Timeout
    );
    all.release().unwrap();
    a.acquire(Wait::No, None).unwrap();
    assert_eq!(code(b.acquire(Wait::No, None)), Code::InvalidArgument);
    assert_eq!(code(b.acquire(Wait::Forever, None)), Code::InvalidArgument);
    a.release().unwrap();
    b.acquire(Wait::No, None).unwrap();
    let (most, more) = (permits(1, 32_766), permits(1, 32_767));
    b.release().unwrap();
    most.acquire(Wait::No, None).unwrap();
    let error = more.acquire(Wait::No, None).unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("32766"), "{error}");
    let tokens: Vec<_> = [most.fencing_token(), Some(0)].into();
    assert!(tokens[0] > tokens[1]);
}

#[test]
fn a_set_that_is_removed_is_a_loss_and_wakes_who_waits() {
    let space = Space::new();
    let store = space.open();
    let (a, b) = (held(&store, "x"), space.open().lock("x").unwrap());
    let first = a.fencing_token().unwrap();
    let waiter = std::thread::spawn(move || b.acquire(Wait::Forever, None).map(|_| b));
    while store.inspect("x").unwrap().waiters != Some(1) {
        std::thread::yield_now();
    }
    assert!(store.break_lock("x").unwrap());
    let b = waiter.join().unwrap().unwrap();
    assert!(b.fencing_token().unwrap() > first);
    assert_eq!(code(a.ensure_held()), Code::Lost);
    assert_eq!(code(a.release()), Code::Lost);
    b.ensure_held().unwrap();
    b.release().unwrap();
    assert!(!store.break_lock("x").unwrap());
}

#[test]
fn the_fencing_counter_is_carried_over() {
    let space = Space::new();
    let store = space.open();
    let lock = store.lock("x").unwrap();
    let mut last = 0;
    for _ in 0..70_000 {
        lock.acquire(Wait::No, None).unwrap();
        let fence = lock.fencing_token().unwrap();
        assert!(last == 0 || fence == last + 1, "{last} {fence}");
        last = fence;
        lock.release().unwrap();
    }
}

#[test]
fn cleaning_removes_what_nobody_holds() {
    let space = Space::new();
    let store = space.open();
    let a = held(&store, "held");
    for number in 0..10 {
        held(&store, &format!("free{number}")).release().unwrap();
    }
    assert_eq!(clean_up(&space.0).unwrap(), 10);
    a.ensure_held().unwrap();
    // A number of a set that was known leads nowhere.
    let again = held(&store, "free1");
    assert!(again.fencing_token() > a.fencing_token());
    drop((a, again));
    assert_eq!(clean_up(&space.0).unwrap(), 2);
    assert_eq!(
        clean_up("sysv:?dialect=php").unwrap_err().code(),
        Code::Unsupported
    );
}

#[test]
fn another_programs_set_is_left_alone() {
    // PHP's dialect takes any key, so what it finds there may be anything.
    let key = fresh_key();
    // SAFETY: no pointers involved.
    let foreign = unsafe { libc::semget(key, 1, libc::IPC_CREAT | libc::IPC_EXCL | 0o600) };
    assert!(foreign >= 0);
    let store = Store::open("sysv:?dialect=php").unwrap();
    let error = store
        .lock(key.to_string())
        .unwrap()
        .acquire(Wait::No, None)
        .unwrap_err();
    assert_eq!(error.code(), Code::Storage);
    assert!(error.message().contains("another program"), "{error}");
    remove(key);
}

#[test]
fn phps_lock_and_ours_are_one() {
    let key = fresh_key();
    let store = Store::open("sysv:?dialect=php").unwrap();
    let lock = held(&store, &key.to_string());
    let taken = format!("echo sem_acquire(sem_get({key}), true) ? 'taken' : 'busy';");
    assert_eq!(php(&taken), "busy");
    let found = store.inspect(key.to_string()).unwrap();
    assert_eq!(found.holders[0].pid, Some(std::process::id()));
    lock.release().unwrap();
    assert_eq!(php(&taken), "taken");
    // PHP has removed the set: that is a loss.
    lock.acquire(Wait::No, None).unwrap();
    assert_eq!(php(&format!("sem_remove(sem_get({key}));")), "");
    assert_eq!(code(lock.release()), Code::Lost);
    lock.acquire(Wait::No, None).unwrap();
    drop(lock);
    remove(key);
}

#[test]
fn symfonys_release_removes_the_set() {
    let name = unique("sym");
    let key = symfony_key(Generation::Md5, name.as_bytes());
    let store = Store::open("semaphore:?dialect=symfony&keys=md5").unwrap();
    let there = || {
        // SAFETY: no pointers involved.
        unsafe { libc::semget(key, 0, 0) >= 0 }
    };
    let lock = held(&store, &name);
    assert!(there());
    lock.release().unwrap();
    assert!(!there());
    // One that merely asked leaves what it found.
    let (a, b) = (held(&store, &name), store.lock(&name).unwrap());
    assert_eq!(code(b.acquire(Wait::No, None)), Code::Busy);
    assert!(there());
    a.ensure_held().unwrap();
}

#[test]
fn a_name_whose_key_is_zero_is_refused() {
    let store = Store::open("sysv:?dialect=php").unwrap();
    for name in ["0", "4294967296", "x", "01"] {
        let error = store
            .lock(name)
            .unwrap()
            .acquire(Wait::No, None)
            .unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{name}: {error}");
    }
}

#[test]
fn a_cancel_ends_a_wait_in_the_kernel_and_no_other() {
    let space = Space::new();
    for url in [space.0.as_str(), "sysv:?dialect=php"] {
        let name = fresh_key().to_string();
        let store = Store::open(url).unwrap();
        let a = held(&store, &name);
        let start = Instant::now();
        let wait = |cancel: Option<Cancel>| {
            let lock = store.lock(&name).unwrap();
            std::thread::spawn(move || {
                let got = lock.acquire(Wait::For(Duration::from_secs(120)), cancel.as_ref());
                (code(got), lock)
            })
        };
        let cancels: Vec<Cancel> = (0..6).map(|_| Cancel::new()).collect();
        let cancelled: Vec<_> = cancels
            .iter()
            .map(|cancel| wait(Some(cancel.clone())))
            .collect();
        let stays = wait(None);
        while store.inspect(&name).unwrap().waiters != Some(7) {
            std::thread::yield_now();
        }
        cancels.iter().for_each(Cancel::cancel);
        for thread in cancelled {
            assert_eq!(thread.join().unwrap().0, Code::Cancelled, "{url}");
        }
        assert!(start.elapsed() < Duration::from_secs(100), "waits ran out");
        while store.inspect(&name).unwrap().waiters != Some(1) {
            std::thread::yield_now();
        }
        a.release().unwrap();
        let (got, lock) = stays.join().unwrap();
        assert_eq!(got, Code::Ok);
        lock.release().unwrap();
        assert!(store.lock(&name).unwrap().try_acquire().unwrap().is_some());
        if url.contains("php") {
            remove(name.parse().unwrap());
        }
    }
}

/// One that was refused can be made again, by the caller or in the background.
#[test]
fn a_hold_outlives_a_release_that_fails() {
    const NOBODY: libc::uid_t = 65_534;
    let space = Space::new();
    let (first, second) = (space.open(), space.open());
    // A set that others may not use.
    drop(held(&first, "x"));
    let pid = fork(|| {
        let lock = held(&first, "x");
        // SAFETY: no memory involved, in a process of its own.
        let was_root = unsafe { libc::geteuid() == 0 && libc::seteuid(NOBODY) == 0 };
        let refused = lock.release().is_err();
        assert_eq!(refused, was_root);
        // SAFETY: as above.
        unsafe { libc::seteuid(0) };
        let _ = lock.release();
        let next = second.lock("x").unwrap();
        let patience = Wait::For(Duration::from_secs(30));
        i32::from(next.acquire(patience, None).is_err())
    });
    assert_eq!(exit_status(wait(pid)), 0);
}

#[test]
fn labels_of_other_processes_are_shown() {
    let space = Space::new();
    let store = space.open();
    let lock = with(&store, "x", |options| {
        options.label = Some("nightly é".into())
    });
    let child = synlock_tests::process::fork(|| {
        let lock = with(&store, "x", |options| {
            options.label = Some("nightly é".into())
        });
        lock.acquire(Wait::No, None).unwrap();
        // SAFETY: ends this process as a kill would.
        unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) };
        0
    });
    let holder = loop {
        if let Some(holder) = store.inspect("x").unwrap().holders.pop() {
            break holder;
        }
        std::thread::yield_now();
    };
    assert_eq!(holder.pid, Some(child.unsigned_abs()));
    assert_eq!(holder.label.as_deref(), Some("nightly é"));
    assert!(holder.fence.is_some());
    synlock_tests::process::signal(child, libc::SIGKILL);
    synlock_tests::process::wait(child);
    // The kernel has taken everything back, the label too.
    lock.acquire(Wait::No, None).unwrap();
    lock.release().unwrap();
    let plain = held(&store, "x");
    let found = space.open().inspect("x").unwrap();
    assert_eq!(found.holders[0].label, None);
    drop(plain);
}

/// A namespace of one's own, as a container has, whose kernel has room for a few sets.
#[test]
fn a_namespace_of_its_own_and_few_sets_are_warned_of() {
    if apart::folder().is_none() {
        let dir = TempDir::new("sysv");
        apart::again(
            "a_namespace_of_its_own_and_few_sets_are_warned_of",
            &["--ipc"],
            dir.path(),
            "echo 250 32000 32 20 > /proc/sys/kernel/sem",
        );
        return;
    }
    let store = Store::open("sysv:").unwrap();
    let told = apart::cautions(&store);
    for _ in 0..2 {
        store.lock("x").unwrap().try_acquire().unwrap().unwrap();
    }
    assert_eq!(apart::count(&told, "IPC namespace"), 1, "{told:?}");
    assert_eq!(
        apart::count(&told, "of the 20 semaphore sets"),
        1,
        "{told:?}"
    );
    assert_eq!(told.lock().unwrap().len(), 2, "{told:?}");
}
