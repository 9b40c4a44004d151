//! Sessions.

use crate::hub::Hub;
use crate::store::NativeStore;
use crate::{Outcome, millis, wait};
use napi::bindgen_prelude::Uint8Array;
use napi_derive::napi;
use std::sync::Arc;
use synlock_core::session::{DEFAULT_TTL, Session};
use synlock_core::{Error, Result};

#[napi]
pub struct NativeSession {
    session: Result<Arc<Session>>,
}

#[napi]
impl NativeSession {
    #[napi(constructor, catch_unwind)]
    pub fn new(store: &NativeStore, id: Option<String>) -> Self {
        let session = store.opened().and_then(|store| match id {
            None => Ok(Session::new(store)),
            Some(id) => Session::persistent(store, &id),
        });
        NativeSession {
            session: session.map(Arc::new),
        }
    }

    /// Status 0, or why the session could not be made.
    #[napi(catch_unwind)]
    pub fn made(&self) -> Outcome {
        match &self.session {
            Ok(_) => Outcome::default(),
            Err(error) => Outcome::refused(error),
        }
    }

    fn own(&self) -> Result<&Arc<Session>> {
        self.session
            .as_ref()
            .map_err(|error| Error::new(error.code(), error.message()))
    }

    #[napi(catch_unwind)]
    pub fn id(&self) -> Outcome {
        let id = self.own().and_then(|session| session.id());
        Outcome::of(id, |id, outcome| outcome.value = Some(id.to_string()))
    }

    /// Asks on the service thread; the hub is told under `id`.
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
            let (session, teller, name) = (self.own()?.clone(), hub.teller(), name.to_vec());
            let store = session.store().clone();
            synlock_core::dispatch::run(&store, move || {
                let answer = ask(&session, &what, &name, text.as_deref(), number);
                teller.tell(
                    id,
                    Outcome::of(answer, |value, outcome| outcome.value = Some(value)),
                );
            })
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
            .own()
            .and_then(|session| ask(session, &what, &name, text.as_deref(), number));
        Outcome::of(answer, |value, outcome| outcome.value = Some(value))
    }

    /// At its end, and the environment's.
    #[napi(catch_unwind)]
    pub fn end(&self) {
        if let Ok(session) = &self.session
            && !session.is_persistent()
        {
            // What cannot be released ends with its lease, or the process.
            let _ = session.release_all(None);
        }
    }
}

fn ask(
    session: &Session,
    what: &str,
    name: &[u8],
    text: Option<&str>,
    number: Option<f64>,
) -> Result<String> {
    let ttl = || number.map_or(Ok(DEFAULT_TTL), |ms| millis(ms, "the ttl"));
    match what {
        "acquire" => Ok(session.acquire(name, ttl()?)?.is_held().to_string()),
        "renew" => session.renew(name, ttl()?).map(|held| held.to_string()),
        "mayBeAvailable" => session.may_be_available(name).map(|free| free.to_string()),
        "wait" => {
            let delay = wait(number.unwrap_or(-1.0))?;
            session.wait(name, delay).map(|held| held.to_string())
        }
        "release" => session.release(name).map(|held| held.to_string()),
        "releaseAll" => session.release_all(text).map(|count| count.to_string()),
        _ => Err(Error::invalid("there is no such question")),
    }
}
