//! Where completions enter an environment: one function per main thread or worker, and instance of the package,
//! which is called on its loop, takes what has come since, and keeps nothing alive.
//!
//! The loop watches a descriptor, and reads the answers of servers itself. In a program that has no libuv to show,
//! the threads of the library call.

use crate::{Outcome, uv};
use napi::bindgen_prelude::{Function, Unknown};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Status};
use napi_derive::napi;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use synlock_core::dispatch::Poller;
use synlock_core::{Code, Error, Result};

type Call = ThreadsafeFunction<(), Unknown<'static>, (), Status, false, true>;

/// An outcome, and the number that the package gave to whoever is told of it.
#[napi(object)]
pub struct Told {
    pub id: f64,
    pub outcome: Outcome,
}

#[napi]
pub struct Hub {
    inner: Arc<Inner>,
    number: u32,
}

enum Ring {
    Poll(Arc<Poller>),
    Call(Call),
}

struct Inner {
    ring: Ring,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Four numbers each, see `take`.
    brief: Vec<f64>,
    full: VecDeque<Told>,
    /// The loop is about to take: nobody rings for it.
    is_taken: bool,
    is_rung: bool,
}

/// The ways in which a number is told of its end.
const ACQUIRED: f64 = 0.0;
const RELEASED: f64 = 1.0;
const DONE: f64 = 2.0;
const IN_FULL: f64 = 3.0;

thread_local! {
    /// By number. A program may load the package anew, or twice: each instance has its own.
    static HUBS: RefCell<Vec<Arc<Inner>>> = const { RefCell::new(Vec::new()) };
}

/// Tells an environment of a completion, from any thread.
#[derive(Clone)]
pub struct Teller(Arc<Inner>);

impl Teller {
    /// That of the hub of this thread with this number.
    pub fn of(number: u32) -> Result<Self> {
        HUBS.with_borrow(|hubs| hubs.get(number as usize).cloned())
            .map(Teller)
            .ok_or_else(|| Error::new(Code::Internal, "there is no hub"))
    }

    /// The loop's own descriptor, if it has one.
    pub fn poller(&self) -> Option<&Arc<Poller>> {
        match &self.0.ring {
            Ring::Poll(poller) => Some(poller),
            Ring::Call(_) => None,
        }
    }

    pub fn tell(&self, id: f64, outcome: Outcome) {
        self.add([id, IN_FULL, 0.0, 0.0], Some(outcome));
    }

    /// What it came to in numbers, or in full if it failed.
    pub fn tell_end(&self, id: f64, result: Result<synlock_core::Outcome>) {
        let told = match result {
            Ok(synlock_core::Outcome::Acquired(how)) => {
                let waited = how.waited.as_secs_f64() * 1000.0;
                let attempts = f64::from(how.attempts) * 2.0 + f64::from(u8::from(how.contended));
                [id, ACQUIRED, waited, attempts]
            }
            Ok(synlock_core::Outcome::Released(how)) => {
                [id, RELEASED, f64::from(u8::from(how.late)), 0.0]
            }
            Ok(_) => [id, DONE, 0.0, 0.0],
            Err(error) => return self.tell(id, Outcome::refused(&error)),
        };
        self.add(told, None);
    }

    fn add(&self, told: [f64; 4], outcome: Option<Outcome>) {
        let mut state = self.0.state();
        state.brief.extend(told);
        state.full.extend(outcome.map(|outcome| {
            let [id, ..] = told;
            Told { id, outcome }
        }));
        if state.is_taken || std::mem::replace(&mut state.is_rung, true) {
            return;
        }
        match &self.0.ring {
            // Within the mutex, or a take in between would leave it readable, or quiet, for ever.
            Ring::Poll(poller) => poller.ring(),
            // An environment that is going away has nobody left to tell.
            Ring::Call(call) => {
                drop(state);
                call.call((), ThreadsafeFunctionCallMode::NonBlocking);
            }
        }
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[napi]
impl Hub {
    /// `polls`: the loop is libuv's.
    #[napi(constructor, catch_unwind)]
    pub fn new(
        env: Env,
        ring: Function<'_, (), Unknown<'static>>,
        polls: bool,
    ) -> napi::Result<Self> {
        let poller = polls
            .then(|| Poller::new(true).ok())
            .flatten()
            .map(Arc::new);
        let watched = poller.filter(|poller| uv::watch(&env, poller, &ring));
        let ring = match watched {
            Some(poller) => Ring::Poll(poller),
            None => Ring::Call(ring.build_threadsafe_function().weak::<true>().build()?),
        };
        let inner = Arc::new(Inner {
            ring,
            state: Mutex::default(),
        });
        let number = HUBS.with_borrow_mut(|hubs| {
            hubs.push(inner.clone());
            (hubs.len() - 1) as u32
        });
        Ok(Hub { inner, number })
    }

    /// What `begin` knows it by.
    #[napi(getter, catch_unwind)]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// What has come since the last time, four numbers each: whom it is for; 0 and how long it waited, ms, and
    /// twice its attempts, one more if others wanted it too; 1 and whether the release was late; 2 when it is
    /// done; 3 if `next` tells. Also at the environment's end, when nothing rings any more.
    #[napi(catch_unwind)]
    pub fn take(&self) -> Vec<f64> {
        if let Ring::Poll(poller) = &self.inner.ring {
            self.inner.state().is_taken = true;
            poller.read();
        }
        let mut state = self.inner.state();
        state.is_taken = false;
        if std::mem::take(&mut state.is_rung)
            && let Ring::Poll(poller) = &self.inner.ring
        {
            poller.quiet();
        }
        std::mem::take(&mut state.brief)
    }

    /// What is told in full, in the order of the numbers.
    #[napi(catch_unwind)]
    pub fn next(&self) -> Option<Told> {
        self.inner.state().full.pop_front()
    }

    /// Writes what was held back, at the end of a turn of the loop.
    #[napi(catch_unwind)]
    pub fn flush(&self) {
        if let Ring::Poll(poller) = &self.inner.ring {
            poller.flush();
        }
    }
}

impl Hub {
    pub fn teller(&self) -> Teller {
        Teller(self.inner.clone())
    }
}
