//! Where completions enter an environment: one function per main thread or worker, called on its
//! loop, in batches, and keeping nothing alive.

use crate::Outcome;
use napi::Status;
use napi::bindgen_prelude::{FnArgs, Function, Unknown};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use std::sync::Arc;

type Complete = ThreadsafeFunction<
    FnArgs<(f64, Outcome)>,
    Unknown<'static>,
    FnArgs<(f64, Outcome)>,
    Status,
    false,
    true,
>;

#[napi]
pub struct Hub {
    complete: Arc<Complete>,
}

/// Tells an environment of a completion, from any thread.
#[derive(Clone)]
pub struct Teller(Arc<Complete>);

impl Teller {
    pub fn tell(&self, id: f64, outcome: Outcome) {
        // An environment that is going away has nobody left to tell.
        self.0.call(
            (id, outcome).into(),
            ThreadsafeFunctionCallMode::NonBlocking,
        );
    }
}

#[napi]
impl Hub {
    #[napi(constructor, catch_unwind)]
    pub fn new(
        complete: Function<'_, FnArgs<(f64, Outcome)>, Unknown<'static>>,
    ) -> napi::Result<Self> {
        let complete = complete
            .build_threadsafe_function()
            .weak::<true>()
            .build()?;
        Ok(Hub {
            complete: Arc::new(complete),
        })
    }
}

impl Hub {
    pub fn teller(&self) -> Teller {
        Teller(self.complete.clone())
    }
}
