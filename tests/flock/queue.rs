//! The queue of `flock:`'s waiters, `DIR/.synlock`: it orders and wakes them, and whatever becomes of
//! it, locks are kept.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use synlock_core::event::EventKind;
use synlock_core::{Store, Wait};
use synlock_tests::names::TempDir;
use synlock_tests::process::signal;
use synlock_tests::taker::Taker;

const PROGRAM: &str = env!("CARGO_BIN_EXE_flock-taker");
const LONG: Duration = Duration::from_secs(60);

fn url(dir: &TempDir) -> String {
    format!("flock:{}", dir.path().display())
}

fn is_root() -> bool {
    // SAFETY: asks for a number.
    unsafe { libc::geteuid() == 0 }
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn wait_for_waiters(store: &Store, count: u32) {
    until("the waiters never came", || {
        store.inspect("x").unwrap().waiters == Some(count)
    });
}

/// A process that waits for `x`, notes its number when it has it, and lets go.
fn waiter(mut taker: Taker, number: u32, order: &Arc<Mutex<Vec<u32>>>) -> JoinHandle<String> {
    let order = order.clone();
    std::thread::spawn(move || {
        taker.ok("lock a x");
        let code = taker.code("acquire a 60000");
        if code == "OK" {
            order.lock().unwrap().push(number);
            taker.ok("release a");
        }
        code
    })
}

#[test]
fn processes_are_served_in_the_order_of_their_coming() {
    let dir = TempDir::new("queue");
    let store = Store::open(&url(&dir)).unwrap();
    let held = store.lock("x").unwrap();
    held.acquire(Wait::No, None).unwrap();
    let order = Arc::default();
    let waiters: Vec<_> = (1..=5)
        .map(|number| {
            let one = waiter(Taker::start(PROGRAM, &url(&dir)), number, &order);
            wait_for_waiters(&store, number);
            one
        })
        .collect();
    held.release().unwrap();
    for one in waiters {
        assert_eq!(one.join().unwrap(), "OK");
    }
    assert_eq!(*order.lock().unwrap(), [1, 2, 3, 4, 5]);
    assert_eq!(store.inspect("x").unwrap().waiters, Some(0));
}

#[test]
fn a_stranger_is_waited_for_from_the_queue() {
    let dir = TempDir::new("queue");
    let store = Store::open(&url(&dir)).unwrap();
    let lock = store.lock("x").unwrap();
    lock.acquire(Wait::No, None).unwrap();
    lock.release().unwrap();
    let mut stranger = Command::new("flock")
        .arg(dir.path().join("x"))
        .args(["sh", "-c", "echo in; read x"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = std::io::BufReader::new(stranger.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    let order = Arc::default();
    let waiters: Vec<_> = (1..=2)
        .map(|number| {
            let one = waiter(Taker::start(PROGRAM, &url(&dir)), number, &order);
            wait_for_waiters(&store, number);
            one
        })
        .collect();
    assert!(order.lock().unwrap().is_empty());
    drop(stranger.stdin.take());
    stranger.wait().unwrap();
    for one in waiters {
        assert_eq!(one.join().unwrap(), "OK");
    }
    assert_eq!(*order.lock().unwrap(), [1, 2]);
}

#[test]
fn a_first_that_is_killed_or_stopped_is_passed_by() {
    for (how, number) in [("killed", libc::SIGKILL), ("stopped", libc::SIGSTOP)] {
        let dir = TempDir::new("queue");
        let store = Store::open(&url(&dir)).unwrap();
        let held = store.lock("x").unwrap();
        held.acquire(Wait::No, None).unwrap();
        let first = Taker::start(PROGRAM, &url(&dir));
        let pid = libc::pid_t::try_from(first.pid()).unwrap();
        let order = Arc::default();
        let first = waiter(first, 1, &order);
        wait_for_waiters(&store, 1);
        let second = waiter(Taker::start(PROGRAM, &url(&dir)), 2, &order);
        wait_for_waiters(&store, 2);
        signal(pid, number);
        held.release().unwrap();
        assert_eq!(second.join().unwrap(), "OK", "{how}");
        assert_eq!(*order.lock().unwrap(), [2], "{how}");
        if number == libc::SIGSTOP {
            signal(pid, libc::SIGCONT);
            assert_eq!(first.join().unwrap(), "OK");
        } else {
            assert_eq!(first.join().unwrap(), "");
        }
        assert!(store.lock("x").unwrap().try_acquire().unwrap().is_some());
    }
}

/// Holds, has a process wait, does something to the queue, lets go; the waiter must have the lock.
fn changed_while_waiting(what: &str, change: impl FnOnce(&Path)) {
    let dir = TempDir::new("queue");
    let store = Store::open(&url(&dir)).unwrap();
    let held = store.lock("x").unwrap();
    held.acquire(Wait::No, None).unwrap();
    let order = Arc::default();
    let old = waiter(Taker::start(PROGRAM, &url(&dir)), 1, &order);
    wait_for_waiters(&store, 1);
    change(&dir.path().join(".synlock"));
    let new = waiter(Taker::start(PROGRAM, &url(&dir)), 2, &order);
    std::thread::sleep(Duration::from_millis(100));
    assert!(order.lock().unwrap().is_empty(), "{what}");
    held.release().unwrap();
    assert_eq!(old.join().unwrap(), "OK", "{what}");
    assert_eq!(new.join().unwrap(), "OK", "{what}");
}

#[test]
fn a_queue_that_goes_while_waiters_wait_costs_speed_only() {
    changed_while_waiting("removed", |file| std::fs::remove_file(file).unwrap());
    changed_while_waiting("renamed", |file| {
        std::fs::rename(file, file.with_extension("away")).unwrap();
    });
    changed_while_waiting("replaced by rubbish", |file| {
        let other = file.with_extension("other");
        std::fs::write(&other, b"rubbish").unwrap();
        std::fs::rename(other, file).unwrap();
    });
    changed_while_waiting("overwritten", |file| {
        let size = std::fs::metadata(file).unwrap().len() as usize;
        let mut bytes = std::fs::read(file).unwrap();
        bytes[4096..].fill(0xff);
        std::fs::write(file.with_extension("copy"), &bytes).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(file).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes[4096..], 4096).unwrap();
        assert_eq!(file.metadata().unwrap().len() as usize, size);
    });
}

/// With this in the queue's place, a waiter still gets its lock, and the store says once what is amiss.
fn planted(what: &str, plant: impl FnOnce(&Path)) {
    let dir = TempDir::new("queue");
    plant(&dir.path().join(".synlock"));
    let store = Store::open(&url(&dir)).unwrap();
    let words: Arc<Mutex<Vec<String>>> = Arc::default();
    let heard = words.clone();
    let id = store.observe(Arc::new(move |event| {
        // In a container there may be words about the folder as well.
        if event.kind == EventKind::Warning && event.message.contains(".synlock") {
            heard.lock().unwrap().push(event.message.clone());
        }
    }));
    let mut holder = Taker::start(PROGRAM, &url(&dir));
    holder.ok("lock a x");
    let lock = store.lock("x").unwrap();
    for _ in 0..2 {
        holder.ok("acquire a 0");
        assert!(lock.try_acquire().unwrap().is_none(), "{what}");
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| lock.acquire(Wait::For(LONG), None).map(drop));
            std::thread::sleep(Duration::from_millis(20));
            holder.ok("release a");
            waiter.join().unwrap().unwrap();
        });
        assert_eq!(holder.code("acquire a 0"), "BUSY", "{what}");
        lock.release().unwrap();
    }
    assert_eq!(store.inspect("x").unwrap().waiters, None, "{what}");
    let words = words.lock().unwrap();
    assert_eq!(words.len(), 1, "{what}: {words:?}");
    store.unobserve(id);
}

#[test]
fn what_stands_in_the_queues_place_is_left_alone_and_told_of() {
    let elsewhere = TempDir::new("victim");
    let victim = elsewhere.path().join("victim");
    std::fs::write(&victim, b"precious").unwrap();
    planted("a link", |file| symlink(&victim, file).unwrap());
    planted("a dangling link", |file| {
        symlink(elsewhere.path().join("nothing"), file).unwrap();
    });
    planted("a second name", |file| {
        std::fs::hard_link(&victim, file).unwrap()
    });
    planted("a FIFO", |file| {
        assert!(Command::new("mkfifo").arg(file).status().unwrap().success());
    });
    planted("a directory", |file| std::fs::create_dir(file).unwrap());
    planted("an empty file", |file| std::fs::write(file, b"").unwrap());
    planted("rubbish", |file| {
        std::fs::write(file, [0xa5; 300_000]).unwrap();
        std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
    });
    planted("one of another layout", |file| {
        let other = TempDir::new("queue");
        let made = Store::open(&url(&other)).unwrap().lock("x").unwrap();
        made.acquire(Wait::No, None).unwrap();
        let mut bytes = std::fs::read(other.path().join(".synlock")).unwrap();
        bytes[8] = 0xff;
        std::fs::write(file, bytes).unwrap();
        std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
    });
    let mut stuck = None;
    planted(
        "one of before the host's last start, which somebody has locked",
        |file| {
            let other = TempDir::new("queue");
            let made = Store::open(&url(&other)).unwrap().lock("x").unwrap();
            made.acquire(Wait::No, None).unwrap();
            let mut bytes = std::fs::read(other.path().join(".synlock")).unwrap();
            bytes[40..56].fill(7);
            std::fs::write(file, bytes).unwrap();
            std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
            let locked = std::fs::File::open(file).unwrap();
            locked.lock().unwrap();
            stuck = Some(locked);
        },
    );
    drop(stuck);
    planted("one that was cut off", |file| {
        let other = TempDir::new("queue");
        let made = Store::open(&url(&other)).unwrap().lock("x").unwrap();
        made.acquire(Wait::No, None).unwrap();
        let bytes = std::fs::read(other.path().join(".synlock")).unwrap();
        std::fs::write(file, &bytes[..8192]).unwrap();
        std::fs::set_permissions(file, PermissionsExt::from_mode(0o600)).unwrap();
    });
    assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
    assert_eq!(std::fs::metadata(&victim).unwrap().nlink(), 1);
    assert!(!elsewhere.path().join("nothing").exists());
}

#[test]
fn without_room_for_a_queue_waiters_poll() {
    let dir = TempDir::new("queue");
    let limited = || {
        let mut command = Command::new("sh");
        let script = format!("ulimit -f 8; exec {PROGRAM} {}", url(&dir));
        Taker::spawn(command.args(["-c", &script]))
    };
    let mut holder = limited();
    holder.ok("lock a x");
    holder.ok("acquire a 0");
    let order = Arc::default();
    let waiters: Vec<_> = (1..=3)
        .map(|number| waiter(limited(), number, &order))
        .collect();
    std::thread::sleep(Duration::from_millis(50));
    assert!(order.lock().unwrap().is_empty());
    holder.ok("release a");
    for one in waiters {
        assert_eq!(one.join().unwrap(), "OK");
    }
    assert!(!dir.path().join(".synlock").exists());
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        1,
        "nothing is left over"
    );
}

/// What only root can set up; `make test-local` leaves it out.
mod root {
    use super::*;

    #[test]
    fn what_only_root_can_plant_is_left_alone_and_told_of() {
        assert!(is_root(), "needs root");
        planted("another user's", |file| {
            std::fs::write(file, b"").unwrap();
            std::os::unix::fs::chown(file, Some(65_534), Some(65_534)).unwrap();
        });
        planted("a device", |file| {
            let name = file.to_str().unwrap();
            let made = Command::new("mknod").args([name, "c", "1", "3"]).status();
            assert!(made.unwrap().success());
        });
    }

    #[test]
    fn two_users_of_a_group_share_the_queue() {
        assert!(is_root(), "needs root");
        let dir = TempDir::new("queue");
        std::os::unix::fs::chown(dir.path(), None, Some(65_534)).unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o770)).unwrap();
        let url = format!("{}?group=65534", url(&dir));
        let store = Store::open(&url).unwrap();
        let held = store.lock("x").unwrap();
        held.acquire(Wait::No, None).unwrap();
        let mut other = Taker::start(PROGRAM, &url);
        other.ok("user 65534 65534");
        let order = Arc::default();
        let waiter = waiter(other, 1, &order);
        wait_for_waiters(&store, 1);
        held.release().unwrap();
        assert_eq!(waiter.join().unwrap(), "OK");
        let queue = std::fs::metadata(dir.path().join(".synlock")).unwrap();
        assert_eq!((queue.mode() & 0o7777, queue.gid()), (0o660, 65_534));
    }
}
