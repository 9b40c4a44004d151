//! The state machine of a lock, on the memory store.
#![cfg(feature = "memory")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use synlock_core::{
    Cancel, Code, Dispatch, Lock, LockOptions, LockSet, Mode, Op, Outcome, Reentry, State, Store,
    Wait,
};

fn store() -> Store {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    Store::open(&format!("memory:{}", NEXT.fetch_add(1, Ordering::Relaxed))).unwrap()
}

fn options() -> LockOptions {
    LockOptions::default()
}

#[test]
fn one_holder_at_a_time_and_the_outcomes_of_release() {
    let store = store();
    let (a, b) = (store.lock("x").unwrap(), store.lock("x").unwrap());
    assert_eq!(a.release().unwrap_err().code(), Code::NotHeld);
    assert!(a.try_acquire().unwrap().is_some());
    assert_eq!(
        a.acquire(Wait::No, None).unwrap_err().code(),
        Code::AlreadyHeld
    );
    assert!(b.try_acquire().unwrap().is_none());
    assert_eq!(
        b.acquire(Wait::For(Duration::from_millis(20)), None)
            .unwrap_err()
            .code(),
        Code::Timeout
    );
    a.release().unwrap();
    assert_eq!(a.release().unwrap_err().code(), Code::NotHeld);
    assert!(b.try_acquire().unwrap().is_some());
}

#[test]
fn a_waiter_is_woken_by_the_release() {
    let store = store();
    let a = store.lock("x").unwrap();
    a.acquire(Wait::No, None).unwrap();
    let waiter = std::thread::spawn({
        let b = store.lock("x").unwrap();
        move || {
            b.acquire(Wait::Forever, None)
                .map(|acquired| acquired.contended)
        }
    });
    while store.inspect("x").unwrap().waiters != Some(1) {
        std::thread::yield_now();
    }
    a.release().unwrap();
    assert!(waiter.join().unwrap().unwrap());
}

#[test]
fn a_cancelled_wait_leaves_nothing_behind() {
    let store = store();
    let a = store.lock("x").unwrap();
    a.acquire(Wait::No, None).unwrap();
    let cancel = Cancel::new();
    let waiter = std::thread::spawn({
        let (b, cancel) = (store.lock("x").unwrap(), cancel.clone());
        move || b.acquire(Wait::Forever, Some(&cancel)).unwrap_err().code()
    });
    while store.inspect("x").unwrap().waiters != Some(1) {
        std::thread::yield_now();
    }
    cancel.cancel();
    assert_eq!(waiter.join().unwrap(), Code::Cancelled);
    assert_eq!(store.inspect("x").unwrap().waiters, Some(0));
}

#[test]
fn many_contenders_never_overlap() {
    let store = store();
    let (inside, total) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let threads: Vec<_> = (0..16)
        .map(|_| {
            let (store, inside, total) = (store.clone(), inside.clone(), total.clone());
            std::thread::spawn(move || {
                for _ in 0..200 {
                    let lock = store.lock("x").unwrap();
                    lock.acquire(Wait::Forever, None).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    total.fetch_add(1, Ordering::SeqCst);
                    inside.fetch_sub(1, Ordering::SeqCst);
                    lock.release().unwrap();
                }
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    assert_eq!(total.load(Ordering::SeqCst), 3200);
    assert!(store.list(b"", None, 100).unwrap().locks.is_empty());
}

#[test]
fn the_watchdog_renews_and_loss_is_told() {
    let store = store();
    let mut renewing = options();
    renewing.ttl = Some(Duration::from_millis(60));
    renewing.renew = Some(true);
    let lock = store.lock_with("x", renewing).unwrap();
    lock.acquire(Wait::No, None).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    lock.ensure_held().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    lock.on_lost(move || sender.send(()).unwrap()).unwrap();
    assert!(store.break_lock("x").unwrap());
    receiver.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!(lock.state(), State::Lost);
    assert_eq!(lock.release().unwrap_err().code(), Code::Lost);
}

#[test]
fn a_lease_runs_out_without_renewal() {
    let store = store();
    let mut short = options();
    short.ttl = Some(Duration::from_millis(30));
    let (a, b) = (
        store.lock_with("x", short).unwrap(),
        store.lock("x").unwrap(),
    );
    a.acquire(Wait::No, None).unwrap();
    b.acquire(Wait::For(Duration::from_secs(5)), None).unwrap();
    assert_eq!(a.state(), State::Expired);
    assert_eq!(a.refresh(None).unwrap_err().code(), Code::Lost);
    b.ensure_held().unwrap();
}

#[test]
fn readers_share_and_a_sole_reader_is_promoted() {
    let store = store();
    let mut shared = options();
    shared.mode = Mode::Shared;
    let (a, b) = (
        store.lock_with("x", shared.clone()).unwrap(),
        store.lock_with("x", shared).unwrap(),
    );
    a.acquire(Wait::No, None).unwrap();
    b.acquire(Wait::No, None).unwrap();
    assert_eq!(a.promote(Wait::No).unwrap_err().code(), Code::Busy);
    a.ensure_held().unwrap();
    b.release().unwrap();
    a.promote(Wait::No).unwrap();
    assert!(b.try_acquire().unwrap().is_none());
    a.demote().unwrap();
    assert!(b.try_acquire().unwrap().is_some());
}

#[test]
fn reentry_policies() {
    let store = store();
    let with = |policy| {
        let mut options = options();
        options.reentry = policy;
        store.lock_with("x", options).unwrap()
    };
    let (a, refused, extended) = (
        with(Reentry::Extend),
        with(Reentry::Error),
        with(Reentry::Extend),
    );
    let first = a.acquire(Wait::No, None).unwrap();
    assert_eq!(
        refused.acquire(Wait::No, None).unwrap_err().code(),
        Code::Reentered
    );
    // One hold, one fencing token.
    let shared = extended.acquire(Wait::No, None).unwrap();
    assert_eq!(
        (shared.fence, extended.fencing_token()),
        (first.fence, first.fence)
    );
    extended.release().unwrap();
    assert_eq!(a.release().unwrap_err().code(), Code::NotHeld);
}

#[test]
fn an_interruptible_wait_keeps_its_place() {
    let store = store();
    let a = store.lock("x").unwrap();
    a.acquire(Wait::No, None).unwrap();
    let mut turns = options();
    turns.interruptible = true;
    let b = store.lock_with("x", turns).unwrap();
    assert_eq!(
        b.acquire(Wait::Forever, None).unwrap_err().code(),
        Code::Interrupted
    );
    assert_eq!(b.state(), State::Acquiring);
    let c = store.lock("x").unwrap();
    let later = std::thread::spawn(move || c.acquire(Wait::Forever, None).map(|_| c));
    while store.inspect("x").unwrap().waiters != Some(2) {
        std::thread::yield_now();
    }
    a.release().unwrap();
    b.acquire(Wait::Forever, None).unwrap();
    b.release().unwrap();
    drop(later.join().unwrap().unwrap());
}

#[test]
fn dispatch_completes_and_cancels() {
    let store = store();
    let dispatch = Dispatch::new().unwrap();
    let (a, b) = (store.lock("x").unwrap(), store.lock("x").unwrap());
    let wait_one = || loop {
        if let Some(completion) = dispatch.reap(1).pop() {
            return completion;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    dispatch.submit(&a, Op::Acquire(Wait::Forever), 7).unwrap();
    let completion = wait_one();
    assert_eq!(completion.user, 7);
    assert!(matches!(completion.result, Ok(Outcome::Acquired(_))));
    let ticket = dispatch.submit(&b, Op::Acquire(Wait::Forever), 8).unwrap();
    assert_eq!(
        b.acquire(Wait::No, None).unwrap_err().code(),
        Code::ConcurrentUse
    );
    dispatch.cancel(ticket);
    assert_eq!(wait_one().result.unwrap_err().code(), Code::Cancelled);
    dispatch.submit(&b, Op::Acquire(Wait::Forever), 9).unwrap();
    a.release().unwrap();
    assert!(wait_one().result.is_ok());
    b.release().unwrap();
    // Dropped while it waits: nothing stays behind.
    a.acquire(Wait::No, None).unwrap();
    dispatch.submit(&b, Op::Acquire(Wait::Forever), 10).unwrap();
    drop(b);
    assert_eq!(wait_one().result.unwrap_err().code(), Code::Cancelled);
    a.release().unwrap();
    assert!(!store.is_locked("x").unwrap());
}

/// Whether somebody else gets the lock, if need be after a while.
fn gets_free(store: &Store) -> bool {
    let wait = Wait::For(Duration::from_secs(60));
    store.lock("x").unwrap().acquire(wait, None).is_ok()
}

#[test]
fn a_handle_that_is_dropped_under_any_operation_gives_back_its_hold() {
    let dispatch = Dispatch::new().unwrap();
    for op in [
        Op::Acquire(Wait::No),
        Op::Refresh(None),
        Op::Demote,
        Op::Check,
    ] {
        let store = store();
        let lock = store.lock("x").unwrap();
        lock.acquire(Wait::No, None).unwrap();
        // What is submitted does not begin before the handle is gone.
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let busy = move || {
            let _ = wait.recv();
        };
        synlock_core::dispatch::run(&store, busy).unwrap();
        dispatch.submit(&lock, op, 1).unwrap();
        drop(lock);
        drop(go);
        assert!(gets_free(&store), "{op:?}");
    }
}

#[test]
fn a_handle_that_is_dropped_in_a_promotion_gives_back_its_share() {
    let store = store();
    let mut shared = options();
    shared.mode = Mode::Shared;
    let readers = [(); 2].map(|()| store.lock_with("x", shared.clone()).unwrap());
    for reader in &readers {
        reader.acquire(Wait::No, None).unwrap();
    }
    let dispatch = Dispatch::new().unwrap();
    let promote = Op::Promote(Wait::Forever);
    let [first, other] = readers;
    dispatch.submit(&first, promote, 1).unwrap();
    drop(first);
    let completion = loop {
        if let Some(completion) = dispatch.reap(1).pop() {
            break completion;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    assert_eq!(completion.result.unwrap_err().code(), Code::Cancelled);
    drop(other);
    assert!(gets_free(&store));
}

#[test]
fn a_handle_that_keeps_its_hold_keeps_it_when_dropped_under_an_operation() {
    let store = store();
    let mut kept = options();
    kept.auto_release = false;
    let lock = store.lock_with("x", kept).unwrap();
    lock.acquire(Wait::No, None).unwrap();
    let dispatch = Dispatch::new().unwrap();
    dispatch.submit(&lock, Op::Check, 1).unwrap();
    drop(lock);
    while dispatch.reap(1).is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(store.is_locked("x").unwrap());
}

#[test]
fn a_set_that_is_dropped_gives_back_its_locks_whoever_uses_one() {
    let store = store();
    let locks = ["a", "b"].map(|name| store.lock(name).unwrap());
    let set = LockSet::new(&[&locks[0], &locks[1]]).unwrap();
    set.acquire(Wait::No, None).unwrap();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let busy = move || {
        let _ = wait.recv();
    };
    synlock_core::dispatch::run(&store, busy).unwrap();
    let dispatch = Dispatch::new().unwrap();
    dispatch.submit(&locks[0], Op::Check, 1).unwrap();
    drop(set);
    let is_locked = ["a", "b"].map(|name| store.is_locked(name).unwrap());
    drop(go);
    assert_eq!(is_locked, [false; 2]);
}

#[test]
fn a_set_that_was_asked_again_gives_back_its_locks_when_it_is_dropped() {
    let store = store();
    let locks = ["a", "b"].map(|name| store.lock(name).unwrap());
    let set = LockSet::new(&[&locks[0], &locks[1]]).unwrap();
    set.acquire(Wait::No, None).unwrap();
    let again = set.acquire(Wait::No, None).unwrap_err();
    assert_eq!(again.code(), Code::AlreadyHeld);
    drop(set);
    let is_locked = ["a", "b"].map(|name| store.is_locked(name).unwrap());
    assert_eq!(is_locked, [false; 2]);
}

#[test]
fn a_set_that_is_dropped_leaves_what_was_taken_by_hand() {
    let store = store();
    let locks = ["a", "b"].map(|name| store.lock(name).unwrap());
    let set = LockSet::new(&[&locks[0], &locks[1]]).unwrap();
    set.acquire(Wait::No, None).unwrap();
    locks[0].release().unwrap();
    locks[0].acquire(Wait::No, None).unwrap();
    drop(set);
    let is_locked = ["a", "b"].map(|name| store.is_locked(name).unwrap());
    assert_eq!(is_locked, [true, false]);
}

#[test]
fn time_that_runs_out_before_the_first_look_was_time() {
    let store = store();
    let (a, b) = (store.lock("x").unwrap(), store.lock("x").unwrap());
    a.acquire(Wait::No, None).unwrap();
    let least = Wait::For(Duration::from_nanos(1));
    assert_eq!(b.acquire(least, None).unwrap_err().code(), Code::Timeout);
    let dispatch = Dispatch::new().unwrap();
    let tells = |wait| {
        dispatch.submit(&b, Op::Acquire(wait), 1).unwrap();
        loop {
            if let Some(completion) = dispatch.reap(1).pop() {
                return completion.result.unwrap_err().code();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    };
    assert_eq!(tells(least), Code::Timeout);
    assert_eq!(tells(Wait::For(Duration::ZERO)), Code::Busy);
    assert_eq!(tells(Wait::No), Code::Busy);
}

#[test]
fn observers_are_told_outside_the_locks_mutex() {
    let store = store();
    let mut short = options();
    short.ttl = Some(Duration::from_secs(60));
    let lock = Arc::new(store.lock_with("x", short).unwrap());
    let kinds = Arc::new(std::sync::Mutex::new(Vec::new()));
    let (watched, told) = (lock.clone(), kinds.clone());
    let id = store.observe(Arc::new(move |event| {
        // Asked from another thread, as a host would: must not wait for the call that tells.
        let lock = watched.clone();
        std::thread::spawn(move || lock.remaining()).join().unwrap();
        told.lock().unwrap().push(event.kind.name());
    }));
    lock.acquire(Wait::No, None).unwrap();
    lock.refresh(None).unwrap();
    store.break_lock("x").unwrap();
    assert_eq!(lock.ensure_held().unwrap_err().code(), Code::Lost);
    store.unobserve(id);
    assert_eq!(*kinds.lock().unwrap(), ["acquired", "refreshed", "lost"]);
}

#[test]
fn losses_that_nobody_hears_of_are_warned_about() {
    let store = store();
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let told = heard.clone();
    store.observe_warnings(Arc::new(move |event| {
        let word = format!("{} {}", event.kind.name(), event.kind.level());
        told.lock().unwrap().push(word);
    }));
    let taken = || std::mem::take(&mut *heard.lock().unwrap());
    let lose = |lock: &Lock| {
        lock.acquire(Wait::No, None).unwrap();
        store.break_lock("x").unwrap();
    };
    // A call returns it.
    let lock = store.lock("x").unwrap();
    lose(&lock);
    assert_eq!(lock.release().unwrap_err().code(), Code::Lost);
    lose(&lock);
    assert_eq!(lock.ensure_held().unwrap_err().code(), Code::Lost);
    drop(lock);
    assert!(taken().is_empty());
    // Dropped, nothing does.
    let lock = store.lock("x").unwrap();
    lose(&lock);
    drop(lock);
    assert_eq!(taken(), ["lost warning"]);
    // Nor if the watchdog finds it.
    let mut short = options();
    short.ttl = Some(Duration::from_millis(60));
    short.renew = Some(true);
    let lock = store.lock_with("x", short.clone()).unwrap();
    lose(&lock);
    for _ in 0..1000 {
        if lock.state() == State::Lost {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(lock.state(), State::Lost);
    drop(lock);
    assert_eq!(taken(), ["lost warning"]);
    // Somebody watches, or observes.
    let lock = store.lock("x").unwrap();
    lock.on_lost(|| {}).unwrap();
    lose(&lock);
    drop(lock);
    let observer = store.observe(Arc::new(|_| {}));
    let lock = store.lock("x").unwrap();
    lose(&lock);
    drop(lock);
    store.unobserve(observer);
    assert!(taken().is_empty());
}

#[test]
fn a_host_turn_asks_the_store_nothing() {
    let store = store();
    let a = store.lock("x").unwrap();
    a.acquire(Wait::No, None).unwrap();
    let mut turns = options();
    turns.interruptible = true;
    let b = store.lock_with("x", turns).unwrap();
    for _ in 0..3 {
        assert_eq!(
            b.acquire(Wait::Forever, None).unwrap_err().code(),
            Code::Interrupted
        );
    }
    a.release().unwrap();
    let acquired = b.acquire(Wait::Forever, None).unwrap();
    assert_eq!(acquired.attempts, 2);
    assert!(acquired.waited >= Duration::from_millis(500));
}

/// Panics where its name says so.
struct Panics;

impl synlock_core::store::custom::Callbacks for Panics {
    fn call(
        &self,
        verb: synlock_core::store::custom::Verb,
        ask: &synlock_core::store::custom::Ask<'_>,
    ) -> synlock_core::Result<synlock_core::store::custom::Reply> {
        assert!(ask.name != verb.name().as_bytes(), "out of paper");
        Ok(synlock_core::store::custom::Reply::of(Code::Ok))
    }
}

#[test]
fn a_panic_in_a_custom_store_is_an_error_with_its_words() {
    let can = synlock_core::store::custom::Traits {
        shared: false,
        permits: false,
        ttl: false,
        frees_on_death: true,
        change_mode: false,
        inspect: false,
        list: false,
        break_lock: false,
        ping: false,
        survives_restart: false,
        fence: synlock_core::Fence::None,
        scope: synlock_core::Scope::Process,
    };
    let store = Store::custom("panics", can, Box::new(Panics), &[]).unwrap();
    let error = store
        .lock("attempt")
        .unwrap()
        .acquire(Wait::No, None)
        .unwrap_err();
    assert_eq!(error.code(), Code::Uncertain);
    assert!(error.message().contains("out of paper"), "{error}");
    let held = store.lock("is_held").unwrap();
    held.acquire(Wait::No, None).unwrap();
    assert_eq!(held.is_acquired().unwrap_err().code(), Code::Unavailable);
    held.release().unwrap();
}

#[test]
fn what_is_only_tried_on_the_way_to_a_wait_is_told_to_nobody() {
    let store = store();
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = told.clone();
    store.observe(Arc::new(move |event| {
        heard.lock().unwrap().push(event.kind.name());
    }));
    let (first, second) = (store.lock("once").unwrap(), store.lock("once").unwrap());
    assert!(first.answers_at_once());
    assert!(first.acquire_at_once().unwrap().is_some());
    assert_eq!(
        first.acquire_at_once().unwrap_err().code(),
        Code::AlreadyHeld
    );
    assert_eq!(second.acquire_at_once().unwrap(), None);
    assert_eq!(second.state(), State::Idle);
    first.release().unwrap();
    assert!(second.acquire_at_once().unwrap().is_some());
    second.release().unwrap();
    let all = ["acquired", "released", "acquired", "released"];
    assert_eq!(*told.lock().unwrap(), all);
}

#[test]
fn a_url_says_what_is_required() {
    let wants = |words| Store::open_with("memory:required", &[("require", words)]).unwrap();
    wants("fence,crash_release").ping(Wait::No).unwrap();
    let store = wants("fence,quorum");
    let error = store.ping(Wait::No).unwrap_err();
    assert_eq!(error.code(), Code::Unsupported);
    assert!(error.message().contains("quorum"), "{error}");
    assert_eq!(store.lock("x").unwrap_err().code(), Code::Unsupported);
    let code = |url| Store::open(url).unwrap_err().code();
    assert_eq!(code("memory:?require=wings"), Code::InvalidArgument);
    assert_eq!(code("memory:?lock_delay=-1"), Code::InvalidArgument);
    assert_eq!(
        code("memory:?lock_delay=99999999999"),
        Code::InvalidArgument
    );
    // A delay has no lease to follow.
    let store = Store::open("memory:?lock_delay=10").unwrap();
    assert_eq!(store.lock("x").unwrap_err().code(), Code::InvalidArgument);
}
