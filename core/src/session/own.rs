//! Sessions whose locks end with them: each hold is a lock handle, with a token of its own where rows
//! have no room for the session's id.

use super::{Taken, id, view};
use crate::codes::Code;
use crate::fork::{self, PerProcess};
use crate::lock::Lock;
use crate::mode::Mode;
use crate::options::{LockOptions, Reentry};
use crate::registry::Store;
use crate::store::Answer;
use crate::sync::Mutex;
use crate::{Error, Result};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

type Holds = HashMap<Vec<u8>, Lock>;

#[derive(Debug)]
pub(super) struct Own {
    store: Store,
    /// Generation of the process in which something is held or asked for, 0 if nothing is.
    owned: AtomicU64,
    state: PerProcess<State>,
}

#[derive(Debug)]
struct State {
    id: Arc<str>,
    store: Store,
    /// Rows bear the id: what a lost reply left there can be found by it.
    is_in_rows: bool,
    /// An exchange failed, and may have left a row that is not among the holds.
    is_in_doubt: AtomicBool,
    holds: Mutex<Holds>,
}

impl State {
    fn new(store: &Store) -> Result<Self> {
        let id: Arc<str> = id::draw()?.into();
        let (backend, is_in_rows) = view(store, &id);
        Ok(State {
            id,
            store: store.over_view(backend),
            is_in_rows,
            is_in_doubt: AtomicBool::new(false),
            holds: Mutex::default(),
        })
    }

    fn lock(&self, name: &[u8], ttl: Duration) -> Result<Lock> {
        let defaults = self.store.defaults();
        let ttl = (self.has_leases() || defaults.strict).then_some(ttl);
        self.store.lock_with(
            name,
            LockOptions {
                mode: Mode::Exclusive,
                ttl,
                renew: ttl.is_some().then_some(false),
                auto_release: true,
                reentry: Reentry::Independent,
                lock_delay: Duration::ZERO,
                label: Some(self.id.clone()),
                ..defaults.clone()
            },
        )
    }

    fn has_leases(&self) -> bool {
        self.store.capabilities().ttl
    }

    /// Renews what is held; a hold that was lost is forgotten.
    fn renew(&self, holds: &mut Holds, name: &[u8], ttl: Duration) -> Result<Option<bool>> {
        let Some(lock) = holds.get(name) else {
            return Ok(None);
        };
        match lock.refresh(self.has_leases().then_some(ttl)) {
            Ok(()) => Ok(Some(true)),
            Err(error) if is_over(&error) => {
                holds.remove(name);
                Ok(Some(false))
            }
            Err(error) => Err(error),
        }
    }

    fn acquire(&self, holds: &mut Holds, name: &[u8], ttl: Duration) -> Result<Taken> {
        match self.renew(holds, name, ttl)? {
            Some(true) => return Ok(Taken::Renewed),
            Some(false) => return Ok(Taken::Lost),
            None => {}
        }
        let lock = self.lock(name, ttl)?;
        // The row bears our id already: taking it would not fail.
        if self.has_twin(holds, name) && self.store.backend().is_held(&lock.shared().new_claim())? {
            return Ok(Taken::Busy);
        }
        if lock.try_acquire()?.is_none() {
            return Ok(Taken::Busy);
        }
        holds.insert(name.to_vec(), lock);
        Ok(Taken::New)
    }

    /// Whether a name is held that may be in the same row: columns of Drupal's take `A` for `a` and a blank at
    /// the end for none, and PostgreSQL's end before a NUL.
    fn has_twin(&self, holds: &Holds, name: &[u8]) -> bool {
        fn folded(name: &[u8]) -> Vec<u8> {
            let end = name.iter().position(|byte| *byte == 0);
            let name = &name[..end.unwrap_or(name.len())];
            name.trim_ascii_end().to_ascii_lowercase()
        }
        self.is_in_rows && {
            let name = folded(name);
            holds.keys().any(|held| folded(held) == name)
        }
    }

    fn release(&self, holds: &mut Holds, name: &[u8]) -> Result<bool> {
        if let Some(lock) = holds.remove(name) {
            return released(&lock);
        }
        if !self.is_in_rows || self.has_twin(holds, name) {
            return Ok(false);
        }
        // An exchange whose reply was lost may have left a row.
        let claim = self.lock(name, super::DEFAULT_TTL)?.shared().new_claim();
        let answer = self.store.backend().release(&claim)?;
        Ok(matches!(answer, Answer::Done(_)))
    }

    fn release_all(&self, holds: &mut Holds) -> Result<u64> {
        let (mut count, mut failed) = (0, None);
        for (_, lock) in holds.drain() {
            match released(&lock) {
                Ok(true) => count += 1,
                Ok(false) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if self.is_in_rows && (failed.is_some() || self.is_in_doubt.load(Ordering::Acquire)) {
            count += self.store.backend().release_session(None)?;
            self.is_in_doubt.store(false, Ordering::Release);
            failed = None;
        }
        failed.map_or(Ok(count), Err)
    }
}

fn is_over(error: &Error) -> bool {
    matches!(error.code(), Code::Lost | Code::NotHeld)
}

fn released(lock: &Lock) -> Result<bool> {
    match lock.release() {
        Ok(_) => Ok(true),
        Err(error) if is_over(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

impl Own {
    pub fn new(store: &Store) -> Self {
        Own {
            store: store.clone(),
            owned: AtomicU64::new(0),
            state: PerProcess::new(),
        }
    }

    /// Whether the parent of this process held something, or was about to.
    pub fn is_forked(&self) -> bool {
        let owned = self.owned.load(Ordering::Acquire);
        owned != 0 && owned != fork::generation()
    }

    fn state(&self) -> Result<&State> {
        if self.is_forked() {
            return Err(Error::outcome(Code::ForkedHandle));
        }
        self.state.get_or_try_init(|| State::new(&self.store))
    }

    /// Does something to the holds; a fork meanwhile finds the session in use.
    fn with<T>(&self, act: impl FnOnce(&State, &mut Holds) -> Result<T>) -> Result<T> {
        let state = self.state()?;
        let mut holds = state.holds.lock();
        self.owned.store(fork::generation(), Ordering::Release);
        let done = act(state, &mut holds);
        if done.is_err() {
            state.is_in_doubt.store(true, Ordering::Release);
        }
        if holds.is_empty() {
            self.owned.store(0, Ordering::Release);
        }
        done
    }

    pub fn id(&self) -> Result<Arc<str>> {
        self.state().map(|state| state.id.clone())
    }

    pub fn acquire(&self, name: &[u8], ttl: Duration) -> Result<Taken> {
        self.with(|state, holds| state.acquire(holds, name, ttl))
    }

    pub fn renew(&self, name: &[u8], ttl: Duration) -> Result<bool> {
        self.with(|state, holds| Ok(state.renew(holds, name, ttl)?.unwrap_or(false)))
    }

    pub fn release(&self, name: &[u8]) -> Result<bool> {
        self.with(|state, holds| state.release(holds, name))
    }

    pub fn release_all(&self) -> Result<u64> {
        // One that was never used has no id, and needs none now.
        if self.state.get().is_none() && !self.is_forked() {
            return Ok(0);
        }
        self.with(State::release_all)
    }
}
