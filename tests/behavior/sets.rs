//! Several locks at once: all or none, whoever else wants some of them.

use super::fork::in_child;
use super::host::next;
use super::support::{Case, List, PATIENCE, code, ms};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use synlock_core::{Cancel, Code, Dispatch, Lock, LockSet, Mode, Op, Outcome, State, Store, Wait};

pub fn tests(list: &mut List) {
    list.add("a_set_is_taken_whole_and_given_back_whole", whole);
    list.add("a_set_that_is_refused_holds_nothing", refused);
    list.add("a_set_waits_for_each_of_its_locks", waits);
    list.add("a_set_that_gives_up_holds_nothing", gives_up);
    list.add("an_interrupted_set_goes_on_or_is_abandoned", interrupted);
    list.add("sets_that_overlap_never_stop", overlapping);
    list.add("bad_sets_are_refused", bad);
    list.add("a_child_is_refused_the_set_of_its_parent", forked);
    list.add("a_set_gives_back_what_it_holds_when_dropped", dropped);
    if list.can.shared {
        list.add("locks_of_a_set_have_modes_of_their_own", mixed);
    }
    if list.can.ttl && !list.is_caller_thread_only {
        list.add("leases_of_a_set_outlast_its_wait", leases);
    }
    if list.is_caller_thread_only {
        list.add("dispatch_refuses_a_set", no_dispatch);
    } else {
        list.add("dispatch_takes_a_set_and_gives_it_back", dispatched);
        list.add("dispatch_cancels_the_wait_of_a_set", dispatch_cancels);
        list.add(
            "dispatch_ends_the_wait_of_a_set_whose_lock_is_dropped",
            dispatch_drops,
        );
    }
}

/// Locks on names of the case alone, so many, not in their order.
pub fn locks(case: &Case, count: usize) -> Vec<Lock> {
    let mut names: Vec<String> = (0..count).map(|_| case.another()).collect();
    names.sort();
    names.reverse();
    names
        .iter()
        .map(|name| case.store.lock(name).unwrap())
        .collect()
}

pub fn set(locks: &[Lock]) -> LockSet {
    LockSet::new(&locks.iter().collect::<Vec<_>>()).unwrap()
}

fn again(store: &Store, locks: &[Lock]) -> Vec<Lock> {
    let name = |lock: &Lock| lock.name().as_bytes().to_vec();
    locks
        .iter()
        .map(|lock| store.lock(name(lock)).unwrap())
        .collect()
}

pub fn states(locks: &[Lock]) -> Vec<State> {
    locks.iter().map(Lock::state).collect()
}

fn whole(case: &Case) {
    let mine = locks(case, 4);
    let theirs = again(&case.open_again(), &mine);
    let set = set(&mine);
    for _ in 0..2 {
        let acquired = set.acquire(Wait::No, None).unwrap();
        assert!(!acquired.contended);
        set.ensure_held().unwrap();
        assert_eq!(states(&mine), [State::Held; 4]);
        for lock in &theirs {
            assert_eq!(code(lock.acquire(Wait::No, None)), Code::Busy);
        }
        assert_eq!(code(set.acquire(Wait::No, None)), Code::AlreadyHeld);
        set.release().unwrap();
        assert_eq!(states(&mine), [State::Idle; 4]);
    }
    for lock in &theirs {
        lock.acquire(Wait::No, None).unwrap();
    }
    assert_eq!(code(set.release()), Code::NotHeld);
    assert_eq!(code(set.ensure_held()), Code::NotHeld);
}

fn refused(case: &Case) {
    let mine = locks(case, 3);
    let theirs = again(&case.store, &mine);
    let set = set(&mine);
    for taken in &theirs {
        taken.acquire(Wait::No, None).unwrap();
        let error = set.acquire(Wait::No, None).unwrap_err();
        assert_eq!(error.code(), Code::Busy);
        let name = String::from_utf8_lossy(taken.name().as_bytes()).into_owned();
        assert!(error.to_string().contains(&name), "{error} names {name}");
        assert_eq!(states(&mine), [State::Idle; 3]);
        assert!(set.try_acquire().unwrap().is_none());
        for other in &theirs {
            if other.state() == State::Idle {
                other.acquire(Wait::No, None).unwrap();
                other.release().unwrap();
            }
        }
        taken.release().unwrap();
    }
    assert!(set.try_acquire().unwrap().is_some());
}

fn waits(case: &Case) {
    let mine = locks(case, 3);
    let theirs = again(&case.store, &mine);
    for lock in &theirs {
        lock.acquire(Wait::No, None).unwrap();
    }
    std::thread::scope(|scope| {
        let mine = &mine;
        let waiter = scope.spawn(move || {
            let set = set(mine);
            let acquired = set.acquire(PATIENCE, None).unwrap();
            set.ensure_held().unwrap();
            set.release().unwrap();
            acquired
        });
        // Whatever the order.
        for lock in &theirs {
            std::thread::sleep(ms(30));
            assert!(!waiter.is_finished());
            lock.release().unwrap();
        }
        assert!(waiter.join().unwrap().contended);
    });
}

fn gives_up(case: &Case) {
    let mine = locks(case, 3);
    let theirs = again(&case.store, &mine);
    let set = set(&mine);
    for taken in &theirs {
        taken.acquire(Wait::No, None).unwrap();
        assert_eq!(code(set.acquire(Wait::For(ms(40)), None)), Code::Timeout);
        let cancel = Cancel::new();
        let throw = cancel.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(ms(40));
            throw.cancel();
        });
        assert_eq!(
            code(set.acquire(Wait::Forever, Some(&cancel))),
            Code::Cancelled
        );
        thread.join().unwrap();
        assert_eq!(code(set.acquire(Wait::No, Some(&cancel))), Code::Cancelled);
        for other in theirs.iter().filter(|other| other.state() == State::Idle) {
            other.acquire(PATIENCE, None).unwrap();
            other.release().unwrap();
        }
        taken.release().unwrap();
        assert_eq!(states(&mine), [State::Idle; 3]);
    }
    set.acquire(PATIENCE, None).unwrap();
}

/// Locks on the same names, whose waits give the host a turn.
pub fn interruptible(case: &Case, locks: &[Lock]) -> Vec<Lock> {
    let mut options = case.store.defaults().clone();
    options.interruptible = true;
    let name = |lock: &Lock| lock.name().as_bytes().to_vec();
    locks
        .iter()
        .map(|lock| case.store.lock_with(name(lock), options.clone()).unwrap())
        .collect()
}

fn interrupted(case: &Case) {
    let plain = locks(case, 2);
    let mine = interruptible(case, &plain);
    // The last in the order of names is taken: what comes before is held meanwhile.
    let taken = &plain[0];
    taken.acquire(Wait::No, None).unwrap();
    let set = set(&mine);
    assert_eq!(code(set.acquire(Wait::Forever, None)), Code::Interrupted);
    set.abandon().unwrap();
    assert_eq!(states(&mine), [State::Idle; 2]);
    plain[1].acquire(PATIENCE, None).unwrap();
    plain[1].release().unwrap();
    assert_eq!(code(set.acquire(Wait::Forever, None)), Code::Interrupted);
    // Given up by a release as well.
    assert_eq!(code(set.release()), Code::NotHeld);
    assert_eq!(states(&mine), [State::Idle; 2]);
    assert_eq!(code(set.acquire(Wait::Forever, None)), Code::Interrupted);
    assert_eq!(code(set.acquire(Wait::Forever, None)), Code::Interrupted);
    taken.release().unwrap();
    loop {
        match set.acquire(PATIENCE, None) {
            Ok(acquired) => break assert!(acquired.contended),
            Err(error) => assert_eq!(error.code(), Code::Interrupted),
        }
    }
    set.ensure_held().unwrap();
}

fn overlapping(case: &Case) {
    let names = locks(case, 4);
    let counts: Arc<Vec<AtomicU32>> = Arc::new((0..4).map(|_| AtomicU32::new(0)).collect());
    std::thread::scope(|scope| {
        for picks in [[0, 1, 2], [2, 3, 0], [3, 1, 0], [1, 2, 3]] {
            let (names, counts) = (&names, &counts);
            scope.spawn(move || {
                let mine: Vec<Lock> = picks
                    .iter()
                    .map(|at| again(&case.store, &names[*at..=*at]).remove(0))
                    .collect();
                let set = set(&mine);
                for _ in 0..12 {
                    set.acquire(PATIENCE, None).unwrap();
                    for at in picks {
                        assert_eq!(counts[at].fetch_add(1, Ordering::SeqCst), 0, "alone");
                    }
                    std::thread::yield_now();
                    for at in picks {
                        counts[at].fetch_sub(1, Ordering::SeqCst);
                    }
                    set.release().unwrap();
                }
            });
        }
    });
}

fn bad(case: &Case) {
    assert_eq!(code(LockSet::new(&[])), Code::InvalidArgument);
    let (one, two) = (case.lock(), case.lock());
    assert_eq!(code(LockSet::new(&[&one, &one])), Code::InvalidArgument);
    assert_eq!(code(LockSet::new(&[&one, &two])), Code::InvalidArgument);
    // By hand, before and meanwhile.
    let set = LockSet::new(&[&one]).unwrap();
    one.acquire(Wait::No, None).unwrap();
    assert_eq!(code(set.acquire(Wait::No, None)), Code::AlreadyHeld);
    one.ensure_held().unwrap();
    one.release().unwrap();
    set.acquire(Wait::No, None).unwrap();
    one.release().unwrap();
    assert_eq!(code(set.ensure_held()), Code::NotHeld);
    assert_eq!(code(set.release()), Code::NotHeld);
    two.acquire(Wait::No, None).unwrap();
}

fn forked(case: &Case) {
    let mine = locks(case, 2);
    let mut slot = Some(set(&mine));
    slot.as_ref().unwrap().acquire(Wait::No, None).unwrap();
    assert!(in_child(|| {
        let held = slot.take().unwrap();
        let refused = code(held.acquire(Wait::Forever, None)) == Code::ForkedHandle
            && code(held.release()) == Code::ForkedHandle
            && code(held.ensure_held()) == Code::ForkedHandle;
        drop(held);
        refused
    }));
    assert_eq!(states(&mine), [State::Held; 2]);
    for lock in &mine {
        lock.ensure_held().unwrap();
    }
}

fn dropped(case: &Case) {
    let mine = locks(case, 2);
    let theirs = again(&case.store, &mine);
    let held = set(&mine);
    held.acquire(Wait::No, None).unwrap();
    mine[1].set_auto_release(false);
    drop(held);
    assert_eq!(states(&mine), [State::Idle, State::Held]);
    theirs[0].acquire(PATIENCE, None).unwrap();
    assert_eq!(code(theirs[1].acquire(Wait::No, None)), Code::Busy);
    mine[1].release().unwrap();
}

fn mixed(case: &Case) {
    let names = locks(case, 2);
    let reader = || {
        let mut options = case.store.defaults().clone();
        options.mode = Mode::Shared;
        let name = names[0].name().as_bytes().to_vec();
        case.store.lock_with(name, options).unwrap()
    };
    let writer = || again(&case.store, &names[1..]).remove(0);
    let (one, other) = ([reader(), writer()], [reader(), writer()]);
    let (first, second) = (set(&one), set(&other));
    first.acquire(Wait::No, None).unwrap();
    // They share one of the names, but not the other.
    assert_eq!(code(second.acquire(Wait::No, None)), Code::Busy);
    other[0].acquire(Wait::No, None).unwrap();
    other[0].release().unwrap();
    assert_eq!(code(names[0].acquire(Wait::No, None)), Code::Busy);
    first.release().unwrap();
    second.acquire(Wait::No, None).unwrap();
}

/// The first lock of the set is held during the wait for the second, for longer than its lease lasts.
fn leases(case: &Case) {
    let names = locks(case, 2);
    let ttl = case.ttl(ms(400));
    let mut options = case.store.defaults().clone();
    options.ttl = Some(ttl);
    let mine: Vec<Lock> = names
        .iter()
        .map(|lock| {
            let name = lock.name().as_bytes().to_vec();
            case.store.lock_with(name, options.clone()).unwrap()
        })
        .collect();
    names[0].acquire(Wait::No, None).unwrap();
    std::thread::scope(|scope| {
        let (mine, names) = (&mine, &names);
        let waiter = scope.spawn(move || {
            let set = set(mine);
            set.acquire(PATIENCE, None).unwrap();
            let left: Vec<_> = mine.iter().map(|lock| lock.remaining().unwrap()).collect();
            (set, left)
        });
        case.outlive(ms(400), ms(1_300));
        assert_eq!(
            code(names[1].acquire(Wait::No, None)),
            Code::Busy,
            "it is kept"
        );
        names[0].release().unwrap();
        let (set, left) = waiter.join().unwrap();
        assert!(left.iter().all(|left| !left.is_zero()), "{left:?}");
        // From here on they last as long as their options say.
        std::thread::sleep(ttl + ms(1_500));
        assert!(mine.iter().all(Lock::is_expired), "{:?}", states(mine));
        let _ = set.release();
        assert_eq!(states(mine), [State::Idle; 2]);
    });
}

fn no_dispatch(case: &Case) {
    let mine = locks(case, 2);
    let set = Arc::new(set(&mine));
    let dispatch = Dispatch::new().unwrap();
    let refused = dispatch.submit_set(&set, Op::Acquire(Wait::No), 1);
    assert_eq!(code(refused), Code::Unsupported);
    set.acquire(Wait::No, None).unwrap();
}

fn dispatched(case: &Case) {
    let mine = locks(case, 3);
    let theirs = again(&case.store, &mine);
    let dispatch = Dispatch::new().unwrap();
    let set = Arc::new(set(&mine));
    let ticket = dispatch.submit_set(&set, Op::Acquire(Wait::No), 7).unwrap();
    let done = next(&dispatch);
    assert_eq!((done.ticket, done.user), (ticket, 7));
    assert!(matches!(done.result, Ok(Outcome::Acquired(acquired)) if !acquired.contended));
    dispatch.submit_set(&set, Op::Check, 0).unwrap();
    assert!(matches!(next(&dispatch).result, Ok(Outcome::Done)));
    dispatch.submit_set(&set, Op::Release, 0).unwrap();
    assert!(matches!(next(&dispatch).result, Ok(Outcome::Released(_))));
    dispatch.submit_set(&set, Op::Release, 0).unwrap();
    assert_eq!(code(next(&dispatch).result), Code::NotHeld);
    assert_eq!(
        code(dispatch.submit_set(&set, Op::Demote, 0)),
        Code::InvalidArgument
    );
    theirs[1].acquire(Wait::No, None).unwrap();
    dispatch.submit_set(&set, Op::Acquire(Wait::No), 0).unwrap();
    assert_eq!(code(next(&dispatch).result), Code::Busy);
    assert_eq!(states(&mine), [State::Idle; 3]);
    dispatch
        .submit_set(&set, Op::Acquire(Wait::For(ms(40))), 0)
        .unwrap();
    assert_eq!(code(next(&dispatch).result), Code::Timeout);
    dispatch
        .submit_set(&set, Op::Acquire(Wait::Forever), 0)
        .unwrap();
    assert_eq!(code(set.acquire(Wait::No, None)), Code::ConcurrentUse);
    theirs[1].release().unwrap();
    assert!(matches!(next(&dispatch).result, Ok(Outcome::Acquired(_))));
    set.ensure_held().unwrap();
}

fn dispatch_cancels(case: &Case) {
    let mine = locks(case, 3);
    let theirs = again(&case.store, &mine);
    let dispatch = Dispatch::new().unwrap();
    for taken in &theirs {
        taken.acquire(PATIENCE, None).unwrap();
        let set = Arc::new(set(&mine));
        let ticket = dispatch
            .submit_set(&set, Op::Acquire(Wait::Forever), 0)
            .unwrap();
        std::thread::sleep(ms(30));
        dispatch.cancel(ticket);
        assert_eq!(code(next(&dispatch).result), Code::Cancelled);
        taken.release().unwrap();
        assert_eq!(states(&mine), [State::Idle; 3]);
        for lock in &theirs {
            lock.acquire(PATIENCE, None).unwrap();
            lock.release().unwrap();
        }
    }
}

fn dispatch_drops(case: &Case) {
    let mut mine = locks(case, 2);
    let theirs = again(&case.store, &mine);
    // The last in the order of names: the other one is held meanwhile.
    theirs[0].acquire(PATIENCE, None).unwrap();
    let set = Arc::new(set(&mine));
    let dispatch = Dispatch::new().unwrap();
    dispatch
        .submit_set(&set, Op::Acquire(Wait::Forever), 0)
        .unwrap();
    let end = Instant::now() + Duration::from_secs(60);
    while mine[1].state() != State::Held {
        assert!(Instant::now() < end, "it is never taken");
        std::thread::sleep(ms(1));
    }
    drop(mine.remove(1));
    assert_eq!(code(next(&dispatch).result), Code::Cancelled);
    theirs[1].acquire(PATIENCE, None).unwrap();
}
