//! `memory:`: locks between the threads of one process; the model of what a store must do.
//!
//! `memory:NAME` is a space of its own. A free lock is *offered* to the head of the queue, who must
//! take it up within [`CLAIM`]; so a waiter that never comes back delays the others by that much.

mod slot;

use crate::capability::{Capabilities, Fence, Scope};
use crate::fork::PerProcess;
use crate::hash::HashGiven;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::Signal;
use crate::store::{Answer, Attempt, Backend, Busy, Cancelled, Claim, Inspection, Page, Tokens};
use crate::sync::{Mutex, MutexGuard};
use crate::url::Url;
use crate::{Code, Error, Result};
use slot::Slot;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long an offer stands.
pub const CLAIM: Duration = Duration::from_secs(1);

const SHARDS: usize = 64;

type Bells = Vec<Arc<Signal>>;

/// A name and its hash, which is made once for shard and map.
#[derive(Debug, PartialEq, Eq)]
struct Key {
    hash: u64,
    name: Name,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// What a handle's seat keeps: the hash of its name.
struct Hashed(u64);

type Slots = HashMap<Key, Slot, HashGiven>;

#[derive(Debug)]
struct Space {
    hasher: RandomState,
    shards: Vec<Mutex<Slots>>,
    fences: AtomicU64,
}

static SPACES: PerProcess<Mutex<HashMap<String, Arc<Space>>>> = PerProcess::new();

#[derive(Debug)]
struct Memory {
    url: String,
    name: String,
    space: PerProcess<Arc<Space>>,
}

/// Opens `memory:` or `memory:NAME`.
///
/// # Errors
/// `InvalidUrl` for a URL with a host.
pub fn open(url: &mut Url) -> Result<Arc<dyn Backend>> {
    if url.has_server() {
        return Err(Error::new(Code::InvalidUrl, "`memory:` has no host"));
    }
    Ok(Arc::new(Memory {
        url: url.redacted(),
        name: url.path.clone(),
        space: PerProcess::new(),
    }))
}

impl Memory {
    fn space(&self) -> &Space {
        self.space.get_or_init(|| {
            let mut spaces = SPACES.get_or_init(Mutex::default).lock();
            let made = spaces.entry(self.name.clone()).or_insert_with(|| {
                Arc::new(Space {
                    hasher: RandomState::new(),
                    shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
                    fences: AtomicU64::new(0),
                })
            });
            made.clone()
        })
    }

    /// Works on the slot of a name.
    fn with<T>(&self, name: &Name, work: impl FnOnce(&mut Slot, &mut Work<'_>) -> T) -> T {
        let space = self.space();
        let hash = space.hasher.hash_one(name);
        space.with(hash, name, BootTime::now(), work)
    }

    /// Works on the slot of a claim's name.
    fn with_claim<T>(&self, claim: &Claim, work: impl FnOnce(&mut Slot, &mut Work<'_>) -> T) -> T {
        self.with_claim_at(claim, BootTime::now(), work)
    }

    fn with_claim_at<T>(
        &self,
        claim: &Claim,
        now: BootTime,
        work: impl FnOnce(&mut Slot, &mut Work<'_>) -> T,
    ) -> T {
        let space = self.space();
        let known = claim.seat.with(|hashed: &mut Hashed| hashed.0);
        let hash = known.unwrap_or_else(|| {
            let hash = space.hasher.hash_one(&claim.name);
            claim.seat.put(Hashed(hash));
            hash
        });
        space.with(hash, &claim.name, now, work)
    }
}

impl Space {
    /// Works on the slot of a name, forgets it if nothing is left in it, and rings afterwards.
    fn with<T>(
        &self,
        hash: u64,
        name: &Name,
        now: BootTime,
        work: impl FnOnce(&mut Slot, &mut Work<'_>) -> T,
    ) -> T {
        let key = Key {
            hash,
            name: name.clone(),
        };
        let mut bells = Bells::new();
        let mut context = Work {
            now,
            fences: &self.fences,
            bells: &mut bells,
        };
        let mut shard = self.shard(hash);
        let result = if cfg!(canary = "unlocked_slot") {
            let mut slot = shard.remove(&key).unwrap_or_default();
            drop(shard);
            slot.expire(&mut context);
            let result = work(&mut slot, &mut context);
            slot.admit(&mut context);
            std::thread::yield_now();
            shard = self.shard(hash);
            shard.insert(key, slot);
            result
        } else if let Some(slot) = shard.get_mut(&key) {
            slot.expire(&mut context);
            let result = work(slot, &mut context);
            slot.admit(&mut context);
            if slot.is_empty() {
                shard.remove(&key);
            }
            result
        } else {
            let mut slot = Slot::default();
            let result = work(&mut slot, &mut context);
            if !slot.is_empty() {
                shard.insert(key, slot);
            }
            result
        };
        drop(shard);
        for bell in bells {
            if cfg!(canary = "no_bell") {
                break;
            }
            bell.ring();
        }
        result
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Slots> {
        // Other bits than those by which a map spreads its keys.
        self.shards[(hash >> 32) as usize % SHARDS].lock()
    }
}

/// What a slot needs while it is worked on.
struct Work<'a> {
    now: BootTime,
    fences: &'a AtomicU64,
    bells: &'a mut Bells,
}

impl Work<'_> {
    fn draw_fence(&self, block: u32) -> u64 {
        let block = u64::from(block.max(1));
        // Canary of row 28.
        if cfg!(canary = "flat_count") {
            return 1;
        }
        self.fences.fetch_add(block, Ordering::Relaxed) + 1
    }
}

impl Backend for Memory {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            store: "memory",
            shared: true,
            promote: true,
            permits: true,
            ttl: true,
            frees_on_death: true,
            fence: Fence::Ephemeral,
            wakes: true,
            fair: true,
            export: false,
            list: true,
            break_lock: true,
            survives_restart: false,
            clock: "process",
            scope: Scope::Process,
        }
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn fingerprint(&self) -> String {
        format!("memory:{}", self.name)
    }

    fn tokens(&self) -> Tokens {
        Tokens::Numbered
    }

    fn name_owner(&self, claim: &Claim, before: OwnerToken) {
        self.with_claim(claim, |slot, _| slot.rename(before, claim.token));
    }

    fn answers_at_once(&self) -> bool {
        true
    }

    fn ping(&self, _deadline: Option<BootTime>) -> Result<()> {
        Ok(())
    }

    fn attempt(&self, claim: &Claim, bell: Option<&Arc<Signal>>) -> Result<Attempt> {
        self.with_claim_at(claim, claim.asked, |slot, work| {
            slot.attempt(claim, bell, work)
        })
    }

    fn cancel(&self, claim: &Claim) -> Result<Cancelled> {
        Ok(self.with_claim(claim, |slot, work| slot.cancel(claim, work)))
    }

    fn extend(&self, claim: &Claim, ttl: Duration) -> Result<Answer> {
        Ok(self.with_claim(claim, |slot, work| slot.extend(claim, ttl, work)))
    }

    fn release(&self, claim: &Claim) -> Result<Answer> {
        Ok(self.with_claim(claim, |slot, _| slot.release(claim)))
    }

    fn change_mode(&self, claim: &Claim, to: Mode) -> Result<Attempt> {
        self.with_claim(claim, |slot, work| slot.change_mode(claim, to, work))
    }

    fn is_held(&self, claim: &Claim) -> Result<bool> {
        Ok(self.with_claim(claim, |slot, _| slot.holds(claim.token)))
    }

    fn wait_free(&self, name: &Name, until: BootTime) -> Result<bool> {
        let bell = Arc::new(Signal::new());
        loop {
            let next = self.with(name, |slot, _| slot.watch(&bell));
            let Some(Busy { until: ends, .. }) = next else {
                return Ok(true);
            };
            if until.has_passed() {
                self.with(name, |slot, _| slot.unwatch(&bell));
                return Ok(false);
            }
            bell.sleep(
                ends.unwrap_or(until)
                    .min(until)
                    .min(BootTime::now().after(CLAIM)),
            );
        }
    }

    fn inspect(&self, name: &Name, _deadline: Option<BootTime>) -> Result<Inspection> {
        Ok(self.with(name, |slot, work| slot.inspect(name, work.now)))
    }

    fn list(
        &self,
        prefix: &[u8],
        cursor: Option<&str>,
        limit: usize,
        _deadline: Option<BootTime>,
    ) -> Result<Page> {
        let start = match cursor {
            None => 0,
            Some(cursor) => cursor
                .parse()
                .ok()
                .filter(|shard| *shard < SHARDS)
                .ok_or_else(|| Error::invalid("this is no cursor of ours"))?,
        };
        let now = BootTime::now();
        let mut page = Page::default();
        for index in start..SHARDS {
            if page.locks.len() >= limit {
                page.cursor = Some(index.to_string());
                break;
            }
            let shard = self.space().shards[index].lock();
            let found = shard
                .iter()
                .filter(|(key, _)| key.name.as_bytes().starts_with(prefix));
            page.locks.extend(
                found
                    .map(|(key, slot)| slot.inspect(&key.name, now))
                    .filter(|lock| !lock.holders.is_empty()),
            );
        }
        Ok(page)
    }

    fn break_lock(&self, name: &Name, _deadline: Option<BootTime>) -> Result<bool> {
        Ok(self.with(name, |slot, _| slot.break_holds()))
    }
}
