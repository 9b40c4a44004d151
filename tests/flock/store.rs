//! `flock:` as one process and several see it: files, modes, names, breaking, cleaning.

mod berths;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use synlock_core::store::flock::{clean_up, file_name};
use synlock_core::{Code, Fence, LockOptions, Mode, Store, Wait};
use synlock_tests::apart;
use synlock_tests::names::TempDir;
use synlock_tests::process::{fork, signal, wait};
use synlock_tests::taker::Taker;

fn open(dir: &TempDir, query: &str) -> Store {
    Store::open(&format!("flock:{}{query}", dir.path().display())).unwrap()
}

fn shared(store: &Store, name: &str) -> synlock_core::Lock {
    let mut options = LockOptions::default();
    options.mode = Mode::Shared;
    store.lock_with(name, options).unwrap()
}

#[test]
fn two_handles_of_one_process_keep_each_other_out() {
    let dir = TempDir::new("flock");
    let store = open(&dir, "");
    let (a, b) = (store.lock("x").unwrap(), store.lock("x").unwrap());
    a.acquire(Wait::No, None).unwrap();
    assert!(b.try_acquire().unwrap().is_none());
    assert!(store.lock("y").unwrap().try_acquire().unwrap().is_some());
    a.release().unwrap();
    assert!(b.try_acquire().unwrap().is_some());
    assert_eq!(a.release().unwrap_err().code(), Code::NotHeld);
    b.release().unwrap();
}

#[test]
fn a_waiter_gets_the_lock_within_a_poll_and_a_timeout_is_kept() {
    let dir = TempDir::new("flock");
    let store = open(&dir, "");
    let held = store.lock("x").unwrap();
    held.acquire(Wait::No, None).unwrap();
    let start = Instant::now();
    let error = store
        .lock("x")
        .unwrap()
        .acquire(Wait::For(Duration::from_millis(120)), None)
        .unwrap_err();
    assert_eq!(error.code(), Code::Timeout);
    assert!(start.elapsed() >= Duration::from_millis(120));
    held.release().unwrap();
    // Another store object of the same directory: no bell in common.
    let other = Store::open(&format!("flock://{}", dir.path().display())).unwrap();
    let wakes = || {
        held.acquire(Wait::No, None).unwrap();
        let lock = other.lock("x").unwrap();
        let waiter = std::thread::spawn(move || {
            lock.acquire(Wait::Forever, None).unwrap();
            let at = Instant::now();
            lock.release().unwrap();
            at
        });
        while store.inspect("x").unwrap().waiters != Some(1) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let freed = Instant::now();
        held.release().unwrap();
        waiter.join().unwrap().saturating_duration_since(freed)
    };
    // Long before it asks of its own accord; a machine may let one wait for as long.
    let took: Vec<_> = (0..3).map(|_| wakes()).collect();
    assert!(
        took.iter().any(|took| *took < Duration::from_secs(3)),
        "{took:?}"
    );
}

#[test]
fn flock_of_util_linux_and_ours_keep_each_other_out() {
    let dir = TempDir::new("flock");
    let store = open(&dir, "");
    let lock = store.lock("job").unwrap();
    let theirs = |mode: &str| {
        Command::new("flock")
            .args([mode, "-n"])
            .arg(dir.path().join("job"))
            .arg("true")
            .status()
            .unwrap()
            .success()
    };
    lock.acquire(Wait::No, None).unwrap();
    assert!(!theirs("-x") && !theirs("-s"));
    lock.release().unwrap();
    let reader = shared(&store, "job");
    reader.acquire(Wait::No, None).unwrap();
    assert!(!theirs("-x") && theirs("-s"));
    reader.release().unwrap();
    let mut child = Command::new("flock")
        .arg(dir.path().join("job"))
        .args(["sh", "-c", "echo in; read x"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(child.stdout.take().unwrap()),
        &mut line,
    )
    .unwrap();
    assert!(lock.try_acquire().unwrap().is_none());
    let holders = store.inspect("job").unwrap().holders;
    // util-linux's flock forks: parent and child share the description, the kernel names the locker.
    assert_eq!(holders.len(), 1);
    assert_eq!(holders[0].pid, Some(child.id()));
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(lock.try_acquire().unwrap().is_some());
}

/// The kernel shows its locks a page at a time; where others come and go, it repeats and skips lines.
#[test]
fn one_holder_is_seen_once_however_many_locks_come_and_go_elsewhere() {
    let (dir, busy) = (TempDir::new("flock"), TempDir::new("flock"));
    let (store, elsewhere) = (open(&dir, ""), open(&busy, ""));
    let url = format!("flock:{}", dir.path().display());
    let mut holder = Taker::start(env!("CARGO_BIN_EXE_flock-taker"), &url);
    holder.ok("lock a x");
    holder.ok("acquire a 0");
    let still: Vec<_> = (0..150)
        .map(|number| {
            let lock = elsewhere.lock(format!("still{number}")).unwrap();
            lock.acquire(Wait::No, None).unwrap();
            lock
        })
        .collect();
    let stop = AtomicBool::new(false);
    let mut seen = Vec::new();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (elsewhere, stop) = (&elsewhere, &stop);
            scope.spawn(move || {
                let locks: Vec<_> = (0..40)
                    .map(|number| elsewhere.lock(format!("t{thread}-{number}")).unwrap())
                    .collect();
                while !stop.load(Ordering::Relaxed) {
                    for lock in &locks {
                        lock.acquire(Wait::No, None).unwrap();
                    }
                    for lock in locks.iter().rev() {
                        lock.release().unwrap();
                    }
                }
            });
        }
        for _ in 0..150 {
            let holders = store.inspect("x").unwrap().holders;
            seen.push(holders.iter().map(|one| one.pid).collect::<Vec<_>>());
        }
        stop.store(true, Ordering::Relaxed);
    });
    drop(still);
    let odd: Vec<_> = seen
        .iter()
        .filter(|pids| **pids != [Some(holder.pid())])
        .collect();
    assert!(odd.is_empty(), "{} of {}: {odd:?}", odd.len(), seen.len());
}

#[test]
fn readers_share_promote_and_demote() {
    let dir = TempDir::new("flock");
    let store = open(&dir, "");
    let (a, b) = (shared(&store, "x"), shared(&store, "x"));
    a.acquire(Wait::No, None).unwrap();
    b.acquire(Wait::No, None).unwrap();
    assert!(store.lock("x").unwrap().try_acquire().unwrap().is_none());
    assert_eq!(a.promote(Wait::No).unwrap_err().code(), Code::Busy);
    assert!(a.is_acquired().unwrap() && b.is_acquired().unwrap());
    b.release().unwrap();
    a.promote(Wait::No).unwrap();
    assert_eq!(a.mode(), Mode::Exclusive);
    assert!(b.try_acquire().unwrap().is_none());
    a.demote().unwrap();
    assert!(b.try_acquire().unwrap().is_some());
    assert!(store.lock("x").unwrap().try_acquire().unwrap().is_none());
    a.release().unwrap();
    b.release().unwrap();
    assert!(store.lock("x").unwrap().try_acquire().unwrap().is_some());
}

#[test]
fn permissions_do_not_follow_the_umask() {
    let dir = TempDir::new("flock");
    // SAFETY: only reads a number. A group that this user is in, whoever that is.
    let group = format!("?group={}", unsafe { libc::getgid() });
    // SAFETY: changes a number of this process, of which this test is the only reader.
    let before = unsafe { libc::umask(0o777) };
    let made = open(&dir, "").lock("plain").unwrap().try_acquire().is_ok()
        && open(&dir, &group)
            .lock("group")
            .unwrap()
            .try_acquire()
            .is_ok()
        && Store::open(&format!("flock:{}/sub", dir.path().display()))
            .unwrap()
            .lock("x")
            .unwrap()
            .try_acquire()
            .is_ok();
    // SAFETY: as above.
    unsafe { libc::umask(before) };
    assert!(made);
    let mode = |name: &str| {
        std::fs::metadata(dir.path().join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(
        (mode("plain"), mode("group"), mode("sub")),
        (0o600, 0o660, 0o700)
    );
}

/// Root may open whatever it made, so that this takes a user who is not.
#[test]
fn a_directory_is_made_under_a_umask_that_takes_everything() {
    const NOBODY: u32 = 65_534;
    let dir = TempDir::new("flock");
    // SAFETY: only reads a number.
    let is_root = unsafe { libc::geteuid() } == 0;
    if is_root {
        std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let url = format!("flock:{}/sub", dir.path().display());
    // SAFETY: the child is left by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: numbers of this child alone.
        let ready = unsafe {
            libc::umask(0o777);
            !is_root || (libc::setgid(NOBODY) == 0 && libc::setuid(NOBODY) == 0)
        };
        let taken = || Store::open(&url)?.lock("x")?.try_acquire();
        let good = ready && taken().is_ok_and(|taken| taken.is_some());
        // SAFETY: ends the child without the parent's clean-up.
        unsafe { libc::_exit(i32::from(!good)) };
    }
    let mut status = 0;
    // SAFETY: waits for the child made above.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0);
    let made = std::fs::metadata(dir.path().join("sub")).unwrap();
    assert_eq!(made.permissions().mode() & 0o7777, 0o700);
}

#[test]
fn only_one_level_of_directories_is_made() {
    let dir = TempDir::new("flock");
    let store = Store::open(&format!("flock:{}/a/b", dir.path().display())).unwrap();
    let error = store.lock("x").unwrap().try_acquire().unwrap_err();
    assert_eq!(error.code(), Code::Storage, "{error}");
    assert!(error.message().contains("parent"), "{error}");
}

#[test]
fn any_bytes_are_a_name_and_inspection_shows_them() {
    let dir = TempDir::new("flock");
    let store = open(&dir, "");
    let long = vec![b'n'; 1024];
    let names: Vec<Vec<u8>> = vec![
        b"plain".to_vec(),
        b"a/b".to_vec(),
        b"../../escape".to_vec(),
        b"..".to_vec(),
        b"nul\0inside".to_vec(),
        b"\xff\xfe".to_vec(),
        "Größe ☃".as_bytes().to_vec(),
        long.clone(),
    ];
    let locks: Vec<_> = names
        .iter()
        .map(|name| {
            let lock = store.lock(name).unwrap();
            lock.acquire(Wait::No, None).unwrap();
            lock
        })
        .collect();
    let mut listed = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = store.list(b"", cursor.as_deref(), 3).unwrap();
        assert!(page.locks.len() <= 3);
        listed.extend(page.locks.into_iter().map(|lock| {
            assert_eq!(lock.holders.len(), 1);
            assert_eq!(lock.holders[0].pid, Some(std::process::id()));
            lock.name
        }));
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    listed.sort();
    let mut expected = names.clone();
    expected.sort();
    assert_eq!(listed, expected);
    assert_eq!(store.list(b"a/", None, 10).unwrap().locks.len(), 1);
    for lock in &locks {
        lock.release().unwrap();
    }
    assert!(store.list(b"", None, 10).unwrap().locks.is_empty());
    // Nothing left the directory; the waiters' queue is there too.
    assert!(dir.path().join(".synlock").is_file());
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        names.len() + 1
    );
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        assert!(entry.unwrap().file_type().unwrap().is_file());
    }
}

#[test]
fn a_name_too_long_to_keep_is_listed_by_its_beginning() {
    let dir = TempDir::new("flock");
    let store = open(&dir, "");
    let (a, b) = (vec![b'n'; 65536], vec![b'n'; 65535]);
    let lock = store.lock(&a).unwrap();
    lock.acquire(Wait::No, None).unwrap();
    assert!(store.lock(&b).unwrap().try_acquire().unwrap().is_some());
    let page = store.list(b"nnn", None, 10).unwrap();
    assert_eq!(page.locks.len(), 1);
    assert_eq!(page.locks[0].name, &a[..1024]);
}

#[test]
fn labels_are_shown_while_held_and_not_afterwards() {
    let dir = TempDir::new("flock");
    let store = open(&dir, "");
    let mut options = LockOptions::default();
    options.label = Some("night run".into());
    let lock = store.lock_with("x", options).unwrap();
    lock.acquire(Wait::No, None).unwrap();
    let token = lock.owner_token().unwrap();
    let holder = store.inspect("x").unwrap().holders.remove(0);
    assert_eq!(holder.label.as_deref(), Some("night run"));
    assert_eq!(holder.owner, token.to_hex()[..8]);
    lock.release().unwrap();
    let lock = store.lock("x").unwrap();
    lock.acquire(Wait::No, None).unwrap();
    assert_eq!(store.inspect("x").unwrap().holders[0].label, None);
    lock.release().unwrap();
    assert!(!store.is_locked("x").unwrap());
    assert!(!store.is_locked("never seen").unwrap());
}

#[test]
fn a_broken_lock_is_lost_for_its_holder_and_free_for_others() {
    let dir = TempDir::new("flock");
    let store = open(&dir, "");
    let victim = store.lock("x").unwrap();
    victim.acquire(Wait::No, None).unwrap();
    assert!(store.break_lock("x").unwrap());
    let heir = store.lock("x").unwrap();
    assert!(heir.try_acquire().unwrap().is_some());
    assert_eq!(victim.ensure_held().unwrap_err().code(), Code::Lost);
    assert_eq!(victim.release().unwrap_err().code(), Code::Lost);
    assert!(heir.is_acquired().unwrap());
    heir.release().unwrap();
    assert!(!store.break_lock("x").unwrap(), "nobody held it");
    assert!(!store.break_lock("never seen").unwrap());
    assert!(victim.try_acquire().unwrap().is_some());
}

#[test]
fn a_file_that_is_removed_renamed_or_replaced_is_a_lost_lock() {
    let dir = TempDir::new("flock");
    let store = open(&dir, "");
    let path = dir.path().join("x");
    let ways: [(&str, &dyn Fn()); 4] = [
        ("removed", &|| std::fs::remove_file(&path).unwrap()),
        ("renamed", &|| {
            std::fs::rename(&path, dir.path().join("away")).unwrap();
        }),
        ("replaced", &|| {
            std::fs::write(dir.path().join("new"), b"").unwrap();
            std::fs::rename(dir.path().join("new"), &path).unwrap();
        }),
        ("directory swapped", &|| {
            let away = dir.path().with_extension("away");
            let _ = std::fs::remove_dir_all(&away);
            std::fs::rename(dir.path(), &away).unwrap();
            std::fs::create_dir(dir.path()).unwrap();
        }),
    ];
    for (how, change) in ways {
        for asks in [true, false] {
            let lock = store.lock("x").unwrap();
            lock.acquire(Wait::No, None).unwrap();
            change();
            if asks {
                assert_eq!(lock.ensure_held().unwrap_err().code(), Code::Lost, "{how}");
            }
            assert_eq!(lock.release().unwrap_err().code(), Code::Lost, "{how}");
            let next = store.lock("x").unwrap();
            assert!(next.try_acquire().unwrap().is_some(), "{how}");
            next.release().unwrap();
        }
    }
    let _ = std::fs::remove_dir_all(dir.path().with_extension("away"));
}

#[test]
fn fencing_tokens_grow_through_breaks_clean_ups_and_torn_records() {
    let dir = TempDir::new("flock");
    let store = open(&dir, "?fencing=1");
    assert_ne!(store.capabilities().fence, Fence::None);
    assert_eq!(open(&dir, "").capabilities().fence, Fence::None);
    let lock = store.lock("a name").unwrap();
    let path = dir.path().join(file_name(b"a name"));
    let mut last = 0;
    let mut take = |what: &str| {
        let acquired = lock.acquire(Wait::No, None).unwrap();
        let fence = acquired.fence.unwrap();
        assert!(fence > last, "{what}: {fence} after {last}");
        assert_eq!(lock.fencing_token(), Some(fence));
        last = fence;
    };
    for _ in 0..100 {
        take("again");
        lock.release().unwrap();
    }
    take("before a break");
    assert!(store.break_lock("a name").unwrap());
    assert_eq!(lock.release().unwrap_err().code(), Code::Lost);
    take("after a break");
    lock.release().unwrap();
    assert_eq!(
        clean_up(&format!("flock:{}", dir.path().display())).unwrap(),
        0
    );
    for at in [32, 48, 24, 0] {
        let mut bytes = std::fs::read(&path).unwrap();
        if at == 0 {
            bytes.fill(0);
        } else {
            bytes[at] ^= 0xff;
        }
        std::fs::write(&path, bytes).unwrap();
        take("after a torn record");
        lock.release().unwrap();
    }
    let reader = shared(&store, "a name");
    let first = reader.acquire(Wait::No, None).unwrap().fence.unwrap();
    assert!(first > last);
    reader.promote(Wait::No).unwrap();
    assert!(reader.fencing_token().unwrap() > first);
}

#[test]
fn content_of_others_is_left_alone() {
    let dir = TempDir::new("flock");
    let path = dir.path().join("x");
    std::fs::write(&path, b"somebody's data").unwrap();
    let store = open(&dir, "");
    let error = store.lock("x").unwrap().try_acquire().unwrap_err();
    assert_eq!(error.code(), Code::Protocol, "{error}");
    assert_eq!(
        clean_up(&format!("flock:{}", dir.path().display())).unwrap(),
        0
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"somebody's data");
    // Nothing is held after the refusal.
    assert!(
        Command::new("flock")
            .arg("-n")
            .arg(&path)
            .arg("true")
            .status()
            .unwrap()
            .success()
    );
}

/// A child has a copy of every descriptor that is open when it is made.
#[test]
fn children_keep_nobody_from_breaking_a_lock() {
    let dir = TempDir::new("children");
    let store = open(&dir, "");
    let lock = store.lock("x").unwrap();
    lock.acquire(Wait::No, None).unwrap();
    let stop = AtomicBool::new(false);
    let children: Vec<_> = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                store.ping(Wait::No).unwrap();
            }
        });
        let made = (0..50).map(|_| {
            std::thread::sleep(Duration::from_micros(300));
            fork(|| {
                std::thread::sleep(Duration::from_secs(300));
                0
            })
        });
        let made = made.collect();
        stop.store(true, Ordering::Relaxed);
        made
    });
    let broken = store.break_lock("x");
    for child in children {
        signal(child, libc::SIGKILL);
        wait(child);
    }
    assert!(broken.unwrap());
}

#[test]
fn cleaning_takes_free_files_only() {
    let dir = TempDir::new("flock");
    let store = open(&dir, "");
    let held = store.lock("held").unwrap();
    held.acquire(Wait::No, None).unwrap();
    let reader = shared(&store, "read");
    reader.acquire(Wait::No, None).unwrap();
    for name in ["free", "also free", "../odd"] {
        store.lock(name).unwrap().try_acquire().unwrap();
    }
    assert_eq!(
        clean_up(&format!("flock:{}", dir.path().display())).unwrap(),
        3
    );
    assert!(held.is_acquired().unwrap() && reader.is_acquired().unwrap());
    held.release().unwrap();
    // Kept descriptors of removed files are noticed.
    let lock = store.lock("free").unwrap();
    lock.acquire(Wait::No, None).unwrap();
    assert!(std::fs::metadata(dir.path().join("free")).unwrap().nlink() == 1);
    assert!(lock.is_acquired().unwrap());
}

#[test]
fn waiting_for_a_free_lock_takes_nothing() {
    let dir = TempDir::new("flock");
    let store = open(&dir, "");
    assert!(store.wait_free("x", Wait::No).unwrap());
    let lock = store.lock("x").unwrap();
    lock.acquire(Wait::No, None).unwrap();
    assert!(
        !store
            .wait_free("x", Wait::For(Duration::from_millis(60)))
            .unwrap()
    );
    let waiter = std::thread::spawn(move || store.wait_free("x", Wait::Forever).unwrap());
    std::thread::sleep(Duration::from_millis(50));
    lock.release().unwrap();
    assert!(waiter.join().unwrap());
    assert!(lock.try_acquire().unwrap().is_some());
}

#[test]
fn an_executed_program_inherits_no_lock() {
    let dir = TempDir::new("flock");
    let store = open(&dir, "");
    let lock = store.lock("x").unwrap();
    lock.acquire(Wait::No, None).unwrap();
    let mut child = Command::new("sleep").arg("30").spawn().unwrap();
    let mut inherited = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap() {
        // The program may just be closing what its loader opened.
        let Ok(target) = std::fs::read_link(entry.unwrap().path()) else {
            continue;
        };
        if target.starts_with(dir.path()) {
            inherited.push(target);
        }
    }
    lock.release().unwrap();
    let free = store.lock("x").unwrap().try_acquire().unwrap().is_some();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(inherited, Vec::<std::path::PathBuf>::new());
    assert!(free);
}

#[test]
fn an_idle_store_keeps_a_bounded_number_of_descriptors() {
    let dir = TempDir::new("flock");
    let store = open(&dir, "");
    for number in 0..300 {
        let lock = store.lock(format!("n{number}")).unwrap();
        lock.acquire(Wait::No, None).unwrap();
        lock.release().unwrap();
    }
    let ours = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok())
        .filter(|target| target.starts_with(dir.path()))
        .collect::<Vec<_>>();
    let (queue, ours): (Vec<_>, Vec<_>) = ours
        .into_iter()
        .partition(|target| target.ends_with(".synlock"));
    assert!(ours.len() <= 66, "{} descriptors", ours.len());
    assert_eq!(
        queue.len(),
        2,
        "one to look at, one whose lock says that we live"
    );
}

/// A directory that only one service sees.
#[test]
fn a_private_temp_directory_is_warned_of_once() {
    const SAYS: &str = "private temporary directory";
    if let Some(folder) = apart::folder() {
        let store = Store::open(&format!("flock:{folder}/seen/locks")).unwrap();
        let told = apart::cautions(&store);
        for _ in 0..2 {
            store.lock("x").unwrap().try_acquire().unwrap().unwrap();
        }
        assert_eq!(apart::count(&told, SAYS), 1, "{told:?}");
        let quiet = Store::open(&format!("flock:{folder}/seen/locks?cautions=0")).unwrap();
        let told = apart::cautions(&quiet);
        quiet.lock("x").unwrap().try_acquire().unwrap().unwrap();
        assert_eq!(told.lock().unwrap().len(), 0, "{told:?}");
        return;
    }
    let dir = TempDir::new("flock");
    std::fs::create_dir_all(dir.path().join("systemd-private-1-x/tmp")).unwrap();
    std::fs::create_dir(dir.path().join("seen")).unwrap();
    apart::again(
        "a_private_temp_directory_is_warned_of_once",
        &["--mount"],
        dir.path(),
        "mount --bind systemd-private-1-x/tmp seen",
    );
    // Where it is, others see it.
    let store = open(&dir, "");
    let told = apart::cautions(&store);
    store.lock("x").unwrap().try_acquire().unwrap().unwrap();
    assert_eq!(apart::count(&told, SAYS), 0, "{told:?}");
}

/// A container's own layer, and a file system that forgets with the next boot.
#[test]
fn a_folder_that_others_do_not_see_or_that_forgets_is_warned_of() {
    if let Some(folder) = apart::folder() {
        let told_at = |place: &str| {
            let store = Store::open(&format!("flock:{folder}/{place}")).unwrap();
            let told = apart::cautions(&store);
            store.lock("x").unwrap().try_acquire().unwrap().unwrap();
            told
        };
        let inside = told_at("layer/locks");
        assert_eq!(apart::count(&inside, "one container"), 1, "{inside:?}");
        // A volume in it.
        let volume = told_at("layer/volume/locks");
        assert_eq!(apart::count(&volume, "one container"), 0, "{volume:?}");
        let counts = told_at("layer/volume/locks?fencing=1");
        assert_eq!(apart::count(&counts, "on a tmpfs"), 1, "{counts:?}");
        return;
    }
    let dir = TempDir::new("flock");
    apart::again(
        "a_folder_that_others_do_not_see_or_that_forgets_is_warned_of",
        &["--mount"],
        dir.path(),
        "mount -t tmpfs tmpfs . && cd \"$1\" && mkdir low up work layer && \
         mount -t overlay -o lowerdir=low,upperdir=up,workdir=work overlay layer && \
         mkdir layer/volume && mount -t tmpfs tmpfs layer/volume",
    );
}
