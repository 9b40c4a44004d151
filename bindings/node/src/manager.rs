//! The manager of semaphores.

use crate::hub::{Hub, Teller};
use crate::store::{NativeStore, hex, observer, or_null, quoted, warner};
use crate::switch::NativeSwitch;
use crate::{Outcome, millis};
use napi::bindgen_prelude::Uint8Array;
use napi_derive::napi;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use synlock_core::dispatch::{self, submit_with};
use synlock_core::manager::{Asked, Manager, ManagerOptions, Repeat, Ticket, extended};
use synlock_core::name::typed::Key;
use synlock_core::sync::Mutex;
use synlock_core::{BootTime, Code, Error, LAST_CALLS, Op, Result};

#[napi(object)]
pub struct NativeSettings {
    pub tries: f64,
    pub sleep: f64,
    pub jitter: f64,
    pub ttl: f64,
    pub prefix: Uint8Array,
    pub repeat: String,
    pub demo: bool,
}

impl NativeSettings {
    fn options(&self) -> Result<ManagerOptions> {
        let mut options = ManagerOptions::default();
        if !(1.0..=f64::from(u32::MAX)).contains(&self.tries) {
            return Err(Error::invalid("a manager tries once at least"));
        }
        options.tries = self.tries as u32;
        options.sleep = millis(self.sleep, "sleep")?;
        options.jitter = millis(self.jitter, "jitter")?;
        options.ttl = millis(self.ttl, "ttl")?;
        options.prefix = self.prefix.to_vec();
        options.repeat = match self.repeat.as_str() {
            "error" => Repeat::Error,
            "extend" => Repeat::Extend,
            _ => return Err(Error::invalid("repeat is one of error, extend")),
        };
        options.demo = self.demo;
        Ok(options)
    }
}

#[napi]
pub struct NativeManager {
    made: Result<Arc<Manager>>,
}

impl Drop for NativeManager {
    /// When the package's object was collected. What it gives back may take a server's time: not on the loop.
    fn drop(&mut self) {
        let Ok(manager) = &self.made else { return };
        if manager.list().is_empty() || manager.store().is_caller_thread_only() {
            return;
        }
        let (store, manager) = (manager.store().clone(), manager.clone());
        self.made = Err(Error::outcome(Code::InvalidHandle));
        // Without a service thread it is dropped here.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            dispatch::run(&store, move || drop(manager))
        }));
    }
}

#[napi]
impl NativeManager {
    #[napi(constructor, catch_unwind)]
    pub fn new(store: &NativeStore, settings: NativeSettings) -> Self {
        let make = || {
            Ok(Arc::new(Manager::new(
                store.opened()?,
                settings.options()?,
            )?))
        };
        NativeManager { made: make() }
    }

    /// Status 0, or why the manager could not be made.
    #[napi(catch_unwind)]
    pub fn made(&self) -> Outcome {
        Outcome::of(self.manager(), |_, _| {})
    }

    fn manager(&self) -> Result<&Arc<Manager>> {
        self.made
            .as_ref()
            .map_err(|error| Error::new(error.code(), error.message()))
    }

    #[napi(getter, catch_unwind)]
    pub fn url(&self) -> String {
        let manager = self.manager();
        manager.map_or_else(
            |_| String::new(),
            |manager| manager.store().url().to_owned(),
        )
    }

    /// The name of a key's lock, in hex.
    #[napi(catch_unwind)]
    pub fn name(&self, key: Uint8Array) -> Outcome {
        let name = || self.manager()?.name(&Key::from_json(&key)?);
        Outcome::of(name(), |name, outcome| {
            outcome.value = Some(hex(name.as_bytes()));
        })
    }

    /// Acquires; the hub is told under `id`. Lost, or not held: a lease could not be lengthened, so ask again.
    #[napi(catch_unwind)]
    pub fn acquire(
        &self,
        hub: &Hub,
        id: f64,
        key: Uint8Array,
        caller: String,
        ttl: Option<f64>,
        switch: &NativeSwitch,
    ) -> Outcome {
        let teller = hub.teller();
        let start = || {
            let manager = self.manager()?.clone();
            let key = Key::from_json(&key)?;
            let ttl = ttl.map(|ttl| millis(ttl, "ttl")).transpose()?;
            let ticket = match manager.ask(&key, Some(&caller), ttl)? {
                Asked::Extend(lock, ttl) => {
                    let kept = lock.clone();
                    return submit_with(&lock, Op::Refresh(ttl), None, move |result| {
                        let acquired = result.map(|_| extended(&kept));
                        teller.tell(id, Outcome::of(acquired, Outcome::acquired));
                    });
                }
                Asked::Ticket(ticket) => ticket,
            };
            let (lock, cancel) = (ticket.lock().clone(), switch.cancel());
            let op = Op::Acquire(ticket.wait());
            submit_with(&lock, op, Some(cancel), move |result| {
                let outcome = match result {
                    Ok(synlock_core::Outcome::Acquired(acquired)) => {
                        manager.keep(ticket);
                        Outcome::of(Ok(acquired), Outcome::acquired)
                    }
                    Ok(_) => Outcome::default(),
                    Err(error) => {
                        let name = ticket.lock().name().clone();
                        Outcome::refused(&manager.refused(&name, &ticket, error))
                    }
                };
                teller.tell(id, outcome);
            })
        };
        Outcome::of(start(), |(), _| {})
    }

    /// Releases; the hub is told under `id`.
    #[napi(catch_unwind)]
    pub fn release(&self, hub: &Hub, id: f64, key: Uint8Array, caller: String) -> Outcome {
        let teller = hub.teller();
        let start = || {
            let manager = self.manager()?.clone();
            match manager.take(&Key::from_json(&key)?, Some(&caller))? {
                Some(ticket) => give(manager, ticket, teller, id),
                None => {
                    teller.tell(id, Outcome::default());
                    Ok(())
                }
            }
        };
        Outcome::of(start(), |(), _| {})
    }

    /// As `release`, on this thread.
    #[napi(catch_unwind)]
    pub fn release_sync(&self, key: Uint8Array, caller: String) -> Outcome {
        let release = || {
            self.manager()?
                .release(&Key::from_json(&key)?, Some(&caller))
        };
        Outcome::of(release(), |released, outcome| {
            outcome.late = Some(released.late);
        })
    }

    /// As `acquire`, on this thread.
    #[napi(catch_unwind)]
    pub fn acquire_sync(&self, key: Uint8Array, caller: String, ttl: Option<f64>) -> Outcome {
        let acquire = || {
            let ttl = ttl.map(|ttl| millis(ttl, "ttl")).transpose()?;
            self.manager()?
                .acquire(&Key::from_json(&key)?, Some(&caller), ttl, None)
        };
        Outcome::of(acquire(), Outcome::acquired)
    }

    /// Lengthens a lease (`refresh`), or asks whether the key is held (`check`); the hub is told under `id`.
    #[napi(catch_unwind)]
    pub fn look(
        &self,
        hub: &Hub,
        id: f64,
        what: String,
        key: Uint8Array,
        ttl: Option<f64>,
    ) -> Outcome {
        let teller = hub.teller();
        let start = || {
            let manager = self.manager()?;
            let lock = manager.lock(&Key::from_json(&key)?)?;
            let ttl = ttl.map(|ttl| millis(ttl, "ttl")).transpose()?;
            let op = match what.as_str() {
                "refresh" => Op::Refresh(ttl.filter(|_| lock.ttl().is_some())),
                _ => Op::Check,
            };
            let kept = lock.clone();
            submit_with(&lock, op, None, move |result| {
                drop(kept);
                teller.tell(id, Outcome::of(result, |_, _| {}));
            })
        };
        Outcome::of(start(), |(), _| {})
    }

    /// JSON of the names that are held, in hex, and who acquired them.
    #[napi(catch_unwind)]
    pub fn held(&self) -> String {
        let list = self.manager().map(|manager| manager.list());
        let rows = list.unwrap_or_default().into_iter().map(|(name, caller)| {
            let caller = or_null(caller.as_deref().map(quoted));
            format!(r#"["{}",{caller}]"#, hex(name.as_bytes()))
        });
        format!("[{}]", rows.collect::<Vec<_>>().join(","))
    }

    /// Tells the hub under `id` of every event.
    #[napi(catch_unwind)]
    pub fn observe(&self, hub: &Hub, id: f64) {
        if let Ok(manager) = &self.made {
            manager.store().observe(observer(hub.teller(), id));
        }
    }

    /// Tells the hub under `id` of what nobody else would tell.
    #[napi(catch_unwind)]
    pub fn observe_warnings(&self, hub: &Hub, id: f64) {
        if let Ok(manager) = &self.made {
            manager.store().observe_warnings(warner(hub.teller(), id));
        }
    }

    #[napi(catch_unwind)]
    pub fn measure(&self, on: bool) {
        if let Ok(manager) = &self.made {
            manager.store().measure(on);
        }
    }

    /// Releases what is held, and tells; when the process ends, or the manager is done with.
    #[napi(catch_unwind)]
    pub fn end(&self) {
        if let Ok(manager) = &self.made {
            manager.end_with_process(BootTime::now().after(LAST_CALLS));
        }
    }
}

/// Releases what was taken out of the manager's hands; what cannot be released goes back.
fn give(manager: Arc<Manager>, ticket: Ticket, teller: Teller, id: f64) -> Result<()> {
    let lock = ticket.lock().clone();
    let place = Arc::new(Mutex::new(Some(ticket)));
    let (kept, keeper) = (place.clone(), manager.clone());
    let started = submit_with(&lock, Op::Release, None, move |result| {
        let is_used = matches!(&result, Err(error) if error.code() == Code::ConcurrentUse);
        if let Some(ticket) = kept.lock().take()
            && is_used
        {
            keeper.put_back(ticket);
        }
        let outcome = Outcome::of(result, |done, outcome| {
            if let synlock_core::Outcome::Released(released) = done {
                outcome.late = Some(released.late);
            }
        });
        teller.tell(id, outcome);
    });
    if started.is_err()
        && let Some(ticket) = place.lock().take()
    {
        manager.put_back(ticket);
    }
    started
}

/// The name that a key stands for, behind a prefix, in hex.
#[napi(catch_unwind)]
pub fn key_name(key: Uint8Array, prefix: Uint8Array) -> Outcome {
    let name = Key::from_json(&key).and_then(|key| key.render(&prefix));
    Outcome::of(name, |name, outcome| outcome.value = Some(hex(&name)))
}

/// The name that a template makes of values, which follow their names; in hex.
#[napi(catch_unwind)]
pub fn template_name(template: Uint8Array, values: Vec<Uint8Array>) -> Outcome {
    let pairs: Vec<(&[u8], &[u8])> = values
        .chunks_exact(2)
        .map(|pair| (&*pair[0], &*pair[1]))
        .collect();
    let name = synlock_core::name::template::render_with(&template, &pairs);
    Outcome::of(name, |name, outcome| outcome.value = Some(hex(&name)))
}

/// What was counted, as Prometheus reads it.
#[napi(catch_unwind)]
pub fn metrics() -> String {
    synlock_core::metrics::text()
}
