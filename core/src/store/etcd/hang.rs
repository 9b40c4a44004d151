//! What a claim's key hangs on, and how it is taken away.

use super::client::{Entry, Etcd, Fault};
use super::leases::Lease;
use super::stand::vanishes;
use super::wire;
use crate::lease::BootTime;
use crate::store::Claim;
use crate::{Error, Result};
use serde_json::Value;

/// How often a key that others change is changed again within one call.
const ROUNDS: usize = 4;

impl Etcd {
    /// Hangs the claim's key on a lease, and notes that; false if the key is not there any more. It compares the
    /// key's last change: no copy of it that comes late acts after the next change.
    pub fn hang(
        &self,
        claim: &Claim,
        entry: &mut Entry,
        lease: &Lease,
        limit: BootTime,
    ) -> Result<bool> {
        let process = self.process()?;
        for _ in 0..ROUNDS {
            let found = match self.act(wire::TXN, &hung(entry, lease), limit) {
                Ok(reply) => wire::outcome(&reply.value)?,
                Err(Fault::LeaseGone) => return Ok(false),
                Err(fault) => {
                    // It may act until the next one has.
                    process.change(claim.token, |known| known.adrift = true);
                    return Err(fault.into());
                }
            };
            let own = found.part(0).first().filter(|kv| {
                Some(kv.created) == entry.created && kv.value == entry.value.as_bytes()
            });
            entry.changed = match own {
                _ if found.succeeded => found.revision,
                Some(kv) => kv.changed,
                None => {
                    // Where it is the claim's own, that is given back below: none may be taken twice.
                    if lease.id != entry.lease.id {
                        process.leases.give(lease.clone());
                    }
                    self.lose(claim, entry, limit)?;
                    return Ok(false);
                }
            };
            // One that was not answered has hung it there, or elsewhere.
            if found.succeeded || own.is_some_and(|kv| kv.lease == lease.id) {
                self.rehung(claim, entry, lease, limit)?;
                return Ok(true);
            }
        }
        Err(vanishes())
    }

    fn rehung(
        &self,
        claim: &Claim,
        entry: &mut Entry,
        lease: &Lease,
        limit: BootTime,
    ) -> Result<()> {
        if lease.id != entry.lease.id {
            if entry.named.is_none() && !entry.unsure {
                entry.named = Some(entry.lease.clone());
            } else {
                // What hangs on it no more may as well run out.
                let _ = self.part(entry, limit);
            }
        }
        entry.lease = lease.clone();
        entry.adrift = false;
        self.process()?.change(claim.token, |known| {
            known.lease = entry.lease.clone();
            known.named = entry.named.clone();
            known.changed = entry.changed;
            known.adrift = false;
        });
        Ok(())
    }

    /// The claim's key is not there any more.
    pub fn lose(&self, claim: &Claim, entry: &Entry, limit: BootTime) -> Result<()> {
        self.part(entry, limit)?;
        self.part_name(entry)?;
        self.process()?.forget(claim.token);
        Ok(())
    }

    /// No key hangs on the entry's lease any more; none must come to.
    fn part(&self, entry: &Entry, limit: BootTime) -> Result<()> {
        if entry.unsure {
            self.revoke(entry.lease.id, limit)?;
        } else {
            self.process()?.leases.give(entry.lease.clone());
        }
        Ok(())
    }

    /// Nor is there a key that is named after another lease.
    fn part_name(&self, entry: &Entry) -> Result<()> {
        if let Some(named) = &entry.named {
            self.process()?.leases.give(named.clone());
        }
        Ok(())
    }

    /// Takes the claim's key away; false if it was not there.
    pub fn withdraw(&self, claim: &Claim, limit: BootTime) -> Result<bool> {
        let process = self.process()?;
        let Some(entry) = process.known(claim.token) else {
            return Ok(false);
        };
        let done = match entry.created {
            Some(created) => {
                let done = self.delete(&entry.key, created, entry.value.as_bytes(), limit)?;
                self.part(&entry, limit)?;
                self.part_name(&entry)?;
                done
            }
            // Whatever is under way ends with the lease.
            None if entry.unsure => self.revoke(entry.lease.id, limit)?,
            None => {
                process.leases.give(entry.lease.clone());
                false
            }
        };
        process.forget(claim.token);
        Ok(done)
    }

    /// Deletes a key if it is this claim's; false if it is not there.
    pub fn delete(&self, key: &[u8], created: i64, value: &[u8], limit: BootTime) -> Result<bool> {
        let body = wire::txn(
            &[wire::is_of(key, created), wire::says(key, value)],
            &[wire::delete(key)],
            &[],
        );
        let reply = self.act(wire::TXN, &body, limit).map_err(Error::from)?;
        // The request whose answer was lost may have been it.
        Ok(wire::outcome(&reply.value)?.succeeded || (reply.again && !cfg!(canary = "no_resent")))
    }
}

/// The transaction that hangs the claim's key on a lease.
fn hung(entry: &Entry, lease: &Lease) -> Value {
    wire::txn(
        &[
            wire::is_of(&entry.key, entry.created.unwrap_or(0)),
            wire::says(&entry.key, entry.value.as_bytes()),
            wire::is_changed(&entry.key, entry.changed),
        ],
        &[wire::put(&entry.key, &entry.value, lease.id)],
        &[wire::ranged(wire::get(&entry.key))],
    )
}
