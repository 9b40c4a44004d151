//! The store contract, verb by verb.

use super::client::{Memcached, Told};
use super::config::{Config, Dialect};
use super::keys::{Key, key};
use super::record;
use super::wire::{Broken, Change, Connection, Item, Store};
use crate::capability::{Capabilities, Fence, Scope};
use crate::codes::Code;
use crate::lease::BootTime;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::Signal;
use crate::store::net::Address;
use crate::store::{Answer, Attempt, Backend, Busy, Cancelled, Claim, Grant, Inspection, Life};
use crate::url::Url;
use crate::{Error, Result};
use memcache::exp::ReturnCode;
use std::sync::Arc;
use std::time::Duration;

/// More would be a date: the item is gone at once.
const MOST_SECONDS: u64 = 30 * 24 * 3600;
const LEAST_TTL: Duration = Duration::from_secs(1);
const MOST_TTL: Duration = Duration::from_secs(MOST_SECONDS);
/// By how many seconds a server's clock that runs may be behind when an item is given its end.
const DATED_BACK: u64 = 2;
/// How often a waiter asks: first after 20 ms, then after twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// How often a change is tried again that came too late for the item's number.
const TRIES: u32 = 8;

/// What a handle's seat keeps.
struct Notes {
    /// The item's number after our last change, and the connection that told it: on another one, the
    /// server may have begun to count anew.
    cas: u64,
    serial: u64,
    /// Before the next look of a waiter.
    pause: Duration,
}

/// Opens a `memcached:` URL; connects to nothing.
///
/// # Errors
/// `InvalidUrl`, `InvalidArgument`.
pub fn open(url: &mut Url) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(Memcached::new(Config::read(url)?)))
}

/// The seconds that an item must be given to live for `ttl`, and how long it surely lives.
///
/// The server counts the seconds that its clock shows, and that is set by a timer of its main thread, at any part
/// of a second: what is asked a moment before it runs is dated up to two seconds back. Two more are also the most
/// that row 20 of the bar lets an item of whole seconds live.
fn lifetime(ttl: Duration) -> (u32, Duration) {
    let whole = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
    // Canary of row 20.
    if cfg!(canary = "no_slack") {
        return (whole.min(MOST_SECONDS) as u32, ttl);
    }
    let seconds = (whole + DATED_BACK).min(MOST_SECONDS);
    let sure = Duration::from_secs(seconds - DATED_BACK).min(ttl);
    (seconds as u32, sure)
}

fn ttl(claim: &Claim) -> Duration {
    claim.ttl.unwrap_or(crate::lock::DEFAULT_LEASE)
}

fn broken(error: Error) -> Broken {
    Broken { error, sent: true }
}

impl Memcached {
    fn key(&self, name: &Name) -> Result<Key> {
        key(&self.config, name)
    }

    fn dialect(&self) -> Dialect {
        self.config.dialect
    }

    fn is_of(&self, item: &Item, token: OwnerToken) -> bool {
        record::is_of(self.dialect(), &item.value, token)
    }

    fn value(&self, claim: &Claim, key: &Key) -> Vec<u8> {
        let who = record::who(&self.process().who, claim.label.as_deref());
        let hidden = (!key.is_whole).then(|| claim.name.as_bytes());
        record::write(self.dialect(), claim.token, None, &who, hidden)
    }

    /// The connection on which the handle's last number was told; 0 for any.
    fn wanted(claim: &Claim) -> u64 {
        claim
            .seat
            .with(|notes: &mut Notes| notes.serial)
            .unwrap_or(0)
    }

    fn note(claim: &Claim, item: &Item, connection: &Connection) {
        claim.seat.put(Notes {
            cas: item.cas,
            serial: connection.serial,
            pause: FIRST_PAUSE,
        });
    }

    /// Puts the item off to live for `ttl` from now, if it is the claim's, as `owner`'s; never
    /// shortens. The item that stands afterwards and until when it surely stands.
    fn put_off(
        &self,
        connection: &mut Connection,
        key: &Key,
        (claim, owner): (&Claim, OwnerToken),
        ttl: Duration,
        limit: BootTime,
    ) -> std::result::Result<Option<(Item, u64, BootTime)>, Broken> {
        let (seconds, sure) = lifetime(ttl);
        let token = claim.token;
        for _ in 0..TRIES {
            let before = BootTime::now();
            let Some(item) = connection.look(&key.bytes, limit)? else {
                return Ok(None);
            };
            // An heir whose token recurs may be another process.
            let taken_before = token != owner && !claim.recurs && self.is_of(&item, owner);
            if !self.is_of(&item, token) && !taken_before {
                return Ok(None);
            }
            let fence = record::fence(self.dialect(), &item.value, item.cas);
            // Told by the same clock.
            let stands = item
                .left
                .map(|left| before.after(left.saturating_sub(Duration::from_secs(DATED_BACK))));
            let long_enough = item
                .left
                .is_none_or(|left| left.as_secs() >= seconds.into());
            if long_enough && (token == owner || taken_before) {
                let until = stands.unwrap_or(before.after(MOST_TTL));
                return Ok(Some((item, fence, until.min(before.after(sure)))));
            }
            let value = record::renew(self.dialect(), &item.value, item.cas, owner)
                .map_err(|error| Broken { error, sent: false })?;
            let seconds = item.left.map_or(0, |left| {
                seconds.max(u32::try_from(left.as_secs()).unwrap_or(0))
            });
            let before = BootTime::now();
            let how = Store::Swap(item.cas);
            match connection.store(&key.bytes, &value, how, seconds, limit)? {
                (Change::Failed(error), _) => return Err(Broken { error, sent: false }),
                (Change::Made, Some(item)) if self.is_of(&item, owner) => {
                    return Ok(Some((item, fence, before.after(sure))));
                }
                // It was changed in between.
                (Change::Refused, _) => {}
                (Change::Made, _) => return Ok(None),
            }
        }
        Err(broken(Error::new(
            Code::Unavailable,
            "others change the lock faster than it can be kept",
        )))
    }

    /// One try to add the item; what stands there afterwards says who holds.
    fn add(
        &self,
        connection: &mut Connection,
        claim: &Claim,
        key: &Key,
        value: &[u8],
        limit: BootTime,
    ) -> std::result::Result<Attempt, Broken> {
        let (seconds, sure) = lifetime(ttl(claim));
        let before = BootTime::now();
        let (change, item) = connection.store(&key.bytes, value, Store::Add, seconds, limit)?;
        let granted = |connection: &Connection, item: &Item, fence, lease| {
            Self::note(claim, item, connection);
            Ok(Attempt::Granted(Grant {
                lease: Some(lease),
                // A range of numbers cannot be reserved.
                fence: (claim.fence_block <= 1).then_some(fence),
                recovered: false,
            }))
        };
        match (change, item) {
            (Change::Made, Some(item)) if self.is_of(&item, claim.token) => {
                let fence = item.cas;
                granted(connection, &item, fence, before.after(sure))
            }
            // Canary of row 10.
            (_, Some(item)) if cfg!(canary = "always_fits") => {
                let fence = item.cas;
                granted(connection, &item, fence, before.after(sure))
            }
            // An earlier request of ours was carried out: the lease counts from now.
            (_, Some(item)) if self.is_of(&item, claim.token) && !cfg!(canary = "no_replay") => {
                let both = (claim, claim.token);
                match self.put_off(connection, key, both, ttl(claim), limit)? {
                    Some((item, fence, lease)) => granted(connection, &item, fence, lease),
                    None => Ok(Attempt::Busy(Busy::default())),
                }
            }
            (_, Some(item)) => Ok(Attempt::Busy(Busy {
                until: item.left.map(|left| BootTime::now().after(left)),
                poll: None,
                ..Busy::default()
            })),
            (Change::Failed(error), None) => Err(Broken { error, sent: false }),
            // It ended between the two commands, or the server did not keep ours.
            (Change::Refused, None) => Ok(Attempt::Busy(Busy {
                until: Some(BootTime::now()),
                poll: None,
                ..Busy::default()
            })),
            (Change::Made, None) => Err(Broken {
                error: Error::new(
                    Code::Unavailable,
                    "the server forgot the lock at once: it is short of memory",
                ),
                sent: false,
            }),
        }
    }

    /// When a waiter asks again.
    fn pause(claim: &Claim) -> Duration {
        let next = |notes: &mut Notes| {
            let pause = notes.pause;
            notes.pause = (pause * 2).min(LONGEST_PAUSE);
            pause
        };
        let pause = claim.seat.with(next).unwrap_or_else(|| {
            claim.seat.put(Notes {
                cas: 0,
                serial: 0,
                pause: FIRST_PAUSE * 2,
            });
            FIRST_PAUSE
        });
        // Spread out, so that waiters do not ask in step.
        pause * (192 + u32::from(claim.token.as_bytes()[0])) / 256
    }

    /// Deletes the item if it is the claim's.
    fn remove(
        &self,
        connection: &mut Connection,
        claim: &Claim,
        key: &Key,
        limit: BootTime,
    ) -> std::result::Result<bool, Broken> {
        let known = claim.seat.with(|notes: &mut Notes| {
            let same = notes.serial == connection.serial || cfg!(canary = "old_number");
            let known = same && notes.cas != 0;
            known.then_some(notes.cas)
        });
        let mut number = known.flatten();
        for _ in 0..TRIES {
            let cas = match number.take() {
                Some(cas) => cas,
                None => match connection.look(&key.bytes, limit)? {
                    Some(item) if self.is_of(&item, claim.token) => item.cas,
                    Some(item) if cfg!(canary = "delete_any") => item.cas,
                    _ => return Ok(false),
                },
            };
            match connection.delete(&key.bytes, Some(cas), limit)? {
                ReturnCode::Hd => return Ok(true),
                ReturnCode::Nf => return Ok(false),
                // It was changed in between.
                _ => {}
            }
        }
        Err(broken(Error::new(
            Code::Unavailable,
            "others change the lock faster than it can be released",
        )))
    }
}

impl Backend for Memcached {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            store: match self.dialect() {
                Dialect::Native => "memcached",
                Dialect::Symfony => "memcached-symfony",
            },
            shared: false,
            promote: false,
            permits: false,
            ttl: true,
            frees_on_death: false,
            fence: Fence::Ephemeral,
            wakes: false,
            fair: false,
            export: true,
            list: false,
            break_lock: true,
            survives_restart: false,
            clock: "server",
            scope: Scope::Cluster,
        }
    }

    fn url(&self) -> &str {
        &self.config.url
    }

    fn fingerprint(&self) -> String {
        let server = match &self.config.address {
            Address::Tcp { host, port } => format!("{host}:{port}"),
            Address::Unix(path) => path.clone(),
        };
        let dialect = match self.dialect() {
            Dialect::Native => "",
            Dialect::Symfony => "/symfony",
        };
        format!("memcached:{server}/{}{dialect}", self.config.prefix)
    }

    fn check_name(&self, name: &Name) -> Result<()> {
        self.key(name).map(drop)
    }

    fn take_caution(&self) -> Option<String> {
        self.process().cautions.take()
    }

    fn life(&self, deadline: Option<BootTime>) -> Result<Option<Life>> {
        let told = self.run(deadline, 0, Connection::life)?;
        Ok(Some(told.answer))
    }

    fn check_ttl(&self, ttl: Duration) -> Result<()> {
        if ttl < LEAST_TTL || ttl > MOST_TTL {
            return Err(Error::invalid(format!(
                "a TTL of {ttl:?}: memcached counts whole seconds, and more than 30 days it takes for a date; it must lie between 1 s and 30 days"
            )));
        }
        Ok(())
    }

    fn ping(&self, deadline: Option<BootTime>) -> Result<()> {
        self.run(deadline, 0, Connection::ping).map(drop)
    }

    fn reserves_fences(&self) -> bool {
        false
    }

    /// Connections have no numbers by which they could be ended, and are served by several threads.
    fn may_be_late(&self) -> bool {
        true
    }

    fn attempt(&self, claim: &Claim, bell: Option<&Arc<Signal>>) -> Result<Attempt> {
        self.check_ttl(ttl(claim))?;
        let key = self.key(&claim.name)?;
        let value = self.value(claim, &key);
        let told = self.run_for(claim, Self::wanted(claim), |connection, limit| {
            self.add(connection, claim, &key, &value, limit)
        })?;
        Ok(match told.answer {
            Attempt::Busy(busy) if bell.is_some() => Attempt::Busy(Busy {
                poll: Some(BootTime::now().after(Self::pause(claim))),
                ..busy
            }),
            answer => answer,
        })
    }

    fn cancel(&self, claim: &Claim) -> Result<Cancelled> {
        // Nobody stands in a queue, and every attempt was answered.
        claim.seat.clear();
        Ok(Cancelled::Gone)
    }

    fn extend(&self, claim: &Claim, ttl: Duration) -> Result<Answer> {
        self.check_ttl(ttl)?;
        let key = self.key(&claim.name)?;
        let both = (claim, claim.token);
        let told = self.run_for(claim, Self::wanted(claim), |connection, limit| {
            let found = self.put_off(connection, &key, both, ttl, limit)?;
            Ok(found.map(|(item, _, lease)| {
                Self::note(claim, &item, connection);
                lease
            }))
        })?;
        Ok(match told.answer {
            Some(lease) => Answer::Done(Some(lease)),
            None => Answer::NotOurs,
        })
    }

    fn release(&self, claim: &Claim) -> Result<Answer> {
        let key = self.key(&claim.name)?;
        let Told { answer, again } =
            self.run_for(claim, Self::wanted(claim), |connection, limit| {
                self.remove(connection, claim, &key, limit)
            })?;
        claim.seat.clear();
        if answer {
            return Ok(Answer::Done(None));
        }
        // The request whose reply was lost may have released it, or it was lost before.
        if again && !cfg!(canary = "no_resent") {
            return Err(Error::new(
                Code::Uncertain,
                "it is not held any more, but a reply was lost: whether this release ended it is unknown",
            ));
        }
        Ok(Answer::NotOurs)
    }

    fn is_held(&self, claim: &Claim) -> Result<bool> {
        let key = self.key(&claim.name)?;
        let told = self.run_for(claim, 0, |connection, limit| {
            connection.look(&key.bytes, limit)
        })?;
        Ok(told
            .answer
            .is_some_and(|item| self.is_of(&item, claim.token)))
    }

    fn wait_free(&self, name: &Name, until: BootTime) -> Result<bool> {
        let mut pause = FIRST_PAUSE;
        loop {
            if self.inspect(name, None)?.holders.is_empty() {
                return Ok(true);
            }
            let left = until.left();
            if left.is_zero() {
                return Ok(false);
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn inspect(&self, name: &Name, deadline: Option<BootTime>) -> Result<Inspection> {
        let key = self.key(name)?;
        let told = self.run(deadline, 0, |connection, limit| {
            connection.look(&key.bytes, limit)
        })?;
        let mut found = Inspection {
            name: name.as_bytes().to_vec(),
            ..Inspection::default()
        };
        if let Some(item) = told.answer {
            let holder = record::holder(self.dialect(), &item.value, item.cas, item.left);
            found.holders.push(holder.ok_or_else(|| {
                Error::new(
                    Code::Protocol,
                    "something else than a lock stands at the key",
                )
            })?);
        }
        Ok(found)
    }

    fn break_lock(&self, name: &Name, deadline: Option<BootTime>) -> Result<bool> {
        let key = self.key(name)?;
        // Once: the next owner's lock may be at the key when it comes again.
        let told = self.run_as_often(true, deadline, 0, |connection, limit| {
            connection.delete(&key.bytes, None, limit)
        })?;
        Ok(told.answer == ReturnCode::Hd)
    }

    fn adopt(&self, claim: &Claim, heir: OwnerToken) -> Result<Option<Grant>> {
        self.check_ttl(ttl(claim))?;
        let key = self.key(&claim.name)?;
        let told = self.run_for(claim, 0, |connection, limit| {
            self.put_off(connection, &key, (claim, heir), ttl(claim), limit)
        })?;
        Ok(told.answer.map(|(_, fence, lease)| Grant {
            lease: Some(lease),
            fence: Some(fence),
            recovered: false,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_outlives_its_lease() {
        let at = |ms| lifetime(Duration::from_millis(ms));
        assert_eq!(at(1000), (3, Duration::from_millis(1000)));
        assert_eq!(at(1001), (4, Duration::from_millis(1001)));
        assert_eq!(at(30_200), (33, Duration::from_millis(30_200)));
        let (seconds, sure) = lifetime(MOST_TTL);
        assert_eq!((seconds, sure), (2_592_000, MOST_TTL - 2 * LEAST_TTL));
    }
}
