//! The names of one space, each with its slot.
//!
//! A name stands in the map while somebody holds it, waits for it, or has a handle that has used it: what a
//! handle has found once it keeps in its seat, so that its later verbs neither hash nor look up.

use super::slot::Slot;
use crate::hash::HashGiven;
use crate::lease::BootTime;
use crate::name::Name;
use crate::signal::Signal;
use crate::store::{Claim, Inspection};
use crate::sync::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) const SHARDS: usize = 64;

/// A name and its hash, which is made once for shard and map.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    hash: u64,
    name: Name,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// A name in the map.
#[derive(Debug, Default)]
struct Entry {
    /// Those that have found it and not yet left it.
    users: usize,
    slot: Arc<Mutex<Slot>>,
}

type Shard = HashMap<Key, Entry, HashGiven>;

#[derive(Debug)]
pub(super) struct Space {
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
    fences: AtomicU64,
}

/// A name that was found; a handle's seat keeps it.
struct Found {
    slot: Arc<Mutex<Slot>>,
    key: Key,
    space: Arc<Space>,
}

/// What a slot needs while it is worked on.
pub(super) struct Work<'a> {
    asked: Option<BootTime>,
    fences: &'a AtomicU64,
    /// To be rung when the slot is unlocked.
    pub(super) bells: Vec<Arc<Signal>>,
}

impl Space {
    pub(super) fn new() -> Self {
        Space {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            fences: AtomicU64::new(0),
        }
    }

    /// Works on the slot of a claim's name.
    #[inline]
    pub(super) fn with_claim<T>(
        self: &Arc<Self>,
        claim: &Claim,
        asked: Option<BootTime>,
        work: impl FnOnce(&mut Slot, &mut Work<'_>) -> T,
    ) -> T {
        let find = || self.find(&claim.name);
        let work = |found: &mut Found| self.work_on(&found.slot, asked, work);
        claim.seat.with_or_put(find, work)
    }

    /// Works on the slot of a name.
    pub(super) fn with<T>(
        self: &Arc<Self>,
        name: &Name,
        work: impl FnOnce(&mut Slot, &mut Work<'_>) -> T,
    ) -> T {
        self.work_on(&self.find(name).slot, None, work)
    }

    /// Locks held in a shard, as `look` shows them.
    pub(super) fn list(
        &self,
        shard: usize,
        prefix: &[u8],
        look: impl Fn(&Slot, &Name) -> Inspection,
    ) -> Vec<Inspection> {
        let shard = self.shards[shard].lock();
        let meant = |key: &Key| key.name.as_bytes().starts_with(prefix);
        shard
            .iter()
            .filter(|(key, _)| meant(key))
            .map(|(key, entry)| look(&entry.slot.lock(), &key.name))
            .filter(|lock| !lock.holders.is_empty())
            .collect()
    }

    fn work_on<T>(
        &self,
        slot: &Mutex<Slot>,
        asked: Option<BootTime>,
        work: impl FnOnce(&mut Slot, &mut Work<'_>) -> T,
    ) -> T {
        let mut context = Work {
            asked,
            fences: &self.fences,
            bells: Vec::new(),
        };
        let result = if cfg!(canary = "unlocked_slot") {
            let mut taken = std::mem::take(&mut *slot.lock());
            let result = turn(&mut taken, &mut context, work);
            std::thread::yield_now();
            *slot.lock() = taken;
            result
        } else {
            turn(&mut slot.lock(), &mut context, work)
        };
        for bell in context.bells {
            if cfg!(canary = "no_bell") {
                break;
            }
            bell.ring();
        }
        result
    }

    #[cold]
    fn find(self: &Arc<Self>, name: &Name) -> Found {
        let key = Key {
            hash: self.hasher.hash_one(name),
            name: name.clone(),
        };
        let mut shard = self.shard(&key);
        let entry = shard.entry(key.clone()).or_default();
        entry.users += 1;
        Found {
            slot: entry.slot.clone(),
            key,
            space: self.clone(),
        }
    }

    fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        // Other bits than those by which a map spreads its keys.
        self.shards[(key.hash >> 32) as usize % SHARDS].lock()
    }

    #[cfg(test)]
    pub(super) fn names(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

/// The work, between what time has ended and who is next.
#[inline]
fn turn<T>(
    slot: &mut Slot,
    context: &mut Work<'_>,
    work: impl FnOnce(&mut Slot, &mut Work<'_>) -> T,
) -> T {
    slot.expire(context);
    let result = work(slot, context);
    slot.admit(context);
    result
}

impl Drop for Found {
    /// Who leaves last forgets the name, if nothing is left in its slot.
    fn drop(&mut self) {
        let mut shard = self.space.shard(&self.key);
        if let Some(entry) = shard.get_mut(&self.key) {
            entry.users -= 1;
            if entry.users == 0 && self.slot.lock().is_empty() {
                shard.remove(&self.key);
            }
        }
    }
}

impl Work<'_> {
    /// The time of this verb, read when first asked for.
    #[inline]
    pub(super) fn now(&mut self) -> BootTime {
        *self.asked.get_or_insert_with(BootTime::now)
    }

    pub(super) fn draw_fence(&self, block: u32) -> u64 {
        let block = u64::from(block.max(1));
        // Canary of row 28.
        if cfg!(canary = "flat_count") {
            return 1;
        }
        self.fences.fetch_add(block, Ordering::Relaxed) + 1
    }
}
