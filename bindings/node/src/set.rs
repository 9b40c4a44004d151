//! Several holds at once.

use crate::hub::Teller;
use crate::{Outcome, seats, wait};
use napi_derive::napi;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use synlock_core::{Cancel, Error, LockSet, Op, Result, Wait, dispatch};

#[napi]
pub struct NativeSet {
    set: Option<Result<Arc<LockSet>>>,
    cancel: Cancel,
}

impl NativeSet {
    fn run<T>(
        &self,
        run: impl FnOnce(&Arc<LockSet>) -> Result<T>,
        fill: impl FnOnce(T, &mut Outcome),
    ) -> Outcome {
        match &self.set {
            Some(Ok(set)) => Outcome::of(run(set), fill),
            Some(Err(error)) => Outcome::refused(error),
            None => Outcome::default(),
        }
    }
}

impl Drop for NativeSet {
    /// When the package's object was collected. What it gives back may take a server's time: not on the loop.
    fn drop(&mut self) {
        let Some(Ok(set)) = self.set.take() else {
            return;
        };
        if set.is_of_callers_stores() {
            // Not to be asked within a collection: its locks see to that.
            return set.leave();
        }
        let store = set.store().clone();
        let _ = catch_unwind(AssertUnwindSafe(|| {
            dispatch::run(&store, move || drop(set))
        }));
    }
}

#[napi]
impl NativeSet {
    /// Of the locks with these numbers.
    #[napi(constructor, catch_unwind)]
    pub fn new(numbers: Vec<u32>) -> Self {
        NativeSet {
            set: Some(seats::with_locks(&numbers, |locks| {
                LockSet::new(locks).map(Arc::new)
            })),
            cancel: Cancel::new(),
        }
    }

    /// Status 0, or why the set could not be made.
    #[napi(catch_unwind)]
    pub fn made(&self) -> Outcome {
        self.run(|_| Ok(()), |(), _| {})
    }

    /// What an acquire waits that does not say, ms; negative is for ever.
    #[napi(getter, catch_unwind)]
    pub fn timeout(&self) -> f64 {
        match self
            .set
            .as_ref()
            .and_then(|set| set.as_ref().ok())
            .map(|set| set.default_wait())
        {
            None | Some(Wait::Forever) => -1.0,
            Some(Wait::No) => 0.0,
            Some(Wait::For(time)) => time.as_secs_f64() * 1000.0,
        }
    }

    #[napi(catch_unwind)]
    pub fn try_sync(&self) -> Outcome {
        self.run(|set| set.acquire(Wait::No, None), Outcome::acquired)
    }

    /// Ends an acquire that is under way.
    #[napi(catch_unwind)]
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    #[napi(catch_unwind)]
    pub fn release_sync(&self) -> Outcome {
        self.run(
            |set| set.release(),
            |released, outcome| outcome.late = Some(released.late),
        )
    }

    #[napi(catch_unwind)]
    pub fn check_sync(&self) -> Outcome {
        self.run(|set| set.ensure_held(), |(), _| {})
    }

    /// Starts an operation (see index.js), of which the hub with this number is told under `id`.
    #[napi(catch_unwind)]
    pub fn begin(&self, hub: u32, id: f64, op: u32, argument: Option<f64>) -> Outcome {
        self.run(
            |set| {
                let op = match op {
                    0 => Op::Acquire(wait(argument.unwrap_or(-1.0))?),
                    1 => Op::Release,
                    5 => Op::Check,
                    6 => Op::Abandon,
                    _ => return Err(Error::invalid("there is no such operation of a set")),
                };
                let teller = Teller::of(hub)?;
                let told = teller.clone();
                let done = move |end| told.tell_end(id, end);
                let cancel = Some(self.cancel.clone());
                dispatch::submit_set(teller.poller(), set, op, cancel, done)
            },
            |(), _| {},
        )
    }
}
