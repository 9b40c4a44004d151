//! Holds of a handle that has held before: its descriptor and its hold lie in a berth of its own.

use super::{open, shared};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use synlock_core::{Code, Lock, LockOptions, Store, Wait};
use synlock_tests::names::TempDir;

/// Holds once and once more, so that the next hold finds the descriptor in the berth.
fn settle(lock: &Lock) {
    for _ in 0..2 {
        lock.acquire(Wait::No, None).unwrap();
        lock.release().unwrap();
    }
}

fn settled(store: &Store, name: &str) -> Lock {
    let lock = store.lock(name).unwrap();
    settle(&lock);
    lock
}

/// Descriptors of lock files below a directory.
fn open_files(dir: &Path) -> usize {
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|target| target.starts_with(dir) && !target.ends_with(".synlock"))
        .count()
}

#[test]
fn it_is_seen_asked_about_and_kept_from_others() {
    let dir = TempDir::new("berths");
    let store = open(&dir, "");
    let lock = settled(&store, "x");
    let other = settled(&store, "x");
    lock.acquire(Wait::No, None).unwrap();
    assert!(other.try_acquire().unwrap().is_none());
    assert!(lock.is_acquired().unwrap());
    let before = store.inspect("x").unwrap().holders;
    let owner = lock.owner_token().unwrap();
    let holders = store.inspect("x").unwrap().holders;
    assert_eq!((before.len(), holders.len()), (1, 1), "{holders:?}");
    assert_eq!(before[0].owner.len(), 8, "something to tell holds by");
    assert_eq!(holders[0].owner, owner.to_hex()[..8]);
    assert_eq!(lock.owner_token(), Some(owner), "drawn once");
    assert!(lock.is_acquired().unwrap());
    assert!(holders[0].held.is_some() && holders[0].mode == "exclusive");
    assert_eq!(store.list(b"", None, 10).unwrap().locks.len(), 1);
    lock.release().unwrap();
    assert_eq!(lock.release().unwrap_err().code(), Code::NotHeld);
    assert!(store.inspect("x").unwrap().holders.is_empty());
    assert!(store.list(b"", None, 10).unwrap().locks.is_empty());
    assert!(other.try_acquire().unwrap().is_some());
    assert!(lock.try_acquire().unwrap().is_none());
    other.release().unwrap();
    assert!(lock.try_acquire().unwrap().is_some());
}

#[test]
fn it_changes_its_mode() {
    let dir = TempDir::new("berths");
    let store = open(&dir, "");
    let (a, b) = (shared(&store, "x"), shared(&store, "x"));
    for _ in 0..3 {
        settle(&a);
        settle(&b);
        a.acquire(Wait::No, None).unwrap();
        b.acquire(Wait::No, None).unwrap();
        assert_eq!(store.inspect("x").unwrap().holders.len(), 2);
        assert_eq!(a.promote(Wait::No).unwrap_err().code(), Code::Busy);
        b.release().unwrap();
        a.promote(Wait::No).unwrap();
        assert!(b.try_acquire().unwrap().is_none());
        assert_eq!(store.inspect("x").unwrap().holders[0].mode, "exclusive");
        a.demote().unwrap();
        assert!(b.try_acquire().unwrap().is_some());
        a.release().unwrap();
        b.release().unwrap();
    }
}

#[test]
fn its_loss_is_told_and_the_next_hold_is_of_the_new_file() {
    let dir = TempDir::new("berths");
    let store = open(&dir, "");
    let path = dir.path().join("x");
    for asks in [true, false] {
        let lock = settled(&store, "x");
        let heir = settled(&store, "x");
        lock.acquire(Wait::No, None).unwrap();
        assert!(store.break_lock("x").unwrap());
        assert!(heir.try_acquire().unwrap().is_some());
        if asks {
            assert_eq!(lock.ensure_held().unwrap_err().code(), Code::Lost);
        }
        assert_eq!(lock.release().unwrap_err().code(), Code::Lost);
        assert!(lock.try_acquire().unwrap().is_none(), "the heir's");
        heir.release().unwrap();
        settle(&lock);
        // Removed while nobody holds it: the descriptor in the berth is of no use.
        std::fs::remove_file(&path).unwrap();
        lock.acquire(Wait::No, None).unwrap();
        assert!(path.exists() && heir.try_acquire().unwrap().is_none());
        lock.release().unwrap();
    }
}

#[test]
fn it_outlives_its_handle_only_if_told_to() {
    let dir = TempDir::new("berths");
    let store = open(&dir, "");
    let lock = settled(&store, "x");
    lock.acquire(Wait::No, None).unwrap();
    std::thread::spawn(move || drop(lock)).join().unwrap();
    let next = settled(&store, "x");
    next.acquire(Wait::No, None).unwrap();
    let owner = next.owner_token().unwrap().to_hex();
    next.set_auto_release(false);
    std::thread::spawn(move || drop(next)).join().unwrap();
    assert!(store.lock("x").unwrap().try_acquire().unwrap().is_none());
    let holders = store.inspect("x").unwrap().holders;
    assert_eq!(holders.len(), 1, "{holders:?}");
    assert_eq!(holders[0].owner, owner[..8]);
    // The store goes before the handle that holds.
    let last = settled(&store, "y");
    last.acquire(Wait::No, None).unwrap();
    drop(store);
    let again = open(&dir, "");
    assert!(again.is_locked("y").unwrap());
    last.release().unwrap();
    assert!(!again.is_locked("y").unwrap());
    drop(last);
}

#[test]
fn handles_keep_a_bounded_number_of_descriptors() {
    let dir = TempDir::new("berths");
    let store = open(&dir, "");
    let locks: Vec<Lock> = (0..200)
        .map(|number| settled(&store, &format!("n{number}")))
        .collect();
    locks.iter().for_each(settle);
    let kept = open_files(dir.path());
    assert!(kept <= 65, "{kept} descriptors");
    drop(locks);
    let kept = open_files(dir.path());
    assert!(kept <= 65, "{kept} descriptors");
    // Berths of handles that are gone are free again.
    let lock = settled(&store, "n1");
    settle(&lock);
}

#[test]
fn a_labelled_hold_goes_the_long_way_and_comes_back() {
    let dir = TempDir::new("berths");
    let store = open(&dir, "");
    let mut options = LockOptions::default();
    options.label = Some("night run".into());
    let labelled = store.lock_with("x", options).unwrap();
    settle(&labelled);
    labelled.acquire(Wait::No, None).unwrap();
    let holder = store.inspect("x").unwrap().holders.remove(0);
    assert_eq!(holder.label.as_deref(), Some("night run"));
    labelled.release().unwrap();
    let plain = settled(&store, "x");
    plain.acquire(Wait::No, None).unwrap();
    assert_eq!(store.inspect("x").unwrap().holders[0].label, None);
    plain.release().unwrap();
}

#[test]
fn a_child_has_no_part_in_it() {
    let dir = TempDir::new("berths");
    let store = open(&dir, "");
    let (held, idle) = (settled(&store, "x"), settled(&store, "y"));
    held.acquire(Wait::No, None).unwrap();
    let mut held = Some(held);
    // SAFETY: the child uses locks and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let good = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let held = held.take().unwrap();
            assert_eq!(held.release().unwrap_err().code(), Code::ForkedHandle);
            assert!(store.lock("x").unwrap().try_acquire().unwrap().is_none());
            settle(&idle);
            idle.acquire(Wait::No, None).unwrap();
            assert_eq!(store.inspect("y").unwrap().holders.len(), 1);
            drop(held);
            assert!(store.lock("x").unwrap().try_acquire().unwrap().is_none());
        }));
        // SAFETY: ends this process without running the parent's exit handlers.
        unsafe { libc::_exit(i32::from(good.is_err())) };
    }
    let mut status = 0;
    // SAFETY: `status` is valid for writes; the child is ours.
    unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!(status, 0);
    let held = held.unwrap();
    assert!(held.is_acquired().unwrap());
    held.release().unwrap();
    settle(&idle);
}
