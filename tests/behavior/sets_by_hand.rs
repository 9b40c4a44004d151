//! Sets of locks that the program takes by hand, too: what it took so is none of the set's.

use super::host::next;
use super::sets::{interruptible, locks, set, states};
use super::support::{Case, List, PATIENCE, code};
use std::sync::Arc;
use synlock_core::{Code, Dispatch, Lock, LockSet, Op, Outcome, State, Wait};

pub fn tests(list: &mut List) {
    list.add("a_set_gives_back_only_what_it_took", by_hand);
    list.add("a_set_gives_back_no_lock_retaken_by_hand", retaken);
    list.add("a_set_abandons_its_last_acquire_and_no_more", asked_again);
    list.add(
        "an_interrupted_set_gives_back_no_lock_retaken_by_hand",
        retaken_meanwhile,
    );
    if !list.is_caller_thread_only {
        list.add(
            "dispatch_gives_back_no_lock_retaken_by_hand",
            dispatch_retaken,
        );
        list.add("dispatch_abandons_an_interrupted_set", dispatch_abandons);
    }
}

/// A lock that is held by hand stays so, whatever is asked of the set.
fn by_hand(case: &Case) {
    let mine = locks(case, 3);
    let set = Arc::new(set(&mine));
    mine[1].acquire(Wait::No, None).unwrap();
    assert_eq!(code(set.acquire(Wait::No, None)), Code::AlreadyHeld);
    assert_eq!(code(set.release()), Code::NotHeld);
    set.abandon().unwrap();
    if !case.store.is_caller_thread_only() {
        let dispatch = Dispatch::new().unwrap();
        dispatch.submit_set(&set, Op::Release, 0).unwrap();
        assert_eq!(code(next(&dispatch).result), Code::NotHeld);
        dispatch.submit_set(&set, Op::Abandon, 0).unwrap();
        assert!(matches!(next(&dispatch).result, Ok(Outcome::Done)));
    }
    drop(set);
    assert_eq!(states(&mine), [State::Idle, State::Held, State::Idle]);
    mine[1].ensure_held().unwrap();
}

/// What took the set is not the last acquire any more once another found it held.
fn asked_again(case: &Case) {
    let mine = locks(case, 2);
    let set = Arc::new(set(&mine));
    set.acquire(PATIENCE, None).unwrap();
    assert_eq!(code(set.acquire(Wait::No, None)), Code::AlreadyHeld);
    set.abandon().unwrap();
    if !case.store.is_caller_thread_only() {
        let dispatch = Dispatch::new().unwrap();
        dispatch.submit_set(&set, Op::Abandon, 0).unwrap();
        assert!(matches!(next(&dispatch).result, Ok(Outcome::Done)));
    }
    assert_eq!(states(&mine), [State::Held, State::Held]);
    set.release().unwrap();
    set.acquire(PATIENCE, None).unwrap();
    set.abandon().unwrap();
    assert_eq!(states(&mine), [State::Idle, State::Idle]);
}

/// One lock of a set that holds both is released and taken again by hand.
fn retake(set: &LockSet, lock: &Lock) {
    set.acquire(PATIENCE, None).unwrap();
    lock.release().unwrap();
    lock.acquire(PATIENCE, None).unwrap();
}

/// The hold that was made by hand stands, and goes.
fn kept_by_hand(locks: &[Lock]) {
    assert_eq!(states(locks), [State::Held, State::Idle]);
    locks[0].ensure_held().unwrap();
    locks[0].release().unwrap();
}

fn retaken(case: &Case) {
    let mine = locks(case, 2);
    let mut held = set(&mine);
    retake(&held, &mine[0]);
    held.release().unwrap();
    kept_by_hand(&mine);
    retake(&held, &mine[0]);
    held.abandon().unwrap();
    kept_by_hand(&mine);
    retake(&held, &mine[0]);
    drop(std::mem::replace(&mut held, set(&mine)));
    kept_by_hand(&mine);
    // Nothing is left of what it took.
    retake(&held, &mine[0]);
    mine[1].release().unwrap();
    assert_eq!(code(held.release()), Code::NotHeld);
    assert_eq!(code(held.release()), Code::NotHeld);
    kept_by_hand(&mine);
}

/// The lock that a set holds while it waits for another one is released and taken again by hand.
fn retaken_meanwhile(case: &Case) {
    let plain = locks(case, 2);
    let mut mine = interruptible(case, &plain);
    plain[0].acquire(Wait::No, None).unwrap();
    let held = set(&mine);
    mine.reverse();
    for ending in 0..3 {
        assert_eq!(code(held.acquire(Wait::Forever, None)), Code::Interrupted);
        assert_eq!(states(&mine), [State::Held, State::Acquiring]);
        mine[0].release().unwrap();
        while code(mine[0].acquire(PATIENCE, None)) == Code::Interrupted {}
        let refused = match ending {
            0 => code(held.acquire(Wait::No, None)),
            1 => code(held.release()),
            _ => code(held.abandon()),
        };
        let expected = [Code::AlreadyHeld, Code::NotHeld, Code::Ok];
        assert_eq!(refused, expected[ending]);
        kept_by_hand(&mine);
    }
    assert_eq!(code(held.acquire(Wait::Forever, None)), Code::Interrupted);
    mine[0].release().unwrap();
    while code(mine[0].acquire(PATIENCE, None)) == Code::Interrupted {}
    drop(held);
    kept_by_hand(&mine);
}

fn dispatch_retaken(case: &Case) {
    let mine = locks(case, 2);
    let dispatch = Dispatch::new().unwrap();
    let set = Arc::new(set(&mine));
    retake(&set, &mine[0]);
    dispatch.submit_set(&set, Op::Release, 0).unwrap();
    assert!(matches!(next(&dispatch).result, Ok(Outcome::Released(_))));
    kept_by_hand(&mine);
    retake(&set, &mine[0]);
    dispatch.submit_set(&set, Op::Abandon, 0).unwrap();
    assert!(matches!(next(&dispatch).result, Ok(Outcome::Done)));
    kept_by_hand(&mine);
    retake(&set, &mine[0]);
    mine[1].release().unwrap();
    for _ in 0..2 {
        dispatch.submit_set(&set, Op::Release, 0).unwrap();
        assert_eq!(code(next(&dispatch).result), Code::NotHeld);
    }
    kept_by_hand(&mine);
}

/// What it had taken is given back, and what is taken by hand afterwards is none of its own.
fn dispatch_abandons(case: &Case) {
    let plain = locks(case, 2);
    let mut mine = interruptible(case, &plain);
    plain[0].acquire(Wait::No, None).unwrap();
    let dispatch = Dispatch::new().unwrap();
    let set = Arc::new(set(&mine));
    mine.reverse();
    for (op, told) in [(Op::Abandon, Code::Ok), (Op::Release, Code::NotHeld)] {
        assert_eq!(code(set.acquire(Wait::Forever, None)), Code::Interrupted);
        dispatch.submit_set(&set, op, 0).unwrap();
        assert_eq!(code(next(&dispatch).result), told);
        assert_eq!(states(&mine), [State::Idle; 2]);
        mine[0].acquire(PATIENCE, None).unwrap();
        assert_eq!(code(set.acquire(Wait::No, None)), Code::AlreadyHeld);
        kept_by_hand(&mine);
    }
    assert_eq!(code(set.acquire(Wait::Forever, None)), Code::Interrupted);
    dispatch.submit_set(&set, Op::Abandon, 0).unwrap();
    assert_eq!(code(next(&dispatch).result), Code::Ok);
    mine[0].acquire(PATIENCE, None).unwrap();
    drop(set);
    kept_by_hand(&mine);
}
