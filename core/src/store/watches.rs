//! Waiting for a lock to come free without taking it, where the server tells of it.

use crate::Result;
use crate::lease::BootTime;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::{Signal, Wake};
use crate::sync::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a watch that the server knows of goes without asking.
pub(super) const SAFETY_POLL: Duration = Duration::from_secs(5);

/// A watch, of which the server may know: then it tells the token once when the lock is free.
#[derive(Debug)]
pub(super) struct Watch {
    pub token: OwnerToken,
    pub bell: Arc<Signal>,
    /// How often it has asked.
    pub looks: u32,
    /// When to ask the server again.
    next_look: BootTime,
}

/// What a store does for those who watch.
pub(super) trait Watched {
    fn is_free(&self, name: &Name) -> Result<bool>;

    /// Asks, and registers the watch; when to ask next, `None` if nobody holds.
    fn look(&self, name: &Name, watch: &Watch) -> Result<Option<BootTime>>;

    /// Sleeps on the bell.
    fn wait(&self, bell: &Arc<Signal>, until: BootTime) -> Result<Wake>;

    /// Nobody waits by this token any more.
    fn leave(&self, token: OwnerToken);
}

/// Watches that ended without word, of each name as many as wait at once. Hosts wait in slices: the next one goes on
/// with what the last has registered, and need not ask.
#[derive(Debug, Default)]
pub(super) struct Watches(Mutex<HashMap<Vec<u8>, Vec<Watch>>>);

impl Watches {
    fn take(&self, name: &Name) -> Option<Watch> {
        self.0.lock().get_mut(name.as_bytes())?.pop()
    }

    /// Keeps a watch, and returns those that nobody went on with.
    fn keep(&self, name: &Name, watch: Watch) -> Vec<Watch> {
        let mut kept = self.0.lock();
        let is_old = |watch: &mut Watch| watch.next_look.has_passed();
        let old = kept
            .values_mut()
            .flat_map(|watches| watches.extract_if(.., is_old))
            .collect();
        kept.entry(name.as_bytes().to_vec())
            .or_default()
            .push(watch);
        kept.retain(|_, watches| !watches.is_empty());
        old
    }

    /// True as soon as nobody holds the name, false at `until`.
    pub fn wait_free(&self, store: &impl Watched, name: &Name, until: BootTime) -> Result<bool> {
        let mut watch = match self.take(name) {
            Some(watch) => watch,
            None => {
                if store.is_free(name)? {
                    return Ok(true);
                }
                if until.has_passed() {
                    return Ok(false);
                }
                Watch {
                    token: OwnerToken::draw()?,
                    bell: Arc::default(),
                    looks: 0,
                    next_look: BootTime::now(),
                }
            }
        };
        let free = wait(store, name, &mut watch, until);
        if matches!(free, Ok(false)) {
            for old in self.keep(name, watch) {
                store.leave(old.token);
            }
        } else {
            store.leave(watch.token);
        }
        free
    }
}

fn wait(store: &impl Watched, name: &Name, watch: &mut Watch, until: BootTime) -> Result<bool> {
    // Without time to listen, asking is the only way.
    let mut rung = watch.bell.take() || until.has_passed();
    loop {
        if rung || watch.next_look.has_passed() {
            match store.look(name, watch)? {
                None => return Ok(true),
                Some(next) => watch.next_look = next,
            }
            watch.looks += 1;
        }
        if until.has_passed() {
            return Ok(false);
        }
        let wake = store.wait(&watch.bell, until.min(watch.next_look))?;
        rung = wake == Wake::Signalled;
    }
}
