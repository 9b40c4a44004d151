//! Acquiring: exclusion, waiting, order, cancelling, names and arguments.

use super::support::{Case, List, PATIENCE, code, ms};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use synlock_core::{Cancel, Code, Lock, LockOptions, Mode, Result, State, Wait};

pub fn tests(list: &mut List) {
    list.add("acquire_and_conflict", conflict);
    list.add("another_name_is_free", another_name);
    list.add("free_again_after_release", again);
    list.add("a_handle_that_holds_says_so", already_held);
    list.add("a_timeout_is_kept", timeout);
    list.add("a_waiter_gets_a_lock_that_is_released", woken);
    list.add("newcomers_wait_behind_those_who_have_waited", relay);
    list.add("cancelled_before", cancelled_before);
    list.add("cancelled_during", cancelled_during);
    list.add("contenders_never_overlap", contenders);
    list.add("names_are_told_apart", names);
    list.add("bad_names_are_refused", bad_names);
    list.add("bad_options_are_refused", bad_options);
    list.add("an_interrupted_wait_keeps_its_place", interrupted);
    list.add("a_second_call_on_a_handle_is_refused", concurrent_use);
    list.add("acquire_tells_how_it_went", acquired);
    if list.can.fair {
        // The kernel's own queue is left when a call ends.
        if !list.is_queued_by_the_kernel() {
            list.add("an_interrupted_wait_is_not_overtaken", interrupted_in_line);
        }
        list.add("first_come_first_served", fifo);
        list.add("a_try_does_not_overtake_a_waiter", no_barging);
        list.add("unfair_locks_may_overtake", barging);
    }
}

fn conflict(case: &Case) {
    let (a, b) = (case.lock(), case.lock());
    assert_eq!(a.state(), State::Idle);
    a.acquire(Wait::No, None).unwrap();
    assert_eq!(a.state(), State::Held);
    assert!(a.is_acquired().unwrap() && !b.is_acquired().unwrap());
    assert_eq!(code(b.acquire(Wait::No, None)), Code::Busy);
    assert_eq!(b.state(), State::Idle);
    assert_eq!(code(b.release()), Code::NotHeld);
    assert_eq!(code(b.refresh(None)), Code::NotHeld);
    a.ensure_held().unwrap();
}

fn another_name(case: &Case) {
    let (a, b) = (case.lock(), case.store.lock(case.another()).unwrap());
    a.acquire(Wait::No, None).unwrap();
    b.acquire(Wait::No, None).unwrap();
}

fn again(case: &Case) {
    let (a, b) = (case.lock(), case.lock());
    for _ in 0..20 {
        a.acquire(Wait::No, None).unwrap();
        a.release().unwrap();
        b.acquire(Wait::No, None).unwrap();
        b.release().unwrap();
    }
    assert!(!case.store.is_locked(&case.name).unwrap());
}

fn already_held(case: &Case) {
    let a = case.lock();
    a.acquire(Wait::No, None).unwrap();
    assert_eq!(code(a.acquire(Wait::No, None)), Code::AlreadyHeld);
    assert_eq!(code(a.acquire(Wait::Forever, None)), Code::AlreadyHeld);
    a.release().unwrap();
    assert_eq!(code(a.release()), Code::NotHeld);
}

fn timeout(case: &Case) {
    let (a, b) = (case.lock(), case.lock());
    a.acquire(Wait::No, None).unwrap();
    for wait in [1, 120] {
        let (mut wait, mut ended) = (ms(wait), Code::Uncertain);
        // A server may take longer than that to say that it is taken.
        while ended == Code::Uncertain && wait < Duration::from_secs(60) {
            let start = Instant::now();
            ended = code(b.acquire(Wait::For(wait), None));
            assert!(start.elapsed() >= wait, "came back too early");
            wait *= 5;
        }
        assert_eq!(ended, Code::Timeout);
    }
    assert_eq!(code(b.acquire(Wait::For(Duration::ZERO), None)), Code::Busy);
    a.release().unwrap();
    b.acquire(PATIENCE, None).unwrap();
}

fn woken(case: &Case) {
    let (a, b) = (case.lock(), case.lock());
    a.acquire(Wait::No, None).unwrap();
    let waiter =
        std::thread::spawn(move || b.acquire(PATIENCE, None).map(|acquired| (acquired, b)));
    case.wait_for_waiters(1);
    a.release().unwrap();
    let (acquired, b) = waiter.join().unwrap().unwrap();
    assert!(acquired.contended && acquired.waited > Duration::ZERO);
    b.ensure_held().unwrap();
    assert_eq!(code(a.acquire(Wait::No, None)), Code::Busy);
}

/// Each gets the lock after a wait, while the next has not come yet.
fn relay(case: &Case) {
    let mut held = case.lock();
    held.acquire(Wait::No, None).unwrap();
    for _ in 0..5 {
        let next = case.lock();
        let waiter = std::thread::spawn(move || next.acquire(PATIENCE, None).map(|_| next));
        case.wait_for_waiters(1);
        held.release().unwrap();
        held = waiter.join().unwrap().unwrap();
        assert_eq!(code(case.lock().acquire(Wait::No, None)), Code::Busy);
    }
    held.ensure_held().unwrap();
}

fn cancelled_before(case: &Case) {
    let cancel = Cancel::new();
    cancel.cancel();
    let lock = case.lock();
    assert_eq!(
        code(lock.acquire(Wait::Forever, Some(&cancel))),
        Code::Cancelled
    );
    assert!(!case.store.is_locked(&case.name).unwrap());
    lock.acquire(Wait::No, None).unwrap();
}

fn cancelled_during(case: &Case) {
    let (a, b, c) = (case.lock(), case.lock(), case.lock());
    a.acquire(Wait::No, None).unwrap();
    let cancel = Cancel::new();
    let waiter = std::thread::spawn({
        let cancel = cancel.clone();
        move || code(b.acquire(Wait::Forever, Some(&cancel)))
    });
    case.wait_for_waiters(1);
    cancel.cancel();
    assert_eq!(waiter.join().unwrap(), Code::Cancelled);
    case.wait_for_waiters(0);
    a.release().unwrap();
    c.acquire(PATIENCE, None).unwrap();
}

fn contenders(case: &Case) {
    let (threads, rounds) = if case.can.wakes { (40, 5) } else { (12, 3) };
    let (inside, total) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let contenders: Vec<_> = (0..threads)
        .map(|_| {
            let (case, inside, total) = (case.clone(), inside.clone(), total.clone());
            std::thread::spawn(move || {
                for _ in 0..rounds {
                    let lock = case.lock();
                    lock.acquire(Wait::For(Duration::from_secs(60)), None)
                        .unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "two holders");
                    total.fetch_add(1, Ordering::SeqCst);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    lock.release().unwrap();
                }
            })
        })
        .collect();
    contenders
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    assert_eq!(total.load(Ordering::SeqCst), threads * rounds);
}

fn odd_names(stem: &str) -> Vec<Vec<u8>> {
    let name = |suffix: &[u8]| [stem.as_bytes(), suffix].concat();
    vec![
        name(b""),
        name(b"a"),
        name(b"A"),
        name(b" "),
        name(b"  "),
        name(b"a/b"),
        name(b"a/../b"),
        name(b"/"),
        name(b"."),
        name(b"\0"),
        name(b"a\0b"),
        name(b"\r\nSET pwn 1\r\n"),
        name(b"\xff\xfe"),
        name("é".as_bytes()),
        name("e\u{301}".as_bytes()),
        name(b"*"),
        name(b"?[a]\\"),
        name(b"{x}"),
        name(b"%41"),
        name(b"~"),
        name(b"|||||||||"),
        name(&[b'x'; 300]),
        name(&[b'x'; 1100]),
        name(&[b'y'; 60_000]),
        name(&[b'y'; 60_001]),
    ]
}

fn names(case: &Case) {
    let (good, bad): (Vec<_>, Vec<_>) = odd_names(&case.name)
        .into_iter()
        .filter(|name| case.tells_apart(name))
        .partition(|name| case.accepts(name));
    for name in bad {
        let lock = case.store.lock(&name);
        assert_eq!(
            code(lock.and_then(|lock| lock.acquire(Wait::No, None))),
            Code::InvalidArgument,
            "{:?}",
            name.escape_ascii().to_string()
        );
    }
    let locks: Vec<_> = good
        .iter()
        .map(|name| case.store.lock(name).unwrap())
        .collect();
    for lock in &locks {
        lock.acquire(Wait::No, None)
            .unwrap_or_else(|error| panic!("{:?}: {error:?}", lock.name()));
    }
    for name in good {
        assert_eq!(
            code(case.store.lock(&name).unwrap().acquire(Wait::No, None)),
            Code::Busy,
            "{:?}",
            name.escape_ascii().to_string()
        );
        assert!(case.store.is_locked(&name).unwrap());
    }
}

fn bad_names(case: &Case) {
    assert_eq!(code(case.store.lock("")), Code::InvalidArgument);
    assert_eq!(
        code(case.store.lock(vec![b'x'; 64 * 1024 + 1])),
        Code::InvalidArgument
    );
    let longest = vec![b'x'; 64 * 1024];
    let lock = case.store.lock(&longest);
    let taken = lock.and_then(|lock| lock.acquire(PATIENCE, None));
    assert_eq!(taken.is_ok(), case.accepts(&longest));
    assert_eq!(code(case.store.inspect("")), Code::InvalidArgument);
}

fn bad_options(case: &Case) {
    let made = |change: fn(&mut LockOptions)| {
        let mut options = LockOptions::default();
        change(&mut options);
        code(case.store.lock_with(&case.name, options))
    };
    assert_eq!(
        made(|options| options.ttl = Some(Duration::ZERO)),
        Code::InvalidArgument
    );
    assert_eq!(
        made(|options| options.ttl = Some(Duration::from_secs(400 * 24 * 3600 * 10))),
        Code::InvalidArgument
    );
    assert_eq!(
        made(|options| options.mode = Mode::Permits { take: 0, of: 1 }),
        Code::InvalidArgument
    );
    assert_eq!(
        made(|options| options.mode = Mode::Permits { take: 3, of: 2 }),
        Code::InvalidArgument
    );
    assert_eq!(
        made(|options| options.label = Some("x".repeat(256).into())),
        Code::InvalidArgument
    );
    assert_eq!(
        made(|options| options.label = Some("a\0b".into())),
        Code::InvalidArgument
    );
    let lock = case.lock();
    lock.acquire(Wait::No, None).unwrap();
    for bad in [Duration::ZERO, Duration::MAX] {
        assert_eq!(code(lock.refresh(Some(bad))), Code::InvalidArgument);
    }
    lock.ensure_held().unwrap();
}

fn interrupted(case: &Case) {
    let a = case.lock();
    a.acquire(Wait::No, None).unwrap();
    let b = case.lock_with(|options| options.interruptible = true);
    assert_eq!(code(b.acquire(Wait::Forever, None)), Code::Interrupted);
    assert_eq!(b.state(), State::Acquiring);
    let again = std::thread::spawn(move || acquire_in_turns(&b).map(|()| b));
    std::thread::sleep(ms(20));
    a.release().unwrap();
    let b = again.join().unwrap().unwrap();
    b.release().unwrap();
    // Given up between two turns: nothing stays behind.
    a.acquire(Wait::No, None).unwrap();
    assert_eq!(code(b.acquire(Wait::Forever, None)), Code::Interrupted);
    b.abandon().unwrap();
    assert_eq!(b.state(), State::Idle);
    case.wait_for_waiters(0);
}

/// As `acquire`, made again as often as it comes back for its host.
fn acquire_in_turns(lock: &Lock) -> Result<()> {
    loop {
        match lock.acquire(PATIENCE, None) {
            Err(error) if error.code() == Code::Interrupted => {}
            other => return other.map(drop),
        }
    }
}

fn interrupted_in_line(case: &Case) {
    let a = case.lock();
    a.acquire(Wait::No, None).unwrap();
    let first = case.lock_with(|options| options.interruptible = true);
    assert_eq!(code(first.acquire(Wait::Forever, None)), Code::Interrupted);
    let second = case.lock();
    let inside = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let (inside, first, second) = (&inside, &first, &second);
        // Its place is kept for a second from one turn to the next.
        scope.spawn(move || {
            acquire_in_turns(first).unwrap();
            inside.fetch_add(1, Ordering::SeqCst);
            first.release().unwrap();
        });
        scope.spawn(move || {
            second.acquire(PATIENCE, None).unwrap();
            assert_eq!(inside.load(Ordering::SeqCst), 1, "it came first");
        });
        case.wait_for_waiters(2);
        std::thread::sleep(ms(20));
        a.release().unwrap();
    });
    second.release().unwrap();
}

fn concurrent_use(case: &Case) {
    let (a, b) = (case.lock(), Arc::new(case.lock()));
    a.acquire(Wait::No, None).unwrap();
    let waiter = std::thread::spawn({
        let b = b.clone();
        move || b.acquire(PATIENCE, None).map(drop)
    });
    while b.state() != State::Acquiring {
        std::thread::yield_now();
    }
    assert_eq!(code(b.acquire(Wait::No, None)), Code::ConcurrentUse);
    assert_eq!(code(b.release()), Code::ConcurrentUse);
    a.release().unwrap();
    waiter.join().unwrap().unwrap();
}

fn acquired(case: &Case) {
    let lock = case.lock();
    let first = lock.acquire(Wait::No, None).unwrap();
    assert!(!first.contended && !first.recovered && first.attempts == 1);
    assert_eq!(first.fence.is_some(), case.can.fence.class() != "none");
    assert_eq!(first.fence, lock.fencing_token());
    lock.release().unwrap();
    assert_eq!(lock.fencing_token(), None);
    let second = lock.acquire(Wait::No, None).unwrap();
    assert!(second.fence >= first.fence && (second.fence.is_none() || second.fence != first.fence));
}

fn fifo(case: &Case) {
    let a = case.lock();
    a.acquire(Wait::No, None).unwrap();
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let waiters: Vec<_> = (0..6)
        .map(|number| {
            let (lock, order) = (case.lock(), order.clone());
            let thread = std::thread::spawn(move || {
                lock.acquire(PATIENCE, None).unwrap();
                order.lock().unwrap().push(number);
                lock.release().unwrap();
            });
            case.wait_for_waiters(number + 1);
            thread
        })
        .collect();
    a.release().unwrap();
    waiters
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4, 5]);
}

fn no_barging(case: &Case) {
    let (a, b) = (case.lock(), case.lock());
    a.acquire(Wait::No, None).unwrap();
    let waiter = std::thread::spawn(move || b.acquire(PATIENCE, None).map(|_| b));
    case.wait_for_waiters(1);
    a.release().unwrap();
    // Either it is handed over by now or still free with a waiter: never ours.
    assert_eq!(code(case.lock().acquire(Wait::No, None)), Code::Busy);
    waiter.join().unwrap().unwrap();
}

fn barging(case: &Case) {
    let unfair = case.lock_with(|options| options.fair = false);
    unfair.acquire(Wait::No, None).unwrap();
    unfair.release().unwrap();
    let a = case.lock();
    a.acquire(Wait::No, None).unwrap();
    assert_eq!(code(unfair.acquire(Wait::No, None)), Code::Busy);
}
