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
use crate::store::watches::{SAFETY_POLL, Watch, Watched};
use redis::Value;
use std::sync::Arc;
use std::time::Duration;

/// How long the server remembers a watch that is not renewed.
const LIFE: Duration = Duration::from_secs(15);

impl Watched for Redis {
    fn is_free(&self, name: &Name) -> Result<bool> {
        Ok(self.inspect(name, None)?.holders.is_empty())
    }

    fn look(&self, name: &Name, watch: &Watch) -> Result<Option<BootTime>> {
        let subscription = &self.process()?.subscription;
        if self.is_bare() {
            let free = self.inspect(name, None)?.holders.is_empty();
            return Ok((!free).then(|| BootTime::now().after(POLL)));
        }
        // Nothing may be registered before the server has acknowledged the subscription.
        let limit = self.limit(None);
        match self.subscribe(limit) {
            Ok(()) => {}
            Err(error) if is_forbidden(&error) => {
                let free = self.inspect(name, None)?.holders.is_empty();
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
        match self.run(Verb::Watch, name, &args, None)? {
            Value::Nil => Ok(None),
            left => {
                let left = number(&left)
                    .and_then(|left| u64::try_from(left).ok())
                    .ok_or_else(|| protocol("an odd answer to a watch"))?;
                // A little later, so that the server has surely ended it.
                let ends = Duration::from_millis(left.saturating_add(1));
                // A peer's release is not announced.
                let longest = if self.is_native() {
                    SAFETY_POLL
                } else {
                    polls::LONGEST
                };
                Ok(Some(BootTime::now().after(ends.min(longest))))
            }
        }
    }

    fn wait(&self, bell: &Arc<Signal>, until: BootTime) -> Result<Wake> {
        self.park(bell, until)
    }

    fn leave(&self, token: OwnerToken) {
        if let Some(process) = self.known_process() {
            process.subscription.unregister(token);
        }
    }
}
