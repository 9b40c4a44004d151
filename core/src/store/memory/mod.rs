//! `memory:`: locks between the threads of one process; the model of what a store must do.
//!
//! `memory:NAME` is a space of its own. A free lock is *offered* to the head of the queue, who must
//! take it up within [`CLAIM`]; so a waiter that never comes back delays the others by that much.

mod slot;
mod space;

use crate::capability::{Capabilities, Fence, Scope};
use crate::fork::PerProcess;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::Signal;
use crate::store::{Answer, Attempt, Backend, Busy, Cancelled, Claim, Inspection, Page, Tokens};
use crate::sync::Mutex;
use crate::url::Url;
use crate::{Code, Error, Result};
use slot::Slot;
use space::{SHARDS, Space, Work};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How long an offer stands.
pub const CLAIM: Duration = Duration::from_secs(1);

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
    #[inline]
    fn space(&self) -> &Arc<Space> {
        self.space.get_or_init(|| {
            let mut spaces = SPACES.get_or_init(Mutex::default).lock();
            let made = spaces.entry(self.name.clone());
            made.or_insert_with(|| Arc::new(Space::new())).clone()
        })
    }

    /// Works on the slot of a name.
    fn with<T>(&self, name: &Name, work: impl FnOnce(&mut Slot, &mut Work<'_>) -> T) -> T {
        self.space().with(name, work)
    }

    /// Works on the slot of a claim's name.
    #[inline]
    fn with_claim<T>(&self, claim: &Claim, work: impl FnOnce(&mut Slot, &mut Work<'_>) -> T) -> T {
        self.space().with_claim(claim, None, work)
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
        let asked = Some(claim.asked);
        let space = self.space();
        space.with_claim(claim, asked, |slot, work| slot.attempt(claim, bell, work))
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
        Ok(self.with(name, |slot, work| slot.inspect(name, work.now())))
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
            let look = |slot: &Slot, name: &Name| slot.inspect(name, now);
            page.locks.extend(self.space().list(index, prefix, look));
        }
        Ok(page)
    }

    fn break_lock(&self, name: &Name, _deadline: Option<BootTime>) -> Result<bool> {
        Ok(self.with(name, |slot, _| slot.break_holds()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Lock, Store, Wait};

    #[test]
    fn a_name_that_nobody_uses_is_forgotten() {
        let store = Store::open("memory:forgets").unwrap();
        let names = || {
            let spaces = SPACES.get_or_init(Mutex::default).lock();
            spaces.get("forgets").map_or(0, |space| space.names())
        };
        let lock = |name: &str| -> Lock { store.lock(name).unwrap() };
        let (first, second) = (lock("used"), lock("used"));
        first.acquire(Wait::No, None).unwrap();
        let busy = second.acquire(Wait::No, None).unwrap_err();
        assert_eq!(busy.code(), Code::Busy);
        first.release().unwrap();
        drop(first);
        assert_eq!(names(), 1, "a handle remembers it");
        second.acquire(Wait::No, None).unwrap();
        let third = lock("used");
        assert!(third.acquire(Wait::No, None).is_err());
        drop(third);
        second.release().unwrap();
        drop(second);
        assert_eq!(names(), 0);
        store.inspect("nobody's").unwrap();
        assert_eq!(names(), 0);
    }
}
