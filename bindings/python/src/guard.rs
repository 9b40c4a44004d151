//! Request guards: the rules. Acquiring is the package's, by threads, greenlets or event loops.

use crate::errors::{contained, detached, seconds};
use crate::lock::Handle;
use crate::store::{Backing, describe_holders};
use pyo3::prelude::*;
use std::sync::{Mutex, MutexGuard, PoisonError};
use synlock_core::guard_request::{
    Anonymous, Dialect, Entering, Entry, GuardMode, Guards, Policy, ReleasePoint, Request, Step,
    User,
};
use synlock_core::{Error, Result, Wait};

/// A policy as the package hands it over.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Rules {
    mode: String,
    name: Option<Vec<u8>>,
    service: Option<String>,
    ttl: Option<f64>,
    max_wait: Option<f64>,
    user_isolation: bool,
    anonymous: String,
    status: i64,
    auto_release: bool,
    release: Option<String>,
    strict: bool,
    label: Option<String>,
}

impl Rules {
    fn policy(self) -> Result<Policy> {
        let mut policy = Policy::default();
        if let Some(wait) = self.max_wait {
            policy.max_wait = seconds(wait, "max_wait")?;
        }
        if let Some(release) = self.release {
            policy.release = ReleasePoint::read(&release)?;
        }
        policy.mode = GuardMode::read(&self.mode)?;
        policy.anonymous = Anonymous::read(&self.anonymous)?;
        policy.name = self.name;
        policy.service = self.service;
        policy.ttl = self.ttl.map(|ttl| seconds(ttl, "ttl")).transpose()?;
        policy.user_isolation = self.user_isolation;
        // None that `check` would let pass.
        policy.status = u16::try_from(self.status).unwrap_or(0);
        policy.auto_release = self.auto_release;
        policy.strict = self.strict;
        policy.label = self.label;
        policy.check()?;
        Ok(policy)
    }
}

/// A request as the package hands it over.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub struct Asked {
    route: Vec<u8>,
    path: Vec<u8>,
    params: Vec<(Vec<u8>, Vec<u8>)>,
    /// Nothing: there are no users; without an identifier: it is nobody.
    user: Option<(Vec<u8>, Option<Vec<u8>>)>,
    session: Option<Vec<u8>>,
    ip: Option<Vec<u8>>,
    token: Option<Vec<u8>>,
}

impl Asked {
    fn with<T>(&self, run: impl FnOnce(&Request<'_>) -> T) -> T {
        let params = self.params.iter();
        let params: Vec<(&[u8], &[u8])> = params
            .map(|(name, value)| (name.as_slice(), value.as_slice()))
            .collect();
        run(&Request {
            route: &self.route,
            path: &self.path,
            params: &params,
            user: match &self.user {
                None => User::NoSource,
                Some((_, None)) => User::Anonymous,
                Some((provider, Some(id))) => User::Known { provider, id },
            },
            session: self.session.as_deref(),
            ip: self.ip.as_deref(),
            token: self.token.as_deref(),
        })
    }
}

/// Refuses a policy that means nothing.
#[pyfunction]
pub fn check_policy(py: Python<'_>, policy: Rules) -> PyResult<()> {
    contained(py, || policy.policy().map(drop))
}

/// Named stores.
#[pyclass(frozen, module = "synlock._synlock")]
#[derive(Debug)]
pub struct Services(Mutex<Guards>);

impl Services {
    fn guards(&self) -> MutexGuard<'_, Guards> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Services {
    #[new]
    fn new(py: Python<'_>, dialect: &str) -> PyResult<Self> {
        contained(py, || {
            Ok(Services(Mutex::new(Guards::in_dialect(Dialect::read(
                dialect,
            )?))))
        })
    }

    fn add(&self, py: Python<'_>, name: &str, store: &Backing, can_wait: bool) -> PyResult<usize> {
        contained(py, || {
            self.guards().add_with(name, store.store.clone(), can_wait)
        })
    }

    fn set_default(&self, name: &str) {
        self.guards().set_default(name);
    }

    /// The place of a service in the order of adding.
    #[pyo3(signature = (name=None))]
    fn find(&self, py: Python<'_>, name: Option<&str>) -> PyResult<usize> {
        contained(py, || self.guards().find(name))
    }

    /// What the policy makes of the request; asks no store.
    fn plan(&self, py: Python<'_>, policy: Rules, request: Asked) -> PyResult<Gate> {
        contained(py, || {
            let policy = policy.policy()?;
            let plan = request.with(|request| self.guards().plan(&policy, request))?;
            Ok(Gate(Mutex::new(Passing {
                entering: Entering::new(plan),
                entry: None,
            })))
        })
    }
}

struct Passing {
    entering: Entering,
    entry: Option<Entry>,
}

impl Passing {
    /// How long the acquire waits that is to follow; nothing if it is over.
    fn follow(&mut self, step: Step) -> Option<f64> {
        match step {
            Step::Done(entry) => {
                self.entry = Some(entry);
                None
            }
            Step::Acquire(Wait::No) => Some(0.0),
            Step::Acquire(Wait::For(time)) => Some(time.as_secs_f64()),
            Step::Acquire(Wait::Forever) => Some(f64::MAX),
        }
    }
}

/// A request at the gate.
#[pyclass(frozen, module = "synlock._synlock")]
pub struct Gate(Mutex<Passing>);

/// Whether it is let in, the seconds it took, who held the lock or had it taken, and `Retry-After`.
type Answer = (bool, f64, Vec<Py<PyAny>>, Option<u64>);

impl Gate {
    fn passing(&self) -> MutexGuard<'_, Passing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Gate {
    /// Name of the lock.
    #[getter]
    fn name(&self) -> Vec<u8> {
        self.passing().entering.plan().name().as_bytes().to_vec()
    }

    /// The service's place in the order of adding.
    #[getter]
    fn service(&self) -> usize {
        self.passing().entering.plan().service()
    }

    /// A lock with the policy's options.
    fn handle(&self, py: Python<'_>) -> PyResult<Handle> {
        contained(py, || {
            let plan = self.passing().entering.plan().clone();
            let mut options = plan.options();
            // Every wait gives Python its turn.
            options.interruptible = true;
            Ok(Handle::new(
                plan.store().lock_with(plan.name().as_bytes(), options)?,
            ))
        })
    }

    /// Seconds that the first acquire waits; None if there is an answer without one.
    fn begin(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        detached(py, || {
            let mut passing = self.passing();
            let step = passing.entering.begin()?;
            Ok(passing.follow(step))
        })
    }

    /// The acquire was granted.
    fn granted(&self) {
        let mut passing = self.passing();
        passing.entry = Some(passing.entering.granted());
    }

    /// The lock was not free in time: seconds that the next acquire waits, or None.
    fn busy(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        detached(py, || {
            let mut passing = self.passing();
            let step = passing.entering.busy()?;
            Ok(passing.follow(step))
        })
    }

    fn answer(&self, py: Python<'_>) -> PyResult<Answer> {
        let passing = self.passing();
        let entry = passing.entry.as_ref();
        let entry = contained(py, || {
            entry.ok_or_else(|| Error::invalid("the request is still at the gate"))
        })?;
        Ok((
            entry.is_admitted(),
            entry.waited().as_secs_f64(),
            describe_holders(py, entry.holders())?,
            entry.retry_after_seconds(),
        ))
    }
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").finish_non_exhaustive()
    }
}
