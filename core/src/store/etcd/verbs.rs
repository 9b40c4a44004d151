//! The store contract, verb by verb.

use super::client::{Entry, Etcd};
use super::config::Config;
use super::leases::{self, LONGEST, Lease};
use super::stand::{node, ttl};
use super::{record, wire};
use crate::capability::{Capabilities, Fence, Scope};
use crate::codes::Code;
use crate::lease::BootTime;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::Signal;
use crate::store::line::{self, Standing};
use crate::store::{Answer, Attempt, Backend, Cancelled, Claim, Grant, Inspection, Page};
use crate::url::Url;
use crate::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// Opens an `etcd:` URL; connects to nothing.
///
/// # Errors
/// `InvalidUrl`, `InvalidArgument`.
pub fn open(url: &mut Url) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(Etcd::new(Config::read(url)?)))
}

impl Etcd {
    /// As it came, unless a key may be left behind: then somebody has to see to that.
    fn settled(&self, claim: &Claim, result: Result<Attempt>) -> Result<Attempt> {
        let Err(error) = result else { return result };
        let is_left = self.process()?.knows(claim.token);
        if is_left && error.code() != Code::Uncertain {
            return Err(Error::new(
                Code::Uncertain,
                format!("{}; a key may be left behind for a while", error.message()),
            ));
        }
        Err(error)
    }

    /// What is known of a hold; asked of the store if this process does not know.
    fn hold(&self, claim: &Claim, limit: BootTime) -> Result<Option<Entry>> {
        let process = self.process()?;
        if let Some(entry) = process.known(claim.token) {
            return Ok(Some(entry));
        }
        let Some((kv, _)) = self.find(&claim.name, claim.token, limit)? else {
            return Ok(None);
        };
        let Ok(value) = String::from_utf8(kv.value) else {
            return Ok(None);
        };
        Ok(Some(Entry {
            key: kv.key,
            value,
            created: Some(kv.created),
            changed: kv.changed,
            // Nobody here knows what another process has under way.
            adrift: true,
            lease: Lease {
                id: kv.lease,
                asked: 0,
                seconds: 0,
                sure: BootTime::from_nanos(0),
            },
            named: None,
            unsure: true,
            until: None,
            watch: None,
        }))
    }

    /// Whether an entry's key stands there as it was made.
    fn stands(&self, entry: &Entry, limit: BootTime) -> Result<bool> {
        let value = self.read(wire::RANGE, &wire::get(&entry.key), limit)?;
        let found = wire::kvs(&value)?;
        Ok(found.first().is_some_and(|kv| {
            Some(kv.created) == entry.created && kv.value == entry.value.as_bytes()
        }))
    }
}

impl Backend for Etcd {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            store: "etcd",
            shared: true,
            promote: false,
            permits: true,
            ttl: true,
            frees_on_death: false,
            fence: Fence::Durable,
            wakes: true,
            fair: true,
            export: true,
            list: true,
            break_lock: true,
            survives_restart: true,
            clock: "server",
            scope: Scope::Cluster,
        }
    }

    fn url(&self) -> &str {
        &self.config.url
    }

    fn fingerprint(&self) -> String {
        self.config.fingerprint()
    }

    fn check_ttl(&self, ttl: Duration) -> Result<()> {
        if ttl < Duration::from_secs(1) || leases::seconds(ttl) > LONGEST {
            return Err(Error::invalid(format!(
                "a TTL of {ttl:?}: etcd counts leases in whole seconds, and grants none below its own least, 2 s unless its election timeout is longer; it must lie between 1 s and {LONGEST} s"
            )));
        }
        Ok(())
    }

    fn ping(&self, deadline: Option<BootTime>) -> Result<()> {
        let limit = self.limit(deadline);
        let key = self.config.prefix.as_bytes();
        let key = if key.is_empty() { b"\0" } else { key };
        self.read(wire::RANGE, &wire::get(key), limit).map(drop)
    }

    fn reserves_fences(&self) -> bool {
        false
    }

    fn attempt(&self, claim: &Claim, bell: Option<&Arc<Signal>>) -> Result<Attempt> {
        if claim.fence_block > 1 {
            return Err(Error::unsupported(
                "this store's fencing tokens are revisions of etcd: none can be reserved",
            ));
        }
        self.check_ttl(ttl(claim))?;
        let limit = self.limit(claim.deadline);
        let result = self.stand(claim, bell, limit);
        self.settled(claim, result)
    }

    fn cancel(&self, claim: &Claim) -> Result<Cancelled> {
        let limit = self.limit(claim.deadline);
        let process = self.process()?;
        process.unwatch(claim.token);
        if let Some(entry) = process.known(claim.token)
            && entry.created.is_some()
            && let Some((kv, Standing::Holds)) = self.find(&claim.name, claim.token, limit)?
            && Some(kv.created) == entry.created
            && let Some(Attempt::Granted(grant)) = self.take_up(claim, &entry, limit)?
        {
            return Ok(Cancelled::Granted(grant));
        }
        self.withdraw(claim, limit)?;
        Ok(Cancelled::Gone)
    }

    fn extend(&self, claim: &Claim, ttl: Duration) -> Result<Answer> {
        self.check_ttl(ttl)?;
        let limit = self.limit(claim.deadline);
        let process = self.process()?;
        let Some(mut entry) = self.hold(claim, limit)? else {
            return Ok(Answer::NotOurs);
        };
        if entry.created.is_none() {
            return Ok(Answer::NotOurs);
        }
        let asked = BootTime::now();
        let until = asked.after(ttl).max(entry.until.unwrap_or(asked));
        let mut lease = entry.lease.clone();
        // Whoever else made it may have made it long, and a hold never ends sooner for a renewal.
        if lease.seconds == 0 && !self.keep_alive(&mut lease, limit)? {
            return Ok(Answer::NotOurs);
        }
        let is_long = Duration::from_secs(lease.seconds) >= ttl;
        if !is_long {
            lease = self.lease(leases::seconds(ttl), ttl, limit)?;
        }
        // First the lease, then the look: what is there then stays.
        let held = (!is_long || self.prolong(&mut lease, ttl, limit)?)
            && if is_long && !entry.adrift {
                self.stands(&entry, limit)?
            } else {
                self.hang(claim, &mut entry, &lease, limit)?
            };
        if !held {
            process.forget(claim.token);
            return Ok(Answer::NotOurs);
        }
        if !claim.recurs {
            entry.lease = lease;
            entry.until = Some(until);
            process.note(claim.token, entry);
        }
        Ok(Answer::Done(Some(until)))
    }

    fn release(&self, claim: &Claim) -> Result<Answer> {
        let limit = self.limit(claim.deadline);
        let process = self.process()?;
        let done = if process.knows(claim.token) {
            self.withdraw(claim, limit)?
        } else {
            match self.hold(claim, limit)? {
                Some(entry) => {
                    let created = entry.created.unwrap_or(0);
                    let done = self.delete(&entry.key, created, entry.value.as_bytes(), limit)?;
                    if claim.recurs {
                        // Nobody has it for another hold.
                        let _ = self.revoke(entry.lease.id, limit);
                    }
                    done
                }
                None => false,
            }
        };
        Ok(if done {
            Answer::Done(None)
        } else {
            Answer::NotOurs
        })
    }

    fn is_held(&self, claim: &Claim) -> Result<bool> {
        let limit = self.limit(claim.deadline);
        match self.process()?.known(claim.token) {
            Some(entry) => Ok(entry.until.is_some() && self.stands(&entry, limit)?),
            None => {
                let found = self.find(&claim.name, claim.token, limit)?;
                Ok(found.is_some_and(|(_, standing)| standing == Standing::Holds))
            }
        }
    }

    fn wait_free(&self, name: &Name, until: BootTime) -> Result<bool> {
        self.wait_until_free(name, until)
    }

    fn inspect(&self, name: &Name, deadline: Option<BootTime>) -> Result<Inspection> {
        self.look_at(name, self.limit(deadline))
    }

    fn list(
        &self,
        prefix: &[u8],
        cursor: Option<&str>,
        limit: usize,
        deadline: Option<BootTime>,
    ) -> Result<Page> {
        self.page(prefix, cursor, limit, self.limit(deadline))
    }

    fn break_lock(&self, name: &Name, deadline: Option<BootTime>) -> Result<bool> {
        self.break_holders(name, self.limit(deadline))
    }

    /// The key stays where it is in line; whose it is stands in its value, and changes in one step.
    fn adopt(&self, claim: &Claim, heir: OwnerToken) -> Result<Option<Grant>> {
        let limit = self.limit(claim.deadline);
        let process = self.process()?;
        let asked = BootTime::now();
        let folder = self.folder(&claim.name);
        let (kvs, _) = self.keys(&folder, limit)?;
        let is_it = |kv: &&wire::Kv| {
            folder.has(&kv.key) && record::read(&kv.value).token == Some(claim.token)
        };
        let Some(own) = kvs.iter().find(is_it) else {
            return Ok(None);
        };
        if line::standing(&folder.line(&kvs), &node(&own.key)) != Standing::Holds {
            return Ok(None);
        }
        let lease = self.lease(leases::seconds(ttl(claim)), ttl(claim), limit)?;
        let value = record::write(claim, heir, &process.host, std::process::id());
        let says = |value: &[u8]| wire::says(&own.key, value);
        let body = wire::txn(
            &[wire::is_of(&own.key, own.created), says(&own.value)],
            &[wire::put(&own.key, &value, lease.id)],
            &[wire::ranged(wire::get(&own.key))],
        );
        let reply = self.act(wire::TXN, &body, limit).map_err(Error::from)?;
        let found = wire::outcome(&reply.value)?;
        let is_ours = |kv: &&wire::Kv| kv.created == own.created && kv.value == value.as_bytes();
        let changed = match found.part(0).first().filter(is_ours) {
            _ if found.succeeded => found.revision,
            // The request whose answer was lost may have been it.
            Some(kv) => kv.changed,
            None => {
                process.leases.give(lease);
                return Ok(None);
            }
        };
        process.forget(claim.token);
        let until = asked.after(ttl(claim));
        let entry = Entry {
            key: own.key.clone(),
            value,
            created: Some(own.created),
            changed,
            adrift: false,
            lease,
            named: None,
            unsure: false,
            until: Some(until),
            watch: None,
        };
        if !claim.recurs {
            process.note(heir, entry);
        }
        Ok(Some(Grant {
            lease: Some(until),
            fence: u64::try_from(own.created).ok(),
            recovered: false,
        }))
    }
}
