//! Stores.

use crate::custom::{NativeAsk, NativeReply, NativeTraits, Object};
use crate::hub::{Hub, Teller};
use crate::lock::{NativeLock, NativeOptions};
use crate::switch::NativeSwitch;
use crate::{Outcome, wait};
use napi::Env;
use napi::bindgen_prelude::{Function, Uint8Array};
use napi_derive::napi;
use std::fmt::Write;
use std::sync::{Arc, OnceLock};
use synlock_core::dispatch;
use synlock_core::event::Observer;
use synlock_core::store::{Holder, Inspection};
use synlock_core::{Error, Lock, Result, Store};

#[napi]
pub struct NativeStore {
    store: Result<Store>,
}

fn pairs(options: &[Vec<String>]) -> Vec<(&str, &str)> {
    options
        .iter()
        .filter_map(|pair| Some((pair.first()?.as_str(), pair.get(1)?.as_str())))
        .collect()
}

/// A JSON string.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

pub fn or_null<T: std::fmt::Display>(value: Option<T>) -> String {
    value.map_or_else(|| "null".to_owned(), |value| value.to_string())
}

pub fn describe_holders(holders: &[Holder]) -> String {
    let rows = holders.iter().map(|holder| {
        format!(
            r#"{{"owner":{},"mode":"{}","permits":{},"host":{},"pid":{},"label":{},"remaining":{},"held":{},"fencingToken":{}}}"#,
            quoted(&holder.owner),
            holder.mode,
            holder.permits,
            or_null(holder.host.as_deref().map(quoted)),
            or_null(holder.pid),
            or_null(holder.label.as_deref().map(quoted)),
            or_null(holder.remaining.map(|left| left.as_secs_f64() * 1000.0)),
            or_null(holder.held.map(|held| held.as_secs_f64() * 1000.0)),
            or_null(holder.fence.map(|fence| format!("\"{fence}\""))),
        )
    });
    format!("[{}]", rows.collect::<Vec<_>>().join(","))
}

fn describe(found: &Inspection) -> String {
    format!(
        r#"{{"name":"{}","waiters":{},"holders":{}}}"#,
        hex(&found.name),
        or_null(found.waiters),
        describe_holders(&found.holders),
    )
}

#[napi]
impl NativeStore {
    #[napi(constructor, catch_unwind)]
    pub fn new(url: String, options: Vec<Vec<String>>) -> Self {
        NativeStore {
            store: Store::open_with(&url, &pairs(&options)),
        }
    }

    /// A store that `answer` answers for, on this thread.
    #[napi(factory, catch_unwind)]
    pub fn custom(
        env: Env,
        name: String,
        answer: Function<'_, NativeAsk, NativeReply>,
        can: NativeTraits,
        options: Vec<Vec<String>>,
    ) -> napi::Result<Self> {
        let object = Object::new(env, &answer)?;
        let make = || Store::custom(&name, can.traits()?, Box::new(object), &pairs(&options));
        Ok(NativeStore { store: make() })
    }

    /// Status 0, or why the store could not be opened.
    #[napi(catch_unwind)]
    pub fn made(&self) -> Outcome {
        match &self.store {
            Ok(_) => Outcome::default(),
            Err(error) => Outcome::refused(error),
        }
    }

    pub fn opened(&self) -> Result<&Store> {
        self.store
            .as_ref()
            .map_err(|error| Error::new(error.code(), error.message()))
    }

    #[napi(getter, catch_unwind)]
    pub fn url(&self) -> String {
        self.store
            .as_ref()
            .map(|store| store.url().to_owned())
            .unwrap_or_default()
    }

    /// Whether locks of this store may be taken and given back by number.
    #[napi(getter, catch_unwind)]
    pub fn answers_at_once(&self) -> bool {
        let store = self.store.as_ref();
        store.is_ok_and(|store| store.backend().answers_at_once())
    }

    #[napi(getter, catch_unwind)]
    pub fn fingerprint(&self) -> String {
        self.store
            .as_ref()
            .map(Store::fingerprint)
            .unwrap_or_default()
    }

    #[napi(catch_unwind)]
    pub fn capabilities(&self) -> String {
        let Ok(store) = &self.store else {
            return "{}".to_owned();
        };
        let can = store.capabilities();
        format!(
            r#"{{"store":"{}","shared":{},"promote":{},"permits":{},"ttl":{},"freesOnDeath":{},"fence":"{}","wakes":{},"fair":{},"export":{},"list":{},"breakLock":{},"survivesRestart":{},"clock":"{}","scope":"{}"}}"#,
            can.store,
            can.shared,
            can.promote,
            can.permits,
            can.ttl,
            can.frees_on_death,
            can.fence.class(),
            can.wakes,
            can.fair,
            can.export,
            can.list,
            can.break_lock,
            can.survives_restart,
            can.clock,
            can.scope.name(),
        )
    }

    #[napi(catch_unwind)]
    pub fn lock(&self, name: Uint8Array, options: NativeOptions) -> NativeLock {
        NativeLock::new(
            self.opened()
                .and_then(|store| store.lock_with(&name, options.over(store.defaults())?)),
        )
    }

    /// Adopts on the service thread; the hub is told under `id` once the lock is there.
    #[napi(catch_unwind)]
    pub fn adopt(&self, hub: &Hub, id: f64, text: String, options: NativeOptions) -> NativeLock {
        let made = Arc::new(OnceLock::new());
        let place = made.clone();
        let start = || {
            let (store, teller) = (self.opened()?.clone(), hub.teller());
            let options = options.over(store.defaults())?;
            let asked = store.clone();
            dispatch::run(&asked, move || {
                let adopted = store.adopt(&text, options);
                let name = |lock: &Lock| Some(hex(lock.name().as_bytes()));
                let outcome = match &adopted {
                    Ok(lock) => Outcome {
                        value: name(lock),
                        ..Outcome::default()
                    },
                    Err(error) => Outcome::refused(error),
                };
                // Nobody else fills it.
                let _ = place.set(adopted);
                teller.tell(id, outcome);
            })
        };
        match start() {
            Ok(()) => NativeLock::later(made),
            Err(error) => NativeLock::new(Err(error)),
        }
    }

    /// Asks the store something on the service thread; the hub is told under `id`.
    #[napi(catch_unwind)]
    pub fn ask(
        &self,
        hub: &Hub,
        id: f64,
        what: String,
        name: Uint8Array,
        text: Option<String>,
        number: Option<f64>,
    ) -> Outcome {
        let start = || {
            let (store, teller, name) = (self.opened()?.clone(), hub.teller(), name.to_vec());
            let asked = store.clone();
            dispatch::run(&asked, move || {
                let answer = ask(&store, &what, &name, text.as_deref(), number);
                teller.tell(
                    id,
                    Outcome::of(answer, |value, outcome| outcome.value = Some(value)),
                );
            })
        };
        Outcome::of(start(), |(), _| {})
    }

    /// Waits until nobody holds the lock, for `ms` at most, without taking it; the hub is told under `id`.
    #[napi(catch_unwind)]
    pub fn wait_free(
        &self,
        hub: &Hub,
        id: f64,
        name: Uint8Array,
        ms: f64,
        switch: &NativeSwitch,
    ) -> Outcome {
        let start = || {
            let (cancel, teller) = (switch.cancel(), hub.teller());
            dispatch::wait_free(
                self.opened()?,
                &name,
                wait(ms)?,
                Some(cancel),
                move |free| {
                    let told =
                        Outcome::of(free, |free, outcome| outcome.value = Some(free.to_string()));
                    teller.tell(id, told);
                },
            )
        };
        Outcome::of(start(), |(), _| {})
    }

    /// As `ask`, on this thread.
    #[napi(catch_unwind)]
    pub fn ask_sync(
        &self,
        what: String,
        name: Uint8Array,
        text: Option<String>,
        number: Option<f64>,
    ) -> Outcome {
        let answer = self
            .opened()
            .and_then(|store| ask(store, &what, &name, text.as_deref(), number));
        Outcome::of(answer, |value, outcome| outcome.value = Some(value))
    }

    /// Tells the hub under `id` of every event; returns the observer's number.
    #[napi(catch_unwind)]
    pub fn observe(&self, hub: &Hub, id: f64) -> f64 {
        let Ok(store) = &self.store else { return 0.0 };
        let observer = store.observe(observer(hub.teller(), id));
        observer as f64
    }

    /// Tells the hub under `id` of what nobody else would tell.
    #[napi(catch_unwind)]
    pub fn observe_warnings(&self, hub: &Hub, id: f64) {
        let Ok(store) = &self.store else { return };
        store.observe_warnings(warner(hub.teller(), id));
    }

    /// Counts what happens to the locks, or stops it.
    #[napi(catch_unwind)]
    pub fn measure(&self, on: bool) {
        if let Ok(store) = &self.store {
            store.measure(on);
        }
    }

    #[napi(catch_unwind)]
    pub fn unobserve(&self, observer: f64) {
        if let Ok(store) = &self.store {
            store.unobserve(observer as u64);
        }
    }
}

/// Tells the hub under `id` of every event, as JSON.
pub fn observer(teller: Teller, id: f64) -> Observer {
    Arc::new(move |event| {
        let text = format!(
            r#"{{"kind":"{}","level":"{}","status":{},"pid":{},"store":{},"name":"{}","owner":{},"label":{},"caller":{},"key":{},"operation":"{}","waited":{},"held":{},"attempts":{},"message":{},"line":{}}}"#,
            event.kind.name(),
            event.level,
            event.code.number(),
            event.pid,
            quoted(&event.store),
            hex(&event.resource),
            quoted(&event.owner),
            or_null(event.label.as_deref().map(quoted)),
            or_null(event.caller.as_deref().map(quoted)),
            or_null(event.key.as_deref().map(quoted)),
            event.operation,
            event.waited.as_secs_f64() * 1000.0,
            event.held.as_secs_f64() * 1000.0,
            event.attempts,
            quoted(&event.message),
            quoted(&event.line()),
        );
        let outcome = Outcome {
            value: Some(text),
            ..Outcome::default()
        };
        teller.tell(id, outcome);
    })
}

/// Tells the hub under `id` of an event, in words.
pub fn warner(teller: Teller, id: f64) -> Observer {
    Arc::new(move |event| {
        let text = format!(
            "synlock: {} \"{}\" on {}: {}",
            event.kind.name(),
            String::from_utf8_lossy(&event.resource),
            event.store,
            event.message,
        );
        let outcome = Outcome {
            status: event.code.number(),
            message: Some(text),
            ..Outcome::default()
        };
        teller.tell(id, outcome);
    })
}

fn ask(
    store: &Store,
    what: &str,
    name: &[u8],
    text: Option<&str>,
    number: Option<f64>,
) -> Result<String> {
    match what {
        "ping" => store
            .ping(wait(number.unwrap_or(-1.0))?)
            .map(|()| "true".to_owned()),
        "isLocked" => store.is_locked(name).map(|held| held.to_string()),
        "break" => store.break_lock(name).map(|broken| broken.to_string()),
        "check" => {
            let texts = store.check()?.texts;
            let words: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
            Ok(format!("[{}]", words.join(",")))
        }
        "createTable" => store
            .create_table(wait(number.unwrap_or(-1.0))?)
            .map(|()| "true".to_owned()),
        "ddl" => store.ddl(text).map(|text| quoted(&text)),
        "inspect" => store.inspect(name).map(|found| describe(&found)),
        "list" => {
            let page = store.list(name, text, number.unwrap_or(1000.0) as usize)?;
            let locks = page
                .locks
                .iter()
                .map(describe)
                .collect::<Vec<_>>()
                .join(",");
            Ok(format!(
                r#"{{"locks":[{locks}],"cursor":{}}}"#,
                or_null(page.cursor.as_deref().map(quoted))
            ))
        }
        _ => Err(Error::invalid("there is no such question")),
    }
}
