//! The locks of one environment by number, and the short way to and from a hold: a call with a number
//! that answers a number. To unwrap an object of a class, and to make one of an outcome, costs many times
//! what the lock costs.

use crate::Outcome;
use napi_derive::napi;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use synlock_core::{BootTime, Code, Error, LAST_CALLS, Lock, Result, State, Wait, dispatch};

/// A lock, or why there is none; empty while an adoption is under way.
pub type Made = Arc<OnceLock<Result<Lock>>>;

#[derive(Default)]
struct Seats {
    taken: Vec<Option<Made>>,
    free: Vec<u32>,
}

thread_local! {
    /// An environment has its thread to itself.
    static SEATS: RefCell<Seats> = RefCell::default();
    /// Why the last short call was refused.
    static REFUSED: Cell<Option<Error>> = const { Cell::new(None) };
}

/// Gives a lock its number, until it leaves.
pub fn sit(made: &Made) -> u32 {
    SEATS.with_borrow_mut(|seats| {
        let made = Some(made.clone());
        if let Some(seat) = seats.free.pop() {
            seats.taken[seat as usize] = made;
            return seat;
        }
        seats.taken.push(made);
        (seats.taken.len() - 1) as u32
    })
}

/// Ends a number. What is held is released, off the loop, since a server may be asked.
pub fn leave(seat: u32, made: Made) {
    let left = SEATS.try_with(|seats| {
        let mut seats = seats.borrow_mut();
        seats.free.push(seat);
        seats.taken[seat as usize].take()
    });
    // A custom store is asked here, and nowhere else.
    let idle = |lock: &Lock| lock.state() == State::Idle || lock.store().is_caller_thread_only();
    let store = match made.get() {
        Some(Ok(lock)) if !idle(lock) => lock.store().clone(),
        _ => return,
    };
    // Without a service thread it is dropped here.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        dispatch::run(&store, move || drop((left, made)))
    }));
}

/// 0, or the status of the refusal, which `refusal` then tells in full.
fn quickly(seat: u32, run: impl FnOnce(&Lock) -> Result<i32>) -> i32 {
    let done = SEATS.with_borrow(|seats| {
        let made = seats.taken.get(seat as usize).and_then(Option::as_ref);
        match made.and_then(|made| made.get()) {
            Some(Ok(lock)) => run(lock),
            _ => Err(Error::outcome(Code::InvalidHandle)),
        }
    });
    done.unwrap_or_else(|error| {
        let status = error.code().number();
        REFUSED.set(Some(error));
        status
    })
}

/// Takes the lock with this number, if it is free, on a store that answers at once; whoever listens is
/// told of a refusal only if that is the end of it.
#[napi(catch_unwind)]
pub fn take(seat: u32, ends: bool) -> i32 {
    quickly(seat, |lock| {
        let taken = if ends {
            lock.acquire(Wait::No, None).map(Some)
        } else {
            lock.acquire_at_once()
        };
        match taken {
            Ok(Some(_)) => Ok(0),
            Ok(None) => Ok(Code::Busy.number()),
            Err(error) if error.code() == Code::Busy => Ok(Code::Busy.number()),
            Err(error) => Err(error),
        }
    })
}

/// Gives it back; -1: late.
#[napi(catch_unwind)]
pub fn give(seat: u32) -> i32 {
    quickly(seat, |lock| Ok(-i32::from(lock.release()?.late)))
}

/// Why the last short call was refused.
#[napi(catch_unwind)]
pub fn refusal() -> Outcome {
    match REFUSED.take() {
        Some(error) => Outcome::refused(&error),
        None => Outcome::default(),
    }
}

/// At the end of the environment: what is held is released.
#[napi(catch_unwind)]
pub fn end_with_process() {
    let all: Vec<Made> = SEATS.with_borrow(|seats| seats.taken.iter().flatten().cloned().collect());
    let until = BootTime::now().after(LAST_CALLS);
    for made in all {
        if let Some(Ok(lock)) = made.get() {
            lock.end_with_process(until);
        }
    }
}
