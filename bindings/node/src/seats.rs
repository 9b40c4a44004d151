//! The locks of one environment by number, and the short way to and from a hold: a call with a number
//! that answers a number. To unwrap an object of a class, and to make one of an outcome, costs many times
//! what the lock costs.

use crate::hub::Teller;
use crate::{Outcome, millis, wait};
use napi_derive::napi;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use synlock_core::{
    BootTime, Cancel, Code, Error, LAST_CALLS, Lock, Op, Result, State, Wait, dispatch,
};

/// A lock, or why there is none; empty while an adoption is under way.
pub type Made = Arc<OnceLock<Result<Lock>>>;

struct Taken {
    made: Made,
    /// Ends an acquire that is under way.
    cancel: Cancel,
}

#[derive(Default)]
struct Seats {
    taken: Vec<Option<Taken>>,
    free: Vec<u32>,
}

thread_local! {
    /// An environment has its thread to itself.
    static SEATS: RefCell<Seats> = RefCell::default();
    /// Why the last short call was refused.
    static REFUSED: Cell<Option<Error>> = const { Cell::new(None) };
}

/// Gives a lock its number, until it leaves.
pub fn sit(made: &Made, cancel: &Cancel) -> u32 {
    SEATS.with_borrow_mut(|seats| {
        let taken = Some(Taken {
            made: made.clone(),
            cancel: cancel.clone(),
        });
        if let Some(seat) = seats.free.pop() {
            seats.taken[seat as usize] = taken;
            return seat;
        }
        seats.taken.push(taken);
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
fn quickly(seat: u32, run: impl FnOnce(&Lock, &Cancel) -> Result<i32>) -> i32 {
    let done = SEATS.with_borrow(|seats| {
        let taken = seats.taken.get(seat as usize).and_then(Option::as_ref);
        match taken.and_then(|taken| Some((taken.made.get()?, &taken.cancel))) {
            Some((Ok(lock), cancel)) => run(lock, cancel),
            Some((Err(error), _)) => Err(Error::new(error.code(), error.message())),
            None if taken.is_some() => {
                Err(Error::new(Code::ConcurrentUse, "the lock is being adopted"))
            }
            None => Err(Error::outcome(Code::InvalidHandle)),
        }
    });
    done.unwrap_or_else(|error| {
        let status = error.code().number();
        REFUSED.set(Some(error));
        status
    })
}

/// Hands over the locks with these numbers.
pub fn with_locks<T>(numbers: &[u32], run: impl FnOnce(&[&Lock]) -> Result<T>) -> Result<T> {
    SEATS.with_borrow(|seats| {
        let lock = |number: &u32| {
            let taken = seats.taken.get(*number as usize)?.as_ref()?;
            taken.made.get()?.as_ref().ok()
        };
        let locks: Option<Vec<&Lock>> = numbers.iter().map(lock).collect();
        run(&locks.ok_or_else(|| Error::outcome(Code::InvalidHandle))?)
    })
}

/// Takes the lock with this number, if it is free, on a store that answers at once; whoever listens is
/// told of a refusal only if that is the end of it.
#[napi(catch_unwind)]
pub fn take(seat: u32, ends: bool) -> i32 {
    quickly(seat, |lock, _| {
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
    quickly(seat, |lock, _| Ok(-i32::from(lock.release()?.late)))
}

/// Starts an operation (see index.js), of which the hub with this number is told under `id`; -1: it is written when the
/// hub is told to flush.
#[napi(catch_unwind)]
pub fn begin(hub: u32, seat: u32, id: f64, op: u32, argument: Option<f64>) -> i32 {
    quickly(seat, |lock, cancel| {
        let op = match op {
            0 => Op::Acquire(wait(argument.unwrap_or(-1.0))?),
            1 => Op::Release,
            2 => Op::Refresh(argument.map(|ttl| millis(ttl, "ttl")).transpose()?),
            3 => Op::Promote(wait(argument.unwrap_or(0.0))?),
            4 => Op::Demote,
            5 => Op::Check,
            6 => Op::Abandon,
            _ => return Err(Error::invalid("there is no such operation")),
        };
        let teller = Teller::of(hub)?;
        let told = teller.clone();
        dispatch::submit_on(
            teller.poller(),
            lock,
            op,
            Some(cancel.clone()),
            move |end| {
                told.tell_end(id, end);
            },
        )?;
        let is_held_back = teller.poller().is_some_and(|poller| poller.owes());
        Ok(-i32::from(is_held_back))
    })
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
    let all: Vec<Made> = SEATS.with_borrow(|seats| {
        let taken = seats.taken.iter().flatten();
        taken.map(|taken| taken.made.clone()).collect()
    });
    let until = BootTime::now().after(LAST_CALLS);
    for made in all {
        if let Some(Ok(lock)) = made.get() {
            lock.end_with_process(until);
        }
    }
    synlock_core::collect_releases();
}
