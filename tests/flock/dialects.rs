//! The dialects of `flock:`: whose files, with which rights, removed or kept, beside peers of their own.

use std::fs;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::process::Command;
use synlock_core::store::flock::{clean_up, symfony_file_name};
use synlock_core::{Code, Error, LockOptions, Mode, Store, Wait};
use synlock_tests::names::TempDir;

fn url(dir: &TempDir, query: &str) -> String {
    format!("flock:{}?{query}", dir.path().display())
}

fn open(dir: &TempDir, query: &str) -> Store {
    Store::open(&url(dir, query)).unwrap()
}

fn shared(store: &Store, name: &str) -> synlock_core::Lock {
    let mut options = LockOptions::default();
    options.mode = Mode::Shared;
    store.lock_with(name, options).unwrap()
}

fn bits(path: impl AsRef<std::path::Path>) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// Whether `flock(1)` gets the file.
fn free_for_flock(path: &std::path::Path, mode: &str) -> bool {
    let mut flock = Command::new("flock");
    let run = flock.args([mode, "-n"]).arg(path).arg("true");
    run.status().unwrap().success()
}

#[test]
fn symfonys_file_is_empty_open_to_all_and_stays() {
    let dir = TempDir::new("flock");
    let store = open(&dir, "dialect=symfony");
    let lock = store.lock("a/b").unwrap();
    let path = dir.path().join("sf.a-b.wUzdwDP.lock");
    // SAFETY: sets a number of this process; no other test of this program depends on it.
    let before = unsafe { libc::umask(0o077) };
    lock.acquire(Wait::No, None).unwrap();
    // SAFETY: as above.
    unsafe { libc::umask(before) };
    assert_eq!(bits(&path), 0o666);
    assert!(!free_for_flock(&path, "-x"));
    lock.release().unwrap();
    assert!(free_for_flock(&path, "-x"));
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
}

#[test]
fn a_removing_hold_takes_its_file_along_and_a_reader_does_not() {
    let dir = TempDir::new("flock");
    let store = open(&dir, "dialect=symfony&remove=1");
    let path = dir.path().join(symfony_file_name(b"x"));
    let lock = store.lock("x").unwrap();
    for _ in 0..3 {
        lock.acquire(Wait::No, None).unwrap();
        assert!(path.exists());
        lock.release().unwrap();
        assert!(!path.exists());
    }
    let reader = shared(&store, "x");
    reader.acquire(Wait::No, None).unwrap();
    reader.release().unwrap();
    assert!(path.exists());
    // A reader that became the writer is one.
    reader.acquire(Wait::No, None).unwrap();
    reader.promote(Wait::No).unwrap();
    reader.release().unwrap();
    assert!(!path.exists());
}

#[test]
fn who_gets_a_file_that_was_removed_looks_again() {
    let dir = TempDir::new("flock");
    let keeping = open(&dir, "dialect=symfony");
    let (a, b) = (keeping.lock("x").unwrap(), keeping.lock("x").unwrap());
    let path = dir.path().join(symfony_file_name(b"x"));
    a.acquire(Wait::No, None).unwrap();
    let waiter = std::thread::spawn(move || {
        b.acquire(Wait::Forever, None).unwrap();
        b
    });
    while keeping.inspect("x").unwrap().waiters != Some(1) {
        std::thread::yield_now();
    }
    // As Symfony 8.2 lets go: the file first, then the lock.
    fs::remove_file(&path).unwrap();
    assert_eq!(a.release().unwrap_err().code(), Code::Lost);
    let b = waiter.join().unwrap();
    b.ensure_held().unwrap();
    assert!(!free_for_flock(&path, "-x"));
}

#[test]
fn readers_and_writers_change_beside_a_peer() {
    let dir = TempDir::new("flock");
    let store = open(&dir, "dialect=file");
    let (a, b) = (shared(&store, "x.lock"), shared(&store, "x.lock"));
    let path = dir.path().join("x.lock");
    a.acquire(Wait::No, None).unwrap();
    b.acquire(Wait::No, None).unwrap();
    assert!(free_for_flock(&path, "-s") && !free_for_flock(&path, "-x"));
    assert_eq!(a.promote(Wait::No).unwrap_err().code(), Code::Busy);
    b.release().unwrap();
    a.promote(Wait::No).unwrap();
    assert!(!free_for_flock(&path, "-s"));
    a.demote().unwrap();
    assert!(free_for_flock(&path, "-s"));
    assert_eq!(fs::metadata(&path).unwrap().len(), 0, "nothing is written");
}

#[test]
fn a_peers_file_keeps_what_is_in_it() {
    let dir = TempDir::new("flock");
    let path = dir.path().join("data.json");
    fs::write(&path, "{\"precious\": 1}").unwrap();
    let store = open(&dir, "dialect=file");
    let mut options = LockOptions::default();
    options.label = Some("nightly".into());
    let lock = store.lock_with("data.json", options).unwrap();
    lock.acquire(Wait::No, None).unwrap();
    lock.demote().unwrap();
    lock.promote(Wait::No).unwrap();
    let found = store.inspect("data.json").unwrap();
    assert_eq!(found.holders[0].label.as_deref(), Some("nightly"));
    lock.release().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "{\"precious\": 1}");
}

#[test]
fn files_are_made_as_the_peer_makes_them() {
    let dir = TempDir::new("flock");
    let made = |query: &str, name: &str| {
        let store = open(&dir, query);
        let lock = store.lock(name).unwrap();
        lock.acquire(Wait::No, None).unwrap();
        lock.release().unwrap();
        bits(dir.path().join(name))
    };
    // What `open(2)` makes of 0666 under this process' umask.
    let probe = dir.path().join("probe");
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o666)
        .open(&probe)
        .unwrap();
    assert_eq!(made("dialect=file", "a"), bits(&probe));
    assert_eq!(made("dialect=file&mode=0640", "b"), 0o640);
}

#[test]
fn symfonys_directory_is_made_and_the_files_is_not() {
    let dir = TempDir::new("flock");
    let deep = dir.path().join("a/b");
    let open = |dialect: &str| Store::open(&format!("flock:{}?{dialect}", deep.display())).unwrap();
    let file = open("dialect=file").lock("x").unwrap();
    assert_eq!(
        file.acquire(Wait::No, None).unwrap_err().code(),
        Code::Storage
    );
    open("dialect=symfony")
        .lock("x")
        .unwrap()
        .acquire(Wait::No, None)
        .unwrap();
    file.acquire(Wait::No, None).unwrap();
}

#[test]
fn a_path_over_a_link_meets_the_one_without() {
    let dir = TempDir::new("flock");
    let real = dir.path().join("real");
    fs::create_dir(&real).unwrap();
    let link = dir.path().join("link");
    symlink(&real, &link).unwrap();
    for dialect in ["symfony", "file"] {
        let at = |path: &std::path::Path| {
            let store = Store::open(&format!("flock:{}?dialect={dialect}", path.display()));
            store.unwrap().lock("x").unwrap()
        };
        let (a, b) = (at(&link), at(&real));
        a.acquire(Wait::No, None).unwrap();
        assert_eq!(b.acquire(Wait::No, None).unwrap_err().code(), Code::Busy);
        a.ensure_held().unwrap();
    }
    // The lock itself must not be one: it would be another file's lock.
    fs::write(dir.path().join("victim"), "").unwrap();
    symlink(dir.path().join("victim"), real.join("y")).unwrap();
    let store = Store::open(&format!("flock:{}?dialect=file", real.display())).unwrap();
    let error = store
        .lock("y")
        .unwrap()
        .acquire(Wait::No, None)
        .unwrap_err();
    assert_eq!(error.code(), Code::Permission);
}

#[test]
fn what_would_hurt_a_peer_is_refused() {
    let dir = TempDir::new("flock");
    for dialect in ["dialect=symfony", "dialect=file"] {
        let store = open(&dir, dialect);
        let lock = store.lock("x").unwrap();
        lock.acquire(Wait::No, None).unwrap();
        let refused = |error: Error| assert_eq!(error.code(), Code::Unsupported, "{error}");
        refused(store.break_lock("x").unwrap_err());
        refused(clean_up(&url(&dir, dialect)).unwrap_err());
        lock.ensure_held().unwrap();
    }
    let symfony = open(&dir, "dialect=symfony");
    assert_eq!(
        symfony.list(b"", None, 10).unwrap_err().code(),
        Code::Unsupported
    );
    // Who holds is told all the same.
    let lock = symfony.lock("y").unwrap();
    lock.acquire(Wait::No, None).unwrap();
    let found = symfony.inspect("y").unwrap();
    assert_eq!(found.holders[0].pid, Some(std::process::id()));
}

#[test]
fn a_file_that_one_may_only_read_is_locked_and_not_promoted() {
    let dir = TempDir::new("flock");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("x");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    // SAFETY: the child takes a lock and leaves by `_exit`.
    match unsafe { libc::fork() } {
        0 => {
            let nobody = nix::unistd::Uid::from_raw(65534);
            let is_root = nix::unistd::geteuid().is_root();
            let good = std::panic::catch_unwind(|| {
                // Root may write to anything.
                if is_root {
                    nix::unistd::setuid(nobody).unwrap();
                }
                let lock = shared(&open(&dir, "dialect=file"), "x");
                lock.acquire(Wait::No, None).unwrap();
                assert!(!free_for_flock(&path, "-x"));
                let error = lock.promote(Wait::No).unwrap_err();
                assert_eq!(error.code(), Code::Permission, "{error}");
                lock.ensure_held().unwrap();
            });
            // SAFETY: ends this process without running the parent's exit handlers.
            unsafe { libc::_exit(i32::from(good.is_err())) };
        }
        pid => {
            let mut status = 0;
            // SAFETY: `status` is valid for writes; the child is ours.
            unsafe { libc::waitpid(pid, &raw mut status, 0) };
            assert_eq!(status, 0);
        }
    }
}
