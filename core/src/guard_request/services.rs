//! Named stores, and what a policy makes of a request on one of them.

use super::entry::{Entering, Entry, Step};
use super::naming::{self, Request};
use super::policy::{Dialect, GuardMode, Policy};
use crate::cancel::Cancel;
use crate::codes::Code;
use crate::lease::Wait;
use crate::name::Name;
use crate::options::{LockOptions, Reentry};
use crate::registry::Store;
use crate::{Error, Result};
use std::sync::Arc;

#[derive(Clone, Debug)]
struct Service {
    name: String,
    store: Store,
    can_wait: bool,
}

/// Stores by name, one of them the default.
#[derive(Clone, Debug, Default)]
pub struct Guards {
    services: Vec<Service>,
    default: Option<String>,
    dialect: Dialect,
}

impl Guards {
    /// None yet, in our own dialect.
    pub fn new() -> Self {
        Self::default()
    }

    /// None yet, in this dialect.
    pub fn in_dialect(dialect: Dialect) -> Self {
        Guards {
            dialect,
            ..Self::default()
        }
    }

    /// How names are made.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Adds a store under a short name (`default`, `redis.queued`); its place in the list.
    ///
    /// # Errors
    /// `InvalidArgument` for an empty name, or one that is there already.
    pub fn add(&mut self, name: &str, store: Store) -> Result<usize> {
        self.add_with(name, store, true)
    }

    /// As [`Guards::add`]; `can_wait` is false for a store of the host's own that cannot wait, on which
    /// `queue` is refused.
    ///
    /// # Errors
    /// As [`Guards::add`].
    pub fn add_with(&mut self, name: &str, store: Store, can_wait: bool) -> Result<usize> {
        if name.is_empty() {
            return Err(Error::invalid("the name of a service is empty"));
        }
        if self.services.iter().any(|service| service.name == name) {
            return Err(Error::invalid(format!(
                "there is a service “{name}” already"
            )));
        }
        self.services.push(Service {
            name: name.to_owned(),
            store,
            can_wait,
        });
        Ok(self.services.len() - 1)
    }

    /// Which service is meant when none is named; the first one unless this is called. It may be added
    /// later.
    pub fn set_default(&mut self, name: &str) {
        self.default = Some(name.to_owned());
    }

    /// Short names, in the order of adding.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.services.iter().map(|service| service.name.as_str())
    }

    /// Where a service stands in the list; `None` and `"default"` mean the default one. Full names are
    /// `synlock.` and the short one, or ixarlie's: `ixarlie_mutex.redis_factory.default`.
    ///
    /// # Errors
    /// `InvalidArgument`, naming the known ones.
    pub fn find(&self, name: Option<&str>) -> Result<usize> {
        let wanted = name.filter(|name| !name.is_empty());
        let default = self.default.as_deref();
        let found = match wanted {
            None => match default {
                Some(default) => self.place(default),
                None => (!self.services.is_empty()).then_some(0),
            },
            Some(name) => self.place(name).or_else(|| {
                let is_default = matches!(name, "default" | "ixarlie_mutex.default_factory");
                is_default.then(|| self.find(None).ok())?
            }),
        };
        found.ok_or_else(|| {
            let known: Vec<&str> = self.names().collect();
            Error::invalid(format!(
                "no service “{}” keeps locks: there are {}",
                wanted.or(default).unwrap_or("default"),
                if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                }
            ))
        })
    }

    fn place(&self, name: &str) -> Option<usize> {
        let at = |name: &str| {
            self.services
                .iter()
                .position(|service| service.name == name)
        };
        at(name).or_else(|| at(&short(name)?))
    }

    /// What the policy makes of the request: which lock, on which store, in which way. Asks nobody.
    ///
    /// # Errors
    /// `InvalidArgument` for a policy or request that does not fit (see [`Policy`]), an unknown service;
    /// `Unsupported` if the store cannot do what the mode needs.
    pub fn plan(&self, policy: &Policy, request: &Request<'_>) -> Result<Plan> {
        policy.check()?;
        let place = self.find(policy.service.as_deref())?;
        let service = &self.services[place];
        let name = Name::new(naming::name(self.dialect, policy, request)?)?;
        let can = service.store.capabilities();
        let refuse = |why: &str| {
            let (mode, service) = (policy.mode.word(), &service.name);
            Err(Error::unsupported(format!(
                "the mode `{mode}` needs a store that {why}, and “{service}” does not"
            ))
            .with_resource(name.as_bytes())
            .with_store(self.services[place].store.url()))
        };
        match policy.mode {
            GuardMode::Queue if !service.can_wait => return refuse("waits"),
            GuardMode::Check if !service.store.inspects() => {
                return refuse("tells who holds a lock");
            }
            GuardMode::Force if !can.break_lock => return refuse("breaks locks"),
            _ => {}
        }
        let label = policy
            .label
            .clone()
            .map_or_else(|| request.label(), naming::shorten);
        Ok(Plan(Arc::new(PlanInner {
            store: service.store.clone(),
            service: place,
            service_name: service.name.clone(),
            name,
            label: label.into(),
            policy: policy.clone(),
        })))
    }
}

/// A full name's short one.
fn short(name: &str) -> Option<String> {
    if let Some(short) = name.strip_prefix("synlock.") {
        return Some(short.to_owned());
    }
    let rest = name.strip_prefix("ixarlie_mutex.")?;
    let (kind, name) = rest.split_once('.')?;
    let kind = kind
        .strip_suffix("_factory")
        .or_else(|| kind.strip_suffix("_store"))?;
    Some(format!("{kind}.{name}"))
}

/// What is about to be asked of a store for a request.
#[derive(Clone, Debug)]
pub struct Plan(Arc<PlanInner>);

#[derive(Debug)]
struct PlanInner {
    store: Store,
    service: usize,
    service_name: String,
    name: Name,
    label: Arc<str>,
    policy: Policy,
}

impl Plan {
    /// The store.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// The service's place in the list.
    pub fn service(&self) -> usize {
        self.0.service
    }

    /// Its short name.
    pub fn service_name(&self) -> &str {
        &self.0.service_name
    }

    /// The lock's name.
    pub fn name(&self) -> &Name {
        &self.0.name
    }

    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.0.policy
    }

    pub(super) fn label(&self) -> &str {
        &self.0.label
    }

    /// How long the acquire waits.
    pub fn wait(&self) -> Wait {
        match self.policy().mode {
            GuardMode::Queue => Wait::For(self.policy().max_wait),
            _ => Wait::No,
        }
    }

    /// Options of the lock that the policy makes.
    pub fn options(&self) -> LockOptions {
        let (policy, store) = (self.policy(), self.store());
        let leases = store.capabilities().ttl || policy.strict;
        LockOptions {
            ttl: policy.ttl.filter(|_| leases).or(store.defaults().ttl),
            auto_release: policy.auto_release,
            label: Some(self.0.label.clone()),
            ask_who_broke: true,
            // Two requests are no one who asks twice.
            reentry: Reentry::Independent,
            ..store.defaults().clone()
        }
    }

    /// Asks, on the caller's thread.
    ///
    /// # Errors
    /// `Cancelled`, or trouble of the store; that the lock is taken is a refusal.
    pub fn enter(&self, cancel: Option<&Cancel>) -> Result<Entry> {
        let lock = self
            .store()
            .lock_with(self.name().as_bytes(), self.options())?;
        let mut entering = Entering::new(self.clone());
        let mut step = entering.begin()?;
        loop {
            let wait = match step {
                Step::Done(entry) => return Ok(entry),
                Step::Acquire(wait) => wait,
            };
            step = match lock.acquire(wait, cancel) {
                Ok(acquired) => return Ok(entering.granted().with(lock, acquired)),
                Err(error) if matches!(error.code(), Code::Busy | Code::Timeout) => {
                    entering.busy()?
                }
                Err(error) => return Err(error),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guards() -> Guards {
        let mut guards = Guards::new();
        for name in ["redis.default", "redis.queued", "plain"] {
            guards.add(name, Store::open("null:").unwrap()).unwrap();
        }
        guards
    }

    #[test]
    fn services_are_found_by_short_and_full_names() {
        let mut guards = guards();
        assert_eq!(guards.find(None).unwrap(), 0);
        assert_eq!(guards.find(Some("")).unwrap(), 0);
        assert_eq!(guards.find(Some("default")).unwrap(), 0);
        assert_eq!(guards.find(Some("redis.queued")).unwrap(), 1);
        assert_eq!(guards.find(Some("synlock.redis.queued")).unwrap(), 1);
        assert_eq!(guards.find(Some("synlock.plain")).unwrap(), 2);
        assert_eq!(
            guards
                .find(Some("ixarlie_mutex.redis_factory.queued"))
                .unwrap(),
            1
        );
        assert_eq!(
            guards
                .find(Some("ixarlie_mutex.redis_store.default"))
                .unwrap(),
            0
        );
        guards.set_default("redis.queued");
        assert_eq!(guards.find(None).unwrap(), 1);
        assert_eq!(
            guards.find(Some("ixarlie_mutex.default_factory")).unwrap(),
            1
        );
        guards.set_default("ixarlie_mutex.redis_factory.default");
        assert_eq!(guards.find(None).unwrap(), 0);
    }

    #[test]
    fn unknown_services_are_answered_with_the_known_ones() {
        let guards = guards();
        for name in [
            "redis",
            "redis.other",
            "ixarlie_mutex.redis.default",
            "ixarlie_mutex.x",
        ] {
            let error = guards.find(Some(name)).unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
            assert!(error.message().contains(name), "{error}");
            assert!(
                error
                    .message()
                    .contains("redis.default, redis.queued, plain"),
                "{error}"
            );
        }
        assert!(
            Guards::new()
                .find(None)
                .unwrap_err()
                .message()
                .contains("none")
        );
    }

    #[test]
    fn a_service_has_one_name_and_a_name_one_service() {
        let mut guards = guards();
        for name in ["", "plain"] {
            let added = guards.add(name, Store::open("null:").unwrap());
            assert_eq!(added.unwrap_err().code(), Code::InvalidArgument);
        }
    }

    #[test]
    fn queue_is_refused_where_nobody_can_wait() {
        let mut guards = Guards::new();
        guards
            .add_with("own", Store::open("null:").unwrap(), false)
            .unwrap();
        let policy = |mode| Policy {
            mode,
            name: Some("x".into()),
            ..Policy::default()
        };
        let request = Request::default();
        let refused = guards
            .plan(&policy(GuardMode::Queue), &request)
            .unwrap_err();
        assert_eq!(refused.code(), Code::Unsupported);
        assert!(refused.message().contains("“own”"), "{refused}");
        assert!(guards.plan(&policy(GuardMode::Block), &request).is_ok());
    }
}
