//! Hosts with an event loop: dispatch.

use super::support::{Case, List, code, ms};
use std::time::{Duration, Instant};
use synlock_core::{Code, Completion, Dispatch, Op, Outcome, Wait};

pub fn tests(list: &mut List) {
    if list.is_caller_thread_only {
        list.add("dispatch_is_refused", refused);
        return;
    }
    list.add("dispatch_acquires_and_releases", round_trip);
    list.add("dispatch_cancels_a_wait", cancel);
    list.add("dispatch_serves_many_waiters", many);
    list.add("dispatch_times_out", timeout);
}

pub fn next(dispatch: &Dispatch) -> Completion {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(completion) = dispatch.reap(1).pop() {
            return completion;
        }
        let mut poll = libc::pollfd {
            fd: dispatch.fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid pollfd.
        unsafe { libc::poll(&raw mut poll, 1, 1000) };
        assert!(Instant::now() < end, "no completion came");
    }
}

fn refused(case: &Case) {
    let (dispatch, lock) = (Dispatch::new().unwrap(), case.lock());
    let error = dispatch
        .submit(&lock, Op::Acquire(Wait::No), 1)
        .unwrap_err();
    assert_eq!(error.code(), Code::Unsupported);
    assert!(
        error.message().contains("threads of the program"),
        "{error}"
    );
    // Nothing was begun.
    lock.acquire(Wait::No, None).unwrap();
}

fn round_trip(case: &Case) {
    let dispatch = Dispatch::new().unwrap();
    let lock = case.lock();
    let ticket = dispatch
        .submit(&lock, Op::Acquire(Wait::Forever), 41)
        .unwrap();
    let done = next(&dispatch);
    assert_eq!((done.ticket, done.user), (ticket, 41));
    assert!(matches!(done.result, Ok(Outcome::Acquired(acquired)) if !acquired.contended));
    lock.ensure_held().unwrap();
    dispatch.submit(&lock, Op::Check, 0).unwrap();
    assert!(matches!(next(&dispatch).result, Ok(Outcome::Done)));
    dispatch.submit(&lock, Op::Release, 0).unwrap();
    assert!(matches!(next(&dispatch).result, Ok(Outcome::Released(_))));
    dispatch.submit(&lock, Op::Release, 0).unwrap();
    assert_eq!(code(next(&dispatch).result), Code::NotHeld);
}

fn cancel(case: &Case) {
    let dispatch = Dispatch::new().unwrap();
    let (a, b) = (case.lock(), case.lock());
    a.acquire(Wait::No, None).unwrap();
    let ticket = dispatch.submit(&b, Op::Acquire(Wait::Forever), 0).unwrap();
    case.wait_for_waiters(1);
    dispatch.cancel(ticket);
    assert_eq!(code(next(&dispatch).result), Code::Cancelled);
    case.wait_for_waiters(0);
    dispatch.cancel(ticket);
    a.release().unwrap();
    b.acquire(Wait::For(ms(10_000)), None).unwrap();
}

fn many(case: &Case) {
    let count = if case.can.wakes { 60 } else { 8 };
    let dispatch = Dispatch::new().unwrap();
    let locks: Vec<_> = (0..count).map(|_| case.lock()).collect();
    for (number, lock) in locks.iter().enumerate() {
        dispatch
            .submit(lock, Op::Acquire(Wait::Forever), number as u64)
            .unwrap();
    }
    if case.can.wakes {
        case.wait_for_waiters(count as u32 - 1);
    }
    for turn in 0..count {
        let done = next(&dispatch);
        assert!(done.result.is_ok(), "{:?}", done.result);
        if case.can.fair {
            assert_eq!(done.user, turn as u64);
        }
        let holder = &locks[usize::try_from(done.user).unwrap()];
        holder.ensure_held().unwrap();
        holder.release().unwrap();
    }
}

fn timeout(case: &Case) {
    let dispatch = Dispatch::new().unwrap();
    let (a, b) = (case.lock(), case.lock());
    a.acquire(Wait::No, None).unwrap();
    dispatch.submit(&b, Op::Acquire(Wait::No), 1).unwrap();
    assert_eq!(code(next(&dispatch).result), Code::Busy);
    dispatch
        .submit(&b, Op::Acquire(Wait::For(ms(60))), 2)
        .unwrap();
    assert_eq!(code(next(&dispatch).result), Code::Timeout);
}
