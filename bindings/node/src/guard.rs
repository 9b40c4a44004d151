//! Request guards: the rules. Acquiring is the package's.

use crate::hub::Hub;
use crate::lock::NativeLock;
use crate::store::{NativeStore, describe_holders, hex, or_null};
use crate::{Outcome, millis};
use napi::bindgen_prelude::Uint8Array;
use napi_derive::napi;
use std::sync::{Arc, Mutex, PoisonError};
use synlock_core::guard_request::{
    Anonymous, Dialect, Entering, Entry, GuardMode, Guards, Plan, Policy, ReleasePoint, Request,
    Step, User,
};
use synlock_core::{Code, Error, Result, Wait};

/// A policy as the package hands it over.
#[napi(object)]
pub struct NativePolicy {
    pub mode: String,
    pub name: Option<Uint8Array>,
    pub service: Option<String>,
    pub ttl: Option<f64>,
    pub max_wait: Option<f64>,
    pub user_isolation: bool,
    pub anonymous: String,
    pub status: f64,
    pub auto_release: bool,
    pub release: Option<String>,
    pub strict: bool,
    pub label: Option<String>,
}

impl NativePolicy {
    fn policy(self) -> Result<Policy> {
        let mut policy = Policy::default();
        if let Some(wait) = self.max_wait {
            policy.max_wait = millis(wait, "maxWait")?;
        }
        if let Some(release) = self.release {
            policy.release = ReleasePoint::read(&release)?;
        }
        policy.mode = GuardMode::read(&self.mode)?;
        policy.anonymous = Anonymous::read(&self.anonymous)?;
        policy.name = self.name.map(|name| name.to_vec());
        policy.service = self.service;
        policy.ttl = self.ttl.map(|ttl| millis(ttl, "ttl")).transpose()?;
        policy.user_isolation = self.user_isolation;
        // Zero is none that `check` lets pass.
        policy.status = if self.status.fract() == 0.0 {
            self.status as u16
        } else {
            0
        };
        policy.auto_release = self.auto_release;
        policy.strict = self.strict;
        policy.label = self.label;
        policy.check()?;
        Ok(policy)
    }
}

/// A request as the package hands it over.
#[napi(object)]
pub struct NativeRequest {
    pub route: Uint8Array,
    pub path: Uint8Array,
    /// Names and values in turn.
    pub params: Vec<Uint8Array>,
    /// Whether the application has users.
    pub has_users: bool,
    pub provider: Option<Uint8Array>,
    /// Nothing: nobody.
    pub user: Option<Uint8Array>,
    pub session: Option<Uint8Array>,
    pub ip: Option<Uint8Array>,
    pub token: Option<Uint8Array>,
}

impl NativeRequest {
    fn with<T>(&self, run: impl FnOnce(&Request<'_>) -> T) -> T {
        let pairs = self.params.chunks_exact(2);
        let params: Vec<(&[u8], &[u8])> = pairs.map(|pair| (&*pair[0], &*pair[1])).collect();
        run(&Request {
            route: &self.route,
            path: &self.path,
            params: &params,
            user: match (self.has_users, &self.user) {
                (false, _) => User::NoSource,
                (true, None) => User::Anonymous,
                (true, Some(id)) => User::Known {
                    provider: self.provider.as_deref().unwrap_or_default(),
                    id,
                },
            },
            session: self.session.as_deref(),
            ip: self.ip.as_deref(),
            token: self.token.as_deref(),
        })
    }
}

/// Refuses a policy that means nothing.
#[napi(catch_unwind)]
pub fn check_policy(policy: NativePolicy) -> Outcome {
    Outcome::of(policy.policy(), |_, _| {})
}

/// Named stores.
#[napi]
pub struct NativeGuards {
    guards: Result<Guards>,
}

#[napi]
impl NativeGuards {
    #[napi(constructor, catch_unwind)]
    pub fn new(dialect: String) -> Self {
        NativeGuards {
            guards: Dialect::read(&dialect).map(Guards::in_dialect),
        }
    }

    fn run<T>(&self, run: impl FnOnce(&Guards) -> Result<T>) -> Result<T> {
        match &self.guards {
            Ok(guards) => run(guards),
            Err(error) => Err(Error::new(error.code(), error.message())),
        }
    }

    /// Status 0, or why there is no such dialect.
    #[napi(catch_unwind)]
    pub fn made(&self) -> Outcome {
        Outcome::of(self.run(|_| Ok(())), |(), _| {})
    }

    #[napi(catch_unwind)]
    pub fn add(&mut self, name: String, store: &NativeStore, can_wait: bool) -> Outcome {
        let added = match &mut self.guards {
            Ok(guards) => store
                .opened()
                .and_then(|store| guards.add_with(&name, store.clone(), can_wait)),
            Err(error) => Err(Error::new(error.code(), error.message())),
        };
        Outcome::of(added, |_, _| {})
    }

    #[napi(catch_unwind)]
    pub fn set_default(&mut self, name: String) {
        if let Ok(guards) = &mut self.guards {
            guards.set_default(&name);
        }
    }

    /// The place of a service in the order of adding.
    #[napi(catch_unwind)]
    pub fn find(&self, name: Option<String>) -> Outcome {
        let found = self.run(|guards| guards.find(name.as_deref()));
        Outcome::of(found, |place, outcome| {
            outcome.value = Some(place.to_string())
        })
    }

    /// What the policy makes of the request; asks no store.
    #[napi(catch_unwind)]
    pub fn plan(&self, policy: NativePolicy, request: NativeRequest) -> NativeGate {
        let plan = self.run(|guards| {
            let policy = policy.policy()?;
            request.with(|request| guards.plan(&policy, request))
        });
        NativeGate {
            passing: plan.map(|plan| {
                let entering = Mutex::new(Entering::new(plan.clone()));
                (plan, Arc::new(entering))
            }),
        }
    }
}

/// A request at the gate.
#[napi]
pub struct NativeGate {
    passing: Result<(Plan, Arc<Mutex<Entering>>)>,
}

/// What follows, as JSON: the ms that an acquire waits, or the answer.
fn follow(step: Step) -> String {
    match step {
        Step::Acquire(Wait::No) => r#"{"wait":0}"#.to_owned(),
        Step::Acquire(Wait::For(time)) => {
            format!(r#"{{"wait":{}}}"#, time.as_secs_f64() * 1000.0)
        }
        Step::Acquire(Wait::Forever) => r#"{"wait":-1}"#.to_owned(),
        Step::Done(entry) => answer(&entry),
    }
}

fn answer(entry: &Entry) -> String {
    format!(
        r#"{{"admitted":{},"waited":{},"holders":{},"retryAfter":{}}}"#,
        entry.is_admitted(),
        entry.waited().as_secs_f64() * 1000.0,
        describe_holders(entry.holders()),
        or_null(entry.retry_after_seconds()),
    )
}

fn step(entering: &Mutex<Entering>, what: &str) -> Result<String> {
    let mut entering = entering.lock().unwrap_or_else(PoisonError::into_inner);
    match what {
        "begin" => entering.begin().map(follow),
        "busy" => entering.busy().map(follow),
        _ => Ok(answer(&entering.granted())),
    }
}

#[napi]
impl NativeGate {
    /// Why there is no gate; or the name of the lock.
    #[napi(catch_unwind)]
    pub fn made(&self) -> Outcome {
        self.then(|(plan, _)| Ok(hex(plan.name().as_bytes())))
    }

    /// The service's place in the order of adding.
    #[napi(getter, catch_unwind)]
    pub fn service(&self) -> u32 {
        let plan = self.passing.as_ref();
        plan.map_or(0, |(plan, _)| {
            u32::try_from(plan.service()).unwrap_or(u32::MAX)
        })
    }

    fn then(&self, run: impl FnOnce(&(Plan, Arc<Mutex<Entering>>)) -> Result<String>) -> Outcome {
        match &self.passing {
            Ok(passing) => Outcome::of(run(passing), |value, outcome| outcome.value = Some(value)),
            Err(error) => Outcome::refused(error),
        }
    }

    /// A lock with the policy's options.
    #[napi(catch_unwind)]
    pub fn lock(&self) -> NativeLock {
        NativeLock::new(match &self.passing {
            Ok((plan, _)) => plan
                .store()
                .lock_with(plan.name().as_bytes(), plan.options()),
            Err(error) => Err(Error::new(error.code(), error.message())),
        })
    }

    /// `begin`, `busy` or `granted`, on this thread.
    #[napi(catch_unwind)]
    pub fn step_sync(&self, what: String) -> Outcome {
        self.then(|(_, entering)| step(entering, &what))
    }

    /// As `stepSync`, on the service thread; the hub is told under `id`.
    #[napi(catch_unwind)]
    pub fn step(&self, hub: &Hub, id: f64, what: String) -> Outcome {
        let Ok((plan, entering)) = &self.passing else {
            return Outcome::refused(&Error::outcome(Code::InvalidHandle));
        };
        let (teller, entering) = (hub.teller(), entering.clone());
        let started = synlock_core::dispatch::run(plan.store(), move || {
            let done = step(&entering, &what);
            let told = Outcome::of(done, |value, outcome| outcome.value = Some(value));
            teller.tell(id, told);
        });
        Outcome::of(started, |(), _| {})
    }
}
