//! One hold.

use crate::hub::Hub;
use crate::seats::{self, Made};
use crate::{Outcome, big, millis, wait};
use napi::bindgen_prelude::BigInt;
use napi_derive::napi;
use std::sync::{Arc, OnceLock};
use synlock_core::{Cancel, Code, Error, Lock, LockOptions, Mode, Reentry, Result, Wait};

#[napi(object)]
#[derive(Default)]
pub struct NativeOptions {
    pub ttl: Option<f64>,
    pub renew: Option<bool>,
    pub shared: Option<bool>,
    pub permits: Option<Vec<u32>>,
    pub auto_release: Option<bool>,
    pub fair: Option<bool>,
    pub strict: Option<bool>,
    pub reentry: Option<String>,
    pub label: Option<String>,
    pub caller: Option<String>,
}

impl NativeOptions {
    pub fn over(self, defaults: &LockOptions) -> Result<LockOptions> {
        let mut options = defaults.clone();
        if let Some(ttl) = self.ttl {
            options.ttl = Some(millis(ttl, "ttl")?);
        }
        options.renew = self.renew.or(options.renew);
        options.mode = match (self.shared.unwrap_or(false), self.permits.as_deref()) {
            (false, None) => options.mode,
            (true, None) => Mode::Shared,
            (false, Some(&[take, of])) => Mode::Permits { take, of },
            _ => {
                return Err(Error::invalid(
                    "a lock is either shared or has permits: [take, of]",
                ));
            }
        };
        options.auto_release = self.auto_release.unwrap_or(options.auto_release);
        options.fair = self.fair.unwrap_or(options.fair);
        options.strict = self.strict.unwrap_or(options.strict);
        options.reentry = match self.reentry.as_deref() {
            None => options.reentry,
            Some("independent") => Reentry::Independent,
            Some("error") => Reentry::Error,
            Some("extend") => Reentry::Extend,
            Some(_) => {
                return Err(Error::invalid(
                    "reentry is one of independent, error, extend",
                ));
            }
        };
        if let Some(label) = self.label {
            options.label = Some(label.into());
        }
        options.caller = self.caller.map(Into::into);
        Ok(options)
    }
}

#[napi]
pub struct NativeLock {
    made: Made,
    seat: u32,
    cancel: Cancel,
}

impl NativeLock {
    pub fn new(lock: Result<Lock>) -> Self {
        NativeLock::later(Arc::new(OnceLock::from(lock)))
    }

    /// A lock that somebody makes later.
    pub fn later(made: Made) -> Self {
        let cancel = Cancel::new();
        NativeLock {
            seat: seats::sit(&made, &cancel),
            made,
            cancel,
        }
    }

    fn lock(&self) -> Option<&Lock> {
        self.made.get()?.as_ref().ok()
    }

    fn run<T>(
        &self,
        run: impl FnOnce(&Lock) -> Result<T>,
        fill: impl FnOnce(T, &mut Outcome),
    ) -> Outcome {
        match self.lock() {
            Some(lock) => Outcome::of(run(lock), fill),
            None => self.refusal(),
        }
    }

    /// Why there is no lock.
    fn refusal(&self) -> Outcome {
        match self.made.get() {
            Some(Ok(_)) => Outcome::default(),
            Some(Err(error)) => Outcome::refused(error),
            None => Outcome::refused(&Error::new(
                Code::ConcurrentUse,
                "the lock is being adopted",
            )),
        }
    }
}

impl Drop for NativeLock {
    /// When the package's object was collected: nobody has the lock any more.
    fn drop(&mut self) {
        seats::leave(self.seat, std::mem::take(&mut self.made));
    }
}

#[napi]
impl NativeLock {
    /// Status 0, or why the lock could not be made.
    #[napi(catch_unwind)]
    pub fn made(&self) -> Outcome {
        self.refusal()
    }

    /// What `take` and `give` know it by.
    #[napi(getter, catch_unwind)]
    pub fn seat(&self) -> u32 {
        self.seat
    }

    #[napi(catch_unwind)]
    pub fn acquire_sync(&self, timeout: f64) -> Outcome {
        self.run(
            |lock| lock.acquire(wait(timeout)?, Some(&self.cancel)),
            Outcome::acquired,
        )
    }

    #[napi(catch_unwind)]
    pub fn try_sync(&self) -> Outcome {
        self.run(|lock| lock.acquire(Wait::No, None), Outcome::acquired)
    }

    /// Ends an acquire that is under way.
    #[napi(catch_unwind)]
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    #[napi(catch_unwind)]
    pub fn release_sync(&self) -> Outcome {
        self.run(Lock::release, |released, outcome| {
            outcome.late = Some(released.late)
        })
    }

    #[napi(catch_unwind)]
    pub fn refresh_sync(&self, ttl: Option<f64>) -> Outcome {
        self.run(
            |lock| lock.refresh(ttl.map(|ttl| millis(ttl, "ttl")).transpose()?),
            |(), _| {},
        )
    }

    #[napi(catch_unwind)]
    pub fn promote_sync(&self, timeout: f64) -> Outcome {
        self.run(|lock| lock.promote(wait(timeout)?), |(), _| {})
    }

    #[napi(catch_unwind)]
    pub fn demote_sync(&self) -> Outcome {
        self.run(Lock::demote, |(), _| {})
    }

    #[napi(catch_unwind)]
    pub fn check_sync(&self) -> Outcome {
        self.run(Lock::ensure_held, |(), _| {})
    }

    #[napi(catch_unwind)]
    pub fn export_sync(&self) -> Outcome {
        self.run(Lock::export, |text, outcome| outcome.value = Some(text))
    }

    /// Tells the hub under `id` when the hold is lost.
    #[napi(catch_unwind)]
    pub fn on_lost(&self, hub: &Hub, id: f64) -> Outcome {
        let teller = hub.teller();
        self.run(
            |lock| lock.on_lost(move || teller.tell(id, Outcome::default())),
            |(), _| {},
        )
    }

    #[napi(getter, catch_unwind)]
    pub fn state(&self) -> String {
        self.lock()
            .map_or("idle", |lock| lock.state().name())
            .to_owned()
    }

    /// What an acquire waits that does not say, ms; negative is for ever.
    #[napi(getter, catch_unwind)]
    pub fn timeout(&self) -> f64 {
        match self.lock().and_then(|lock| lock.options().timeout) {
            None | Some(Wait::Forever) => -1.0,
            Some(Wait::No) => 0.0,
            Some(Wait::For(time)) => time.as_secs_f64() * 1000.0,
        }
    }

    #[napi(getter, catch_unwind)]
    pub fn remaining(&self) -> Option<f64> {
        self.lock()?
            .remaining()
            .map(|left| left.as_secs_f64() * 1000.0)
    }

    #[napi(getter, catch_unwind)]
    pub fn fencing_token(&self) -> Option<BigInt> {
        big(self.lock()?.fencing_token())
    }

    #[napi(getter, catch_unwind)]
    pub fn owner_token(&self) -> Option<String> {
        self.lock()?.owner_token().map(|token| token.to_hex())
    }

    #[napi(getter, catch_unwind)]
    pub fn mode(&self) -> String {
        self.lock()
            .map_or("exclusive", |lock| lock.mode().kind())
            .to_owned()
    }

    #[napi(catch_unwind)]
    pub fn set_auto_release(&self, on: bool) {
        if let Some(lock) = self.lock() {
            lock.set_auto_release(on);
        }
    }

    /// Nobody has the lock any more.
    #[napi(catch_unwind)]
    pub fn collected(&mut self) {
        seats::leave(self.seat, std::mem::take(&mut self.made));
        // Nothing is left for the end of this.
        self.seat = seats::sit(&self.made, &self.cancel);
    }
}
