//! What only `shm:` has: a file that others can remove, cut, replace; slots and records that run out.

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use synlock_core::{Code, Dispatch, Lock, LockOptions, Op, Store, Wait};
use synlock_tests::apart;
use synlock_tests::names::{TempDir, unique};
use synlock_tests::process::{exit_status, fork, is_stopped, signal, wait, wait_for};
use synlock_tests::segment::Segment;
use synlock_tests::taker::Taker;

const TAKER: &str = env!("CARGO_BIN_EXE_flock-taker");

fn place() -> (TempDir, PathBuf) {
    let folder = TempDir::within("/dev/shm", "shm-store");
    let path = folder.path().join("segment");
    (folder, path)
}

fn open(path: &std::path::Path, query: &str) -> Store {
    Store::open(&format!("shm:{}{query}", path.display())).unwrap()
}

/// Two handles of one process meet as two processes would if their URLs differ.
fn code_of_ping(path: &std::path::Path) -> (Code, String) {
    match open(path, "").ping(Wait::No) {
        Ok(()) => (Code::Ok, String::new()),
        Err(error) => (error.code(), error.to_string()),
    }
}

#[test]
fn a_damaged_or_foreign_file_is_refused_and_left_alone() {
    let (_folder, path) = place();
    open(&path, "?label=maker").ping(Wait::No).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let attempt = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = whole.clone();
        change(&mut bytes);
        std::fs::write(&path, &bytes).unwrap();
        let answer = code_of_ping(&path);
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "it is left as it is");
        answer
    };
    let (code, words) = attempt(&|bytes| bytes[8] = 9);
    assert_eq!(code, Code::Protocol);
    let of_both = words.contains("layout 9") && words.contains("knows up to 1");
    assert!(of_both, "{words}");
    for (what, change) in [
        (
            "empty",
            &(|bytes: &mut Vec<u8>| bytes.clear()) as &dyn Fn(&mut Vec<u8>),
        ),
        ("cut off", &|bytes| bytes.truncate(5000)),
        ("another magic", &|bytes| bytes[0] ^= 1),
        ("the other byte order", &|bytes| bytes[12..16].reverse()),
        ("no slots", &|bytes| bytes[16..20].fill(0)),
        ("endless records", &|bytes| bytes[24..28].fill(0xff)),
        ("another size", &|bytes| bytes[33] ^= 1),
    ] {
        assert_eq!(attempt(change).0, Code::Protocol, "{what}");
    }
}

#[test]
fn a_segment_of_an_unknown_layout_names_those_who_use_it() {
    let (_folder, path) = place();
    let here = open(&path, "?label=here");
    here.ping(Wait::No).unwrap();
    let mut others: Vec<Taker> = (0..2)
        .map(|_| {
            let mut taker = Taker::start(TAKER, &format!("shm:{}", path.display()));
            taker.ok("ping");
            taker
        })
        .collect();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[9], 8).unwrap();
    let mut pids: Vec<u32> = others.iter().map(Taker::pid).collect();
    pids.push(std::process::id());
    let words = code_of_ping(&path).1;
    let are_named = |pids: &[u32]| {
        let mut pids = pids.to_vec();
        pids.sort_unstable();
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        format!("the processes that use it ({}) have ended", pids.join(", "))
    };
    assert!(words.contains(&are_named(&pids)), "{words}");
    assert!(
        words.contains(&format!("remove {}", path.display())),
        "{words}"
    );
    assert_eq!(others.remove(0).quit(), Some(0));
    let words = code_of_ping(&path).1;
    assert!(words.contains(&are_named(&pids[1..])), "{words}");
}

#[test]
fn a_segment_of_an_unknown_layout_that_nobody_uses_may_be_removed() {
    let (_folder, path) = place();
    let mut maker = Taker::start(TAKER, &format!("shm:{}", path.display()));
    maker.ok("ping");
    assert_eq!(maker.quit(), Some(0));
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[9], 8).unwrap();
    let words = code_of_ping(&path).1;
    assert!(words.contains("no process uses it: remove"), "{words}");
}

/// Where a word is, and which, if it is always the same.
fn vector() -> Vec<(u64, Option<u64>)> {
    let lines = include_str!("../vectors/shm-layout-1.txt").lines();
    lines
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let mut words = line.split(' ');
            let at = words.next().unwrap().parse().unwrap();
            let word = words.next().filter(|word| *word != "-");
            (at, word.map(|word| u64::from_str_radix(word, 16).unwrap()))
        })
        .collect()
}

#[test]
fn a_segment_is_as_the_vector_says() {
    let (_folder, path) = place();
    let store = open(&path, "?slots=16");
    let mut options = LockOptions::default();
    options.label = Some("vector".into());
    let lock = store.lock_with("invoice 42", options).unwrap();
    lock.acquire(Wait::No, None).unwrap();
    let segment = Segment::open(&path);
    for (at, word) in vector() {
        let found = segment.read(at);
        assert!(word.is_none_or(|word| word == found), "{at}: {found:016x}");
    }
    assert_eq!(segment.read(430_104), lock.fencing_token().unwrap());
}

#[test]
fn a_segment_of_the_first_release_is_gone_on_with() {
    let (_folder, path) = place();
    // For the boot id and the clock of this host.
    open(&path, "?slots=16").ping(Wait::No).unwrap();
    let here = Segment::open(&path);
    let known: Vec<(u64, u64)> = vector()
        .into_iter()
        .map(|(at, word)| {
            let begun = 1 << 63 | 77;
            let instead = match at {
                40 | 48 | 56 => here.read(at),
                151_552 => begun,
                430_104 => 1_000_003,
                3_063_840 => 1_000_000,
                _ => 0,
            };
            (at, word.unwrap_or(instead))
        })
        .collect();
    let size = std::fs::metadata(&path).unwrap().len();
    let older = path.with_extension("older");
    let file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .open(&older)
        .unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    file.set_permissions(private).unwrap();
    file.set_len(size).unwrap();
    for slot in 1..16 {
        let free = 0xfffe_0000_0000_0000u64;
        file.write_all_at(&free.to_ne_bytes(), here.slot(slot))
            .unwrap();
    }
    for (at, word) in known {
        file.write_all_at(&word.to_ne_bytes(), at).unwrap();
    }
    let store = open(&older, "");
    let found = store.check().unwrap().texts;
    let is_of_the_dead = |text: &String| text.contains("record 0") && text.contains("has ended");
    assert!(
        found.len() == 2 && found.iter().all(is_of_the_dead),
        "{found:?}"
    );
    let lock = store.lock("invoice 42").unwrap();
    let acquired = lock.acquire(Wait::No, None).unwrap();
    assert!(acquired.recovered, "its holder is no more");
    assert_eq!(acquired.fence, Some(1_000_004));
}

#[test]
fn links_folders_and_open_files_are_refused() {
    let (folder, path) = place();
    let other = folder.path().join("other");
    open(&other, "").ping(Wait::No).unwrap();
    std::os::unix::fs::symlink(&other, &path).unwrap();
    assert_eq!(code_of_ping(&path).0, Code::Permission, "a symbolic link");
    std::fs::remove_file(&path).unwrap();
    std::fs::hard_link(&other, &path).unwrap();
    assert_eq!(code_of_ping(&path).0, Code::Permission, "a hard link");
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert_eq!(code_of_ping(&path).0, Code::Permission, "a folder");
    std::fs::remove_dir(&path).unwrap();
    open(&path, "").ping(Wait::No).unwrap();
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&path, everybody).unwrap();
    let again = open(&path, "?label=again").ping(Wait::No);
    assert_eq!(again.unwrap_err().code(), Code::Permission, "open to all");
}

#[test]
fn a_segment_of_before_the_last_start_is_made_anew() {
    let (_folder, path) = place();
    let before = open(&path, "?label=before");
    let held = before.lock("x").unwrap();
    held.acquire(Wait::No, None).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[7; 16], 40).unwrap();
    let after = open(&path, "?label=after");
    after.lock("x").unwrap().acquire(Wait::No, None).unwrap();
}

/// What `act` answers, unless it takes for ever.
fn in_time<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || tell.send(act()));
    told.recv_timeout(Duration::from_secs(60)).expect("an end")
}

#[test]
fn whoever_locks_an_old_segment_keeps_nobody_for_ever() {
    let (_folder, path) = place();
    open(&path, "?label=before").ping(Wait::No).unwrap();
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[7; 16], 40).unwrap();
    file.lock().unwrap();
    let at = path.clone();
    let (code, words) = in_time(move || code_of_ping(&at));
    assert_eq!(code, Code::Unavailable);
    assert!(words.contains("before the host's last start"), "{words}");
    file.unlock().unwrap();
    assert_eq!(code_of_ping(&path).0, Code::Ok);
}

/// The file goes while a request of an event loop waits in it.
#[test]
fn who_waits_for_a_loop_moves_to_the_next_segment() {
    let (_folder, path) = place();
    let store = open(&path, "");
    let held = store.lock("x").unwrap();
    held.acquire(Wait::No, None).unwrap();
    let (dispatch, waiter) = (Dispatch::new().unwrap(), store.lock("x").unwrap());
    let acquire = Op::Acquire(Wait::Forever);
    dispatch.submit(&waiter, acquire, 0).unwrap();
    let wait_for = |waiters: u32| {
        while store.inspect("x").unwrap().waiters != Some(waiters) {
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    wait_for(1);
    std::fs::remove_file(&path).unwrap();
    // Whoever comes first has it in the next segment, where the waiter has to go.
    let other = format!("shm:{}", path.display());
    let mut taker = Taker::start(TAKER, &other);
    taker.ok("lock h x");
    taker.ok("acquire h 0");
    let (tell, told) = std::sync::mpsc::channel();
    let loops = std::thread::spawn(move || {
        loop {
            if let Some(done) = dispatch.reap(1).pop() {
                tell.send(()).unwrap();
                drop(waiter);
                return done.result.map(drop);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    while taker.ok("waiters x") != "1" {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(told.try_recv().is_err(), "it is held");
    taker.ok("release h");
    told.recv_timeout(Duration::from_secs(60))
        .expect("the lock");
    loops.join().unwrap().unwrap();
}

#[test]
fn a_wait_for_a_free_lock_ends_when_the_segment_is_lost() {
    let (_folder, path) = place();
    let store = open(&path, "");
    let held = store.lock("x").unwrap();
    held.acquire(Wait::No, None).unwrap();
    let watched = store.clone();
    let waits = std::thread::spawn(move || in_time(move || watched.wait_free("x", Wait::Forever)));
    std::thread::sleep(Duration::from_millis(50));
    std::fs::remove_file(&path).unwrap();
    waits.join().unwrap().unwrap();
}

#[test]
fn a_removed_file_is_noticed() {
    let (_folder, path) = place();
    let store = open(&path, "");
    let lock = store.lock("x").unwrap();
    lock.acquire(Wait::No, None).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::thread::sleep(Duration::from_millis(1_200));
    assert_eq!(lock.ensure_held().unwrap_err().code(), Code::Lost);
    let next = store.lock("x").unwrap();
    next.acquire(Wait::No, None).unwrap();
    assert!(path.exists());
}

#[test]
fn names_that_nobody_uses_make_room() {
    let (_folder, path) = place();
    let store = open(&path, "?slots=4");
    let mut last = [0; 10];
    for round in 0..60 {
        let lock = store.lock(format!("name {}", round % 10)).unwrap();
        lock.acquire(Wait::No, None).unwrap();
        let fence = lock.fencing_token().unwrap();
        let before = std::mem::replace(&mut last[round % 10], fence);
        assert!(
            fence > before,
            "tokens grow though the name had lost its slot"
        );
        lock.release().unwrap();
    }
    let held: Vec<_> = (0..4)
        .map(|number| {
            let lock = store.lock(format!("held {number}")).unwrap();
            lock.acquire(Wait::No, None).unwrap();
            lock
        })
        .collect();
    let fifth = store.lock("fifth").unwrap();
    let full = fifth.acquire(Wait::No, None).unwrap_err();
    assert_eq!(full.code(), Code::Exhausted);
    held[0].release().unwrap();
    fifth.acquire(Wait::No, None).unwrap();
    let wrong = open(&path, "?slots=5").ping(Wait::No).unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
}

#[test]
fn holds_that_run_out_give_their_records_back() {
    let (_folder, path) = place();
    // 8200 records.
    let store = open(&path, "?slots=8");
    for round in 0..9_000 {
        let mut options = LockOptions::default();
        options.ttl = Some(Duration::from_millis(1));
        options.auto_release = false;
        let lock = store.lock_with("x", options).unwrap();
        lock.acquire(Wait::For(Duration::from_secs(60)), None)
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        if round % 3 != 0 {
            lock.release().ok();
        }
    }
}

#[test]
fn shared_memory_of_a_namespace_of_its_own_is_warned_of() {
    if let Some(folder) = apart::folder() {
        // In the folder that all processes of a host have, and in one that was mounted for them.
        for (place, times) in [(unique("apart"), 1), (format!("{folder}/segment"), 0)] {
            let store = Store::open(&format!("shm:{place}")).unwrap();
            let told = apart::cautions(&store);
            store.lock("x").unwrap().try_acquire().unwrap().unwrap();
            assert_eq!(apart::count(&told, "IPC namespace"), times, "{told:?}");
        }
        return;
    }
    let dir = TempDir::new("shm");
    apart::again(
        "shared_memory_of_a_namespace_of_its_own_is_warned_of",
        &["--ipc", "--mount"],
        dir.path(),
        "mount -t tmpfs tmpfs /dev/shm",
    );
}

/// Nobody else waits, who would find out.
#[test]
fn a_stopped_waiter_keeps_no_newcomer_out_for_long() {
    let (_folder, path) = place();
    let store = open(&path, "");
    let lock = store.lock("x").unwrap();
    lock.acquire(Wait::No, None).unwrap();
    let waiter = fork(|| {
        let lock = open(&path, "").lock("x").unwrap();
        i32::from(lock.acquire(Wait::Forever, None).is_err())
    });
    let end = Instant::now() + Duration::from_secs(60);
    while store.inspect("x").unwrap().waiters != Some(1) {
        assert!(Instant::now() < end, "the waiter never came");
        std::thread::sleep(Duration::from_millis(1));
    }
    signal(waiter, libc::SIGSTOP);
    assert!(is_stopped(waiter));
    // Long enough for its turn to come.
    std::thread::sleep(Duration::from_millis(5));
    lock.release().unwrap();
    while lock.try_acquire().unwrap().is_none() {
        assert!(Instant::now() < end, "it is free");
        std::thread::sleep(Duration::from_millis(10));
    }
    lock.release().unwrap();
    // It has lost its turn, not its place.
    signal(waiter, libc::SIGCONT);
    assert_eq!(wait_for(waiter, Duration::from_secs(60)), Some(0));
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

/// In a process that has no other threads: those of its waiters share one.
fn many_wait(path: &std::path::Path) {
    const WAITERS: usize = 4_000;
    let store = open(path, "");
    let holder = store.lock("n").unwrap();
    holder.acquire(Wait::No, None).unwrap();
    let locks: Vec<Lock> = (0..WAITERS).map(|_| store.lock("n").unwrap()).collect();
    let dispatch = Dispatch::new().unwrap();
    let submit = |(number, lock)| {
        let acquire = Op::Acquire(Wait::Forever);
        dispatch.submit(lock, acquire, number as u64).unwrap()
    };
    let tickets: Vec<u64> = locks.iter().enumerate().map(submit).collect();
    let waiters = || store.inspect("n").unwrap().waiters;
    while waiters() != Some(WAITERS as u32) {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(threads() <= 3, "{} threads", threads());
    let ended = |count: usize, code: Code| {
        let mut seen = 0;
        while seen < count {
            for done in dispatch.reap(WAITERS) {
                let found = done.result.as_ref().map_or_else(|e| e.code(), |_| Code::Ok);
                assert_eq!(found, code, "{done:?}");
                seen += 1;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    // The first in the queue gets it, the others are cancelled.
    holder.release().unwrap();
    ended(1, Code::Ok);
    for ticket in &tickets {
        dispatch.cancel(*ticket);
    }
    ended(WAITERS - 1, Code::Cancelled);
    assert!(threads() <= 3, "{} threads", threads());
    assert_eq!(waiters(), Some(0));
    // The process lives on, and needs few of its records now.
    let segment = Segment::open(path);
    let groups = segment.records() / 8;
    let ours = || (0..groups).filter(|group| segment.read(segment.group(*group)) != 0);
    assert!(ours().count() < 64, "{} groups", ours().count());
    drop(locks);
    assert!(ours().count() < 16, "{} groups", ours().count());
    assert_eq!(store.check().unwrap().texts, [""; 0]);
    holder.acquire(Wait::No, None).unwrap();
}

#[test]
fn any_number_of_waiters_of_a_process_share_one_thread() {
    let (_folder, path) = place();
    let pid = fork(|| {
        many_wait(&path);
        0
    });
    assert_eq!(exit_status(wait(pid)), 0);
}
