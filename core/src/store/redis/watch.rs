//! Waiting for a lock to come free without taking it.

use super::answers::number;
use super::client::Redis;
use super::connection::protocol;
use super::polls;
use super::scripts::Verb;
use super::subscription::is_forbidden;
use super::verbs::{POLL, millis};
use crate::Result;
use crate::lease::BootTime;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::{Signal, Wake};
use crate::store::Backend;
use crate::sync::Mutex;
use redis::Value;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a watch goes without asking.
const SAFETY_POLL: Duration = Duration::from_secs(5);
/// How long the server remembers a watch that is not renewed.
const LIFE: Duration = Duration::from_secs(15);

/// A watch that the server knows of: it publishes the token once when the lock is free.
#[derive(Debug)]
struct Watch {
    token: OwnerToken,
    bell: Arc<Signal>,
    /// When to ask the server again.
    next_look: BootTime,
}

/// Watches that ended without word. Hosts wait in slices: the next one goes on with what the last
/// has registered, and need not ask.
#[derive(Debug, Default)]
pub(super) struct Watches(Mutex<HashMap<Vec<u8>, Watch>>);

impl Watches {
    fn take(&self, name: &Name) -> Option<Watch> {
        self.0.lock().remove(name.as_bytes())
    }

    /// Keeps a watch, and returns those that nobody went on with.
    fn keep(&self, name: &Name, watch: Watch) -> Vec<Watch> {
        let mut kept = self.0.lock();
        let old: Vec<_> = kept
            .extract_if(|_, watch| watch.next_look.has_passed())
            .map(|(_, watch)| watch)
            .collect();
        old.into_iter()
            .chain(kept.insert(name.as_bytes().to_vec(), watch))
            .collect()
    }
}

/// True as soon as nobody holds the name, false at `until`.
pub(super) fn wait_free(redis: &Redis, name: &Name, until: BootTime) -> Result<bool> {
    let process = redis.process()?;
    let mut watch = match process.watches.take(name) {
        Some(watch) => watch,
        None => {
            if redis.inspect(name, None)?.holders.is_empty() {
                return Ok(true);
            }
            if until.has_passed() {
                return Ok(false);
            }
            Watch {
                token: OwnerToken::draw()?,
                bell: Arc::default(),
                next_look: BootTime::now(),
            }
        }
    };
    let free = wait(redis, name, &mut watch, until);
    if matches!(free, Ok(false)) {
        for old in process.watches.keep(name, watch) {
            process.subscription.unregister(old.token);
        }
    } else {
        process.subscription.unregister(watch.token);
    }
    free
}

fn wait(redis: &Redis, name: &Name, watch: &mut Watch, until: BootTime) -> Result<bool> {
    // Without time to listen, asking is the only way.
    let mut rung = watch.bell.take() || until.has_passed();
    loop {
        if rung || watch.next_look.has_passed() {
            match look(redis, name, watch)? {
                None => return Ok(true),
                Some(next) => watch.next_look = next,
            }
        }
        if until.has_passed() {
            return Ok(false);
        }
        let process = redis.process()?;
        let (wake, strays) = process
            .subscription
            .park(&watch.bell, until.min(watch.next_look))?;
        rung = wake == Wake::Signalled;
        redis.return_strays(strays);
    }
}

/// Asks, and registers the watch; when to ask next, `None` if nobody holds.
fn look(redis: &Redis, name: &Name, watch: &Watch) -> Result<Option<BootTime>> {
    let subscription = &redis.process()?.subscription;
    if redis.is_bare() {
        let free = redis.inspect(name, None)?.holders.is_empty();
        return Ok((!free).then(|| BootTime::now().after(POLL)));
    }
    // Nothing may be registered before the server has acknowledged the subscription.
    let limit = redis.limit(None);
    match redis.subscribe(limit) {
        Ok(()) => {}
        Err(error) if is_forbidden(&error) => {
            let free = redis.inspect(name, None)?.holders.is_empty();
            return Ok((!free).then(|| BootTime::now().after(POLL)));
        }
        Err(error) => return Err(error),
    }
    subscription.register(watch.token, &watch.bell);
    let (token, life) = (watch.token.to_hex(), millis(LIFE));
    let args = [
        token.as_bytes(),
        subscription.channel.as_bytes(),
        life.as_bytes(),
    ];
    match redis.run(Verb::Watch, name, &args, None)? {
        Value::Nil => Ok(None),
        left => {
            let left = number(&left)
                .and_then(|left| u64::try_from(left).ok())
                .ok_or_else(|| protocol("an odd answer to a watch"))?;
            // A little later, so that the server has surely ended it.
            let ends = Duration::from_millis(left.saturating_add(1));
            // A peer's release is not announced.
            let longest = if redis.is_native() {
                SAFETY_POLL
            } else {
                polls::LONGEST
            };
            Ok(Some(BootTime::now().after(ends.min(longest))))
        }
    }
}
