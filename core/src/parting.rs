//! What is told of a release whose answer nobody waited for. Its handle may have gone by then.

use crate::codes::Code;
use crate::event::{Event, EventKind, Facts, Observers};
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::shared::Shared;
use crate::store::{Answer, Backend, Told};
use crate::{Error, Result};
use std::sync::Arc;

/// The words of a loss that a release finds.
pub(crate) const LOST: &str = "the lock was lost before its release";

/// What is known of the hold. It keeps no store alive: the end of the last handle is when answers are read.
struct Parting {
    observers: Arc<Observers>,
    backend: Arc<dyn Backend>,
    name: Name,
    owner: OwnerToken,
    label: Option<Arc<str>>,
    caller: Option<Arc<str>>,
    key: Option<Arc<str>>,
}

impl Shared {
    /// Who is told what came of a release.
    pub(crate) fn parting(&self, owner: OwnerToken) -> Told {
        let parting = Parting {
            observers: self.store.observers(),
            backend: self.store.backend().clone(),
            name: self.name.clone(),
            owner,
            label: self.options.label.clone(),
            caller: self.caller(),
            key: self.options.key.clone(),
        };
        Box::new(move |answer| parting.tell(answer))
    }
}

impl Parting {
    /// No call returns it, so it is told to whoever hears warnings, too.
    fn tell(self, answer: Result<Answer>) {
        let lost = |error: Error| (EventKind::Lost, error);
        let (kind, error) = match answer {
            Ok(Answer::Done(_)) => return,
            Ok(Answer::NotOurs) => lost(Error::new(Code::Lost, LOST)),
            Err(error) if error.ends_hold() => lost(error),
            Err(error) => (EventKind::Warning, error),
        };
        if let Some(meters) = self.observers.meters() {
            let facts = Facts {
                code: error.code(),
                owner: self.owner,
                message: error.message(),
                ..Facts::default()
            };
            meters.note(kind, &facts);
        }
        let mut event = Event::new(kind, self.backend.url(), Some(&self.name));
        if self.key.is_some() {
            event.level = kind.level_of_manager();
        }
        event.code = error.code();
        event.owner = self.owner.shown();
        event.label = self.label;
        event.caller = self.caller;
        event.key = self.key;
        error.message().clone_into(&mut event.message);
        self.observers.tell(&event);
    }
}
