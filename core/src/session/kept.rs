//! Persistent sessions: their locks belong to an id, and outlive the process that took them.
//!
//! A lock is taken with a token of its own, so that only one of several who share an id gets it, and is
//! handed to the id at once: the token that the id and the name give, or the id itself where rows have room
//! for it. A later hold bears the same token, perhaps another process's: nothing is released in the background, and
//! an answer counts only while the lease that it is about surely lasts, by this process's own clock.

use super::{Taken, id, view};
use crate::codes::Code;
use crate::event::{Event, EventKind};
use crate::fork::PerProcess;
use crate::lease::{BootTime, drift_allowance};
use crate::name::Name;
use crate::options::check_ttl;
use crate::owner::OwnerToken;
use crate::registry::Store;
use crate::service;
use crate::store::{Answer, Attempt, Backend, Claim, Grant, Inspection};
use crate::sync::Mutex;
use crate::{Error, Result};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many locks are asked for at a time when all of an id are looked for.
const PAGE: usize = 1000;

#[derive(Debug)]
pub(super) struct Kept {
    store: Store,
    id: Arc<str>,
    /// The store as the id has it.
    own: Arc<dyn Backend>,
    is_in_rows: bool,
    /// What this object took.
    held: PerProcess<Mutex<Held>>,
    /// How often it did.
    takes: AtomicU64,
}

type Held = HashMap<Vec<u8>, Hold>;

/// A hold that this object took.
#[derive(Clone, Copy, Debug)]
struct Hold {
    /// Which of those that it took.
    number: u64,
    /// Until when it is surely its own.
    until: BootTime,
    /// It was lost: until somebody asks for it anew, nothing under this name is this object's.
    lost: bool,
}

impl Hold {
    fn has_passed(self) -> bool {
        self.lost || self.until.has_passed()
    }
}

/// The token of an id's hold.
fn token(id: &str, name: &[u8]) -> OwnerToken {
    let hash = Sha256::new()
        .chain_update(b"synlock session\0")
        .chain_update(id)
        .chain_update(b"\0")
        .chain_update(name)
        .finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    OwnerToken::from_bytes(bytes)
}

/// Until when a lease surely lasts, wherever the clock is by which it ends.
fn surely(lease: BootTime, ttl: Duration) -> BootTime {
    lease.before(drift_allowance(ttl))
}

fn claim(id: &Arc<str>, name: &Name, token: OwnerToken, ttl: Duration) -> Claim {
    Claim {
        recurs: true,
        label: Some(id.clone()),
        ..Claim::exclusive(name.clone(), token, ttl)
    }
}

impl Kept {
    pub fn new(store: &Store, id: &str) -> Result<Self> {
        id::check(id)?;
        let can = store.capabilities();
        if !can.ttl || !can.export || can.frees_on_death {
            return Err(Error::unsupported(
                "this store's locks end with the process that took them: none outlive it",
            ));
        }
        let (own, is_in_rows) = view(store, id);
        Ok(Kept {
            store: store.clone(),
            id: id.into(),
            own,
            is_in_rows,
            held: PerProcess::new(),
            takes: AtomicU64::new(0),
        })
    }

    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    fn held(&self) -> &Mutex<Held> {
        self.held.get_or_init(Mutex::default)
    }

    fn claim(&self, name: &[u8], ttl: Duration) -> Result<Claim> {
        check_ttl(ttl)?;
        let name = Name::new(name)?;
        let base = self.store.backend();
        base.check_name(&name)?;
        base.check_ttl(ttl)?;
        Ok(claim(
            &self.id,
            &name,
            token(&self.id, name.as_bytes()),
            ttl,
        ))
    }

    fn tell(&self, kind: EventKind, name: &Name, message: &str) {
        if self.store.is_observed() {
            let mut event = Event::new(kind, self.store.url(), Some(name));
            event.label = Some(self.id.clone());
            message.clone_into(&mut event.message);
            self.store.tell(&event);
        }
    }

    pub fn acquire(&self, name: &[u8], ttl: Duration) -> Result<Taken> {
        let own = self.claim(name, ttl)?;
        // Not under the mutex: two threads that share the object compete as two processes do.
        let is_held = |held: &Held| held.get(name).is_some_and(|own| !own.lost);
        if is_held(&self.held().lock()) {
            return Ok(match self.renew(name, ttl)? {
                true => Taken::Renewed,
                false => Taken::Lost,
            });
        }
        let first = Claim {
            token: OwnerToken::draw()?,
            recurs: false,
            ..own.clone()
        };
        let base = self.store.backend();
        let taken = match base.attempt(&first, None) {
            Ok(Attempt::Granted(grant)) => grant,
            Ok(Attempt::Busy(_)) => return Ok(Taken::Busy),
            Err(error) => {
                if error.code() == Code::Uncertain {
                    service::burn(self.store.clone(), first);
                }
                return Err(error);
            }
        };
        base.settle(&first);
        let until =
            |grant: &Grant| surely(grant.lease.unwrap_or_else(|| first.asked.after(ttl)), ttl);
        let end = until(&taken);
        let handed = Claim {
            recurs: true,
            deadline: Some(end),
            ..first.clone()
        };
        let adopted = self.own.adopt(&handed, own.token);
        match adopted {
            Ok(Some(grant)) if !until(&grant).has_passed() => {
                let taken = Hold {
                    number: self.takes.fetch_add(1, Ordering::Relaxed),
                    until: until(&grant),
                    lost: false,
                };
                self.held().lock().insert(name.to_vec(), taken);
                self.tell(EventKind::Acquired, &own.name, "acquired");
                Ok(Taken::New)
            }
            // It ended in between.
            Ok(_) => {
                service::burn(self.store.clone(), first);
                Ok(Taken::Busy)
            }
            Err(error) => {
                if error.code() == Code::Uncertain {
                    // Either of the two keeps everybody out until then. If this fails too, the lease ends it.
                    let own = Claim {
                        deadline: Some(end),
                        ..own
                    };
                    let _ = self.own.release(&own);
                }
                service::burn(self.store.clone(), first);
                Err(error)
            }
        }
    }

    pub fn renew(&self, name: &[u8], ttl: Duration) -> Result<bool> {
        let mut claim = self.claim(name, ttl)?;
        let known = self.held().lock().get(name).copied();
        if known.is_some_and(Hold::has_passed) {
            // Whoever shares the id may have taken it since: that hold is not this object's.
            self.lose(name, known);
            return Ok(false);
        }
        claim.deadline = known.map(|own| own.until);
        let answer = self.own.extend(&claim, ttl)?;
        // Nor is one that has begun before the answer was made.
        let is_late = known.is_some_and(Hold::has_passed);
        match answer {
            Answer::Done(lease) if !is_late => {
                let lease = lease.unwrap_or_else(|| claim.asked.after(ttl));
                self.prolong(name, known, surely(lease, ttl));
                self.tell(EventKind::Refreshed, &claim.name, "refreshed");
                Ok(true)
            }
            _ => {
                self.lose(name, known);
                Ok(false)
            }
        }
    }

    /// Does something to a hold of this object's, if another thread has not ended it, and perhaps begun another one,
    /// meanwhile.
    fn change(&self, name: &[u8], known: Option<Hold>, change: impl FnOnce(&mut Hold)) {
        if let Some(known) = known
            && let Some(own) = self.held().lock().get_mut(name)
            && own.number == known.number
        {
            change(own);
        }
    }

    /// It lasts until then at least: a renewal never shortens.
    fn prolong(&self, name: &[u8], known: Option<Hold>, until: BootTime) {
        self.change(name, known, |own| own.until = own.until.max(until));
    }

    fn lose(&self, name: &[u8], known: Option<Hold>) {
        self.change(name, known, |own| own.lost = true);
    }

    pub fn release(&self, name: &[u8]) -> Result<bool> {
        let known = self.held().lock().remove(name);
        self.release_known(name, known)
    }

    /// Releases what this object took, or what anybody took under the id.
    fn release_known(&self, name: &[u8], known: Option<Hold>) -> Result<bool> {
        if known.is_some_and(Hold::has_passed) {
            // Whoever shares the id may have taken it since.
            return Ok(false);
        }
        let claim = self.claim(name, super::DEFAULT_TTL)?;
        let claim = Claim {
            deadline: known.map(|own| own.until),
            ..claim
        };
        match self.own.release(&claim) {
            Ok(Answer::Done(_)) => {
                self.tell(EventKind::Released, &claim.name, "released");
                Ok(true)
            }
            Ok(Answer::NotOurs) => Ok(false),
            Err(error) => {
                // Once it may have been released, it may be another's who has the same token.
                if error.code() != Code::Uncertain
                    && let Some(own) = known
                {
                    self.held().lock().entry(name.to_vec()).or_insert(own);
                }
                Err(error)
            }
        }
    }

    /// Releases what this object took: others share the id, and have done nothing with this one.
    pub fn release_own(&self) -> Result<u64> {
        let held = std::mem::take(&mut *self.held().lock());
        let mut all = Tally::default();
        for (name, own) in held {
            all.count(self.release_known(&name, Some(own)));
        }
        all.done()
    }

    /// Releases whatever anybody took under the id, where that can be found.
    pub fn release_all(&self) -> Result<u64> {
        let mut all = Tally::default();
        all.add(self.release_own());
        if self.is_in_rows || self.store.capabilities().list {
            all.add(release_all_of(&self.store, &self.id));
        }
        all.done()
    }
}

/// What became of several releases, all of which are tried: how many there were, or the first error.
#[derive(Default)]
struct Tally {
    released: u64,
    failed: Option<Error>,
}

impl Tally {
    fn add(&mut self, released: Result<u64>) {
        match released {
            Ok(count) => self.released += count,
            Err(error) => self.failed = self.failed.take().or(Some(error)),
        }
    }

    fn count(&mut self, released: Result<bool>) {
        self.add(released.map(u64::from));
    }

    fn done(self) -> Result<u64> {
        self.failed.map_or(Ok(self.released), Err)
    }
}

/// Releases all locks of an id, whoever took them.
pub(super) fn release_all_of(store: &Store, id: &str) -> Result<u64> {
    id::check(id)?;
    let base = store.backend();
    if let Some(own) = base.as_session(id) {
        return own.release_session(None);
    }
    let id: Arc<str> = id.into();
    let (mut all, mut cursor, mut others) = (Tally::default(), None, false);
    loop {
        // Behind a page that does not come there is nothing to try.
        let page = match base.list(b"", cursor.as_deref(), PAGE, None) {
            Ok(page) => page,
            Err(error) => {
                all.add(Err(error));
                break;
            }
        };
        for found in page.locks {
            if is_of(&found, &id) {
                all.count(release_found(store, &id, &found.name, &mut others));
            }
        }
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    if others {
        all.add(Err(Error::unsupported(
            "that session is not persistent: its own process alone can release its locks",
        )));
    }
    all.done()
}

fn is_of(lock: &Inspection, id: &str) -> bool {
    let mut holders = lock.holders.iter();
    holders.any(|holder| holder.label.as_deref() == Some(id))
}

/// Releases a listed lock of an id; `others` if it still bears the id afterwards.
fn release_found(store: &Store, id: &Arc<str>, name: &[u8], others: &mut bool) -> Result<bool> {
    let (base, name) = (store.backend(), Name::new(name)?);
    let claim = claim(id, &name, token(id, name.as_bytes()), super::DEFAULT_TTL);
    match base.release(&claim)? {
        Answer::Done(_) => Ok(true),
        Answer::NotOurs => {
            let now = base.inspect(&name, None)?;
            *others |= is_of(&now, id);
            Ok(false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of other processes, releases and languages: `core/FORMATS.md`.
    #[test]
    fn a_token_follows_from_the_id_and_the_name() {
        let hex = token("import 17", b"import").to_hex();
        assert_eq!(hex, "cc17ae3e9f7312517efc9e7f246a0268");
        assert_ne!(token("import 1", b"7import"), token("import 17", b"import"));
    }
}
