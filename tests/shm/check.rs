//! The consistency check: silent while all is well, however much goes on; loud about what the dead
//! left, until the next user has cleared it away, and about whatever cannot be.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use synlock_core::{LockOptions, Mode, Store, Wait};
use synlock_tests::names::TempDir;
use synlock_tests::process::{exit_status, fork, signal, wait};
use synlock_tests::segment::{Array, NOBODY, Segment};

fn place() -> (TempDir, PathBuf) {
    let folder = TempDir::within("/dev/shm", "shm-check");
    let path = folder.path().join("segment");
    (folder, path)
}

fn open(path: &Path) -> Store {
    Store::open(&format!("shm:{}?slots=16", path.display())).unwrap()
}

fn permits(take: u32, of: u32) -> LockOptions {
    let mut options = LockOptions::default();
    options.mode = Mode::Permits { take, of };
    options
}

/// What the check finds, without the numbers.
fn kinds(store: &Store) -> Vec<String> {
    let found = store.check().unwrap();
    assert_eq!(found.findings, found.texts.len() as u64);
    let kind = |text: &String| text.split(':').next().unwrap_or_default().to_owned();
    found.texts.iter().map(kind).collect()
}

/// A process that attaches anew: it gets the number of the one that died.
fn newcomer(path: &Path, name: &str, options: LockOptions) {
    let pid = fork(|| {
        let lock = open(path).lock_with(name, options).unwrap();
        lock.acquire(Wait::For(Duration::from_secs(60)), None)
            .unwrap();
        lock.release().unwrap();
        0
    });
    assert_eq!(exit_status(wait(pid)), 0);
}

#[test]
fn nothing_is_made_and_nothing_changed() {
    let (_folder, path) = place();
    let store = open(&path);
    assert!(store.check().unwrap().is_sound());
    assert!(!path.exists(), "a check makes no segment");
    let lock = store.lock("x").unwrap();
    lock.acquire(Wait::No, None).unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(store.check().unwrap().is_sound());
    // As a process that is not attached.
    assert!(open(&path).check().unwrap().is_sound());
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn what_the_dead_left_is_found_until_it_is_cleared_away() {
    let (_folder, path) = place();
    let store = open(&path);
    store.ping(Wait::No).unwrap();
    for (options, left) in [
        (LockOptions::default(), &["holder", "slot"] as &[_]),
        (permits(1, 3), &["holder", "holder"]),
    ] {
        let pid = fork(|| {
            let store = open(&path);
            let holds = || {
                let lock = store.lock_with("x", options.clone()).unwrap();
                lock.acquire(Wait::No, None).unwrap();
                std::mem::forget(lock);
            };
            holds();
            if matches!(options.mode, Mode::Permits { .. }) {
                holds();
            }
            0
        });
        assert_eq!(exit_status(wait(pid)), 0);
        assert_eq!(kinds(&store), left);
        newcomer(&path, "x", options);
        assert_eq!(kinds(&store), [""; 0]);
    }
}

#[test]
fn a_waiter_that_died_is_found_until_its_number_is_taken_again() {
    let (_folder, path) = place();
    let store = open(&path);
    let held = store.lock("x").unwrap();
    held.acquire(Wait::No, None).unwrap();
    let pid = fork(|| {
        let lock = open(&path).lock("x").unwrap();
        i32::from(lock.acquire(Wait::Forever, None).is_ok())
    });
    while store.inspect("x").unwrap().waiters != Some(1) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(kinds(&store), [""; 0], "it lives");
    signal(pid, libc::SIGKILL);
    wait(pid);
    assert_eq!(kinds(&store), ["waiter"]);
    held.release().unwrap();
    newcomer(&path, "x", LockOptions::default());
    assert_eq!(kinds(&store), [""; 0]);
}

#[test]
fn what_cannot_be_is_found() {
    let (_folder, path) = place();
    let store = open(&path);
    let lock = store.lock("x").unwrap();
    lock.acquire(Wait::No, None).unwrap();
    let other = store.lock("y").unwrap();
    other.acquire(Wait::No, None).unwrap();
    let segment = Segment::open(&path);
    let (x, y) = (
        segment.slot_named("x").unwrap(),
        segment.slot_named("y").unwrap(),
    );
    let grant = segment.read(segment.slot(x));
    let record = grant >> 49;
    let epoch = grant & ((1 << 46) - 1);
    let place_at = segment.word_of(Array::Places, record);
    let mode_at = segment.word_of(Array::Modes, record);
    let place = |role: u64, slot: u64, number: u64| role << 62 | slot << 46 | number;
    let unused = (segment.records() - 1) << 49;
    let cases = [
        ("seal", segment.slot(x), NOBODY << 49 | 3 << 47 | epoch),
        ("word", segment.slot(x), NOBODY << 49 | 1 << 47 | epoch),
        ("word", segment.slot(x), unused | 1 << 47 | epoch),
        ("word", 80, segment.records()),
        ("word", place_at, place(3, 16, epoch)),
        ("word", place_at, place(3, x, epoch + 1)),
        ("word", place_at, place(1, x, 7)),
        ("word", mode_at, 0),
        ("word", mode_at, 3 << 62 | 2 << 31 | 1),
        ("word", segment.group(record / 8), 0xffff << 48 | 1),
        ("word", segment.group(record / 8), 999),
        ("word", segment.name(x), 70_000),
        ("name", segment.name(x) + 64, u64::from(b'z')),
        ("word", segment.slot(x), NOBODY << 49 | 2 << 47 | epoch),
    ];
    for (number, (kind, at, word)) in cases.into_iter().enumerate() {
        let before = segment.read(at);
        segment.write(at, word);
        let found = store.check().unwrap();
        segment.write(at, before);
        let named = found.texts.iter().any(|text| text.starts_with(kind));
        assert!(named, "case {number}, {kind}: {found:?}");
        assert!(store.check().unwrap().is_sound());
    }
    // Its place says that it holds what somebody else holds.
    let before = segment.read(place_at);
    segment.write(place_at, place(3, y, 1));
    assert_eq!(kinds(&store), ["overlap"]);
    segment.write(place_at, before);
    // A name twice, and one that no search comes to.
    let free = (0..16).find(|slot| segment.read(segment.slot(*slot) + 40) == 0);
    let free = free.unwrap();
    let tag = segment.read(segment.slot(x) + 40);
    segment.write(segment.name(free), 1);
    segment.write(segment.name(free) + 64, u64::from(b'x'));
    segment.write(segment.slot(free) + 40, tag);
    assert_eq!(kinds(&store), ["name"]);
}

#[test]
fn living_processes_are_left_in_peace() {
    let (_folder, path) = place();
    let store = open(&path);
    store.ping(Wait::No).unwrap();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let (path, over) = (&path, &over);
            scope.spawn(move || {
                let store = open(path);
                let mut round = thread;
                while !over.load(Ordering::Relaxed) {
                    round += 1;
                    let mut options = LockOptions::default();
                    options.mode = match round % 3 {
                        0 => Mode::Exclusive,
                        1 => Mode::Shared,
                        _ => Mode::Exclusive,
                    };
                    let name = format!("name {}", round % 24);
                    let lock = store.lock_with(name, options).unwrap();
                    let wait = Wait::For(Duration::from_millis(u64::from(round % 4)));
                    if lock.acquire(wait, None).is_ok() {
                        lock.release().unwrap();
                    }
                }
            });
        }
        for _ in 0..2_000 {
            let found = store.check().unwrap();
            if !found.is_sound() {
                over.store(true, Ordering::Relaxed);
                panic!("{found:?}");
            }
        }
        over.store(true, Ordering::Relaxed);
    });
}
