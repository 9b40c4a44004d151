//! Where completions enter an environment: one function per main thread or worker, which is called on
//! its loop, takes what has come since, and keeps nothing alive.

use crate::Outcome;
use napi::Status;
use napi::bindgen_prelude::{Function, Unknown};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use std::sync::{Arc, Mutex, PoisonError};

type Ring = ThreadsafeFunction<(), Unknown<'static>, (), Status, false, true>;

/// An outcome, and the number that the package gave to whoever is told of it.
#[napi(object)]
pub struct Told {
    pub id: f64,
    pub outcome: Outcome,
}

#[napi]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    ring: Ring,
    told: Mutex<Vec<Told>>,
}

/// Tells an environment of a completion, from any thread.
#[derive(Clone)]
pub struct Teller(Arc<Inner>);

impl Teller {
    pub fn tell(&self, id: f64, outcome: Outcome) {
        let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.push(Told { id, outcome });
        let is_first = told.len() == 1;
        drop(told);
        // An environment that is going away has nobody left to tell.
        if is_first {
            self.0
                .ring
                .call((), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }
}

#[napi]
impl Hub {
    #[napi(constructor, catch_unwind)]
    pub fn new(ring: Function<'_, (), Unknown<'static>>) -> napi::Result<Self> {
        let ring = ring.build_threadsafe_function().weak::<true>().build()?;
        let told = Mutex::default();
        Ok(Hub {
            inner: Arc::new(Inner { ring, told }),
        })
    }

    /// What has come since the last time; also at the environment's end, when nothing rings any more.
    #[napi(catch_unwind)]
    pub fn take(&self) -> Vec<Told> {
        let mut told = self
            .inner
            .told
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *told)
    }
}

impl Hub {
    pub fn teller(&self) -> Teller {
        Teller(self.inner.clone())
    }
}
