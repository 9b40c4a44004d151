//! Leases. Each claim has one of its own, so that ending the lease ends whatever of the claim may still be
//! under way. One that is free again serves the next claim: a lock that is taken over and over asks for none.

use super::client::{Etcd, Fault};
use super::http::protocol;
use super::wire;
use crate::Result;
use crate::lease::BootTime;
use crate::owner::OwnerToken;
use crate::sync::Mutex;
use serde_json::Value;
use std::time::Duration;

/// Free leases that are kept; they end by themselves.
const MOST_FREE: usize = 64;
/// What a claim that waits is given: so long after its process' death it is in nobody's way.
pub(super) const WAITING: u64 = 5;
/// How often a waiter looks, and prolongs it.
pub(super) const LOOK: Duration = Duration::from_millis(1500);
/// The longest that etcd grants.
pub(super) const LONGEST: u64 = 9_000_000_000;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Lease {
    pub id: i64,
    /// The seconds that it was asked for, and those that it has: etcd grants no less than some.
    pub asked: u64,
    pub seconds: u64,
    /// Until when it surely lasts.
    pub sure: BootTime,
}

/// Those that are free.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<Vec<Lease>>);

/// The seconds of a hold's lease. One more than the TTL: within that second it serves again as it is.
pub(super) fn seconds(ttl: Duration) -> u64 {
    ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0) + 1
}

impl Leases {
    /// Puts back what no key hangs on, nor ever will.
    pub fn give(&self, lease: Lease) {
        let mut free = self.0.lock();
        if lease.sure.has_passed() {
            return;
        }
        if free.len() >= MOST_FREE {
            free.remove(0);
        }
        free.push(lease);
    }

    fn take(&self, asked: u64) -> Option<Lease> {
        let mut free = self.0.lock();
        free.retain(|lease| !lease.sure.has_passed());
        let at = free.iter().rposition(|lease| lease.asked == asked)?;
        Some(free.remove(at))
    }
}

impl Etcd {
    /// A lease of so many seconds that lasts for `least` from now on.
    pub fn lease(&self, asked: u64, least: Duration, limit: BootTime) -> Result<Lease> {
        let process = self.process()?;
        if let Some(mut lease) = process.leases.take(asked)
            && self.prolong(&mut lease, least, limit)?
        {
            return Ok(lease);
        }
        loop {
            let drawn = OwnerToken::draw()?;
            let half = drawn.as_bytes().iter().take(8);
            let id = half.fold(0i64, |id, byte| id << 8 | i64::from(*byte));
            let id = (id & i64::MAX).max(1);
            match self.act(wire::GRANT, &wire::new_lease(id, asked), limit) {
                Ok(reply) => {
                    return of(id, asked, reply.asked, &reply.value)
                        .ok_or_else(|| protocol("a lease without a length"));
                }
                // Somebody's, or ours by a request whose answer was lost.
                Err(Fault::LeaseExists) if !limit.has_passed() => {}
                // Nothing hangs on it, so that nothing is in doubt.
                Err(fault) => return Err(harmless(fault.into())),
            }
        }
    }

    /// Sees to it that a lease lasts for `least` from now on; false if it has run out.
    pub fn prolong(&self, lease: &mut Lease, least: Duration, limit: BootTime) -> Result<bool> {
        if lease.sure.left() >= least {
            return Ok(true);
        }
        self.keep_alive(lease, limit)
    }

    /// Begins a lease anew; false if it has run out.
    pub fn keep_alive(&self, lease: &mut Lease, limit: BootTime) -> Result<bool> {
        match self.act(wire::KEEP_ALIVE, &wire::lease(lease.id), limit) {
            Ok(reply) => {
                let answer = reply.value.get("result").unwrap_or(&Value::Null);
                match of(lease.id, lease.asked, reply.asked, answer) {
                    Some(longer) => {
                        lease.sure = longer.sure.max(lease.sure);
                        lease.seconds = longer.seconds;
                        Ok(true)
                    }
                    None => Ok(false),
                }
            }
            Err(Fault::LeaseGone) => Ok(false),
            Err(fault) => Err(fault.into()),
        }
    }

    /// Ends a lease, and with it the key that hangs on it; false if there is none any more.
    pub fn revoke(&self, id: i64, limit: BootTime) -> Result<bool> {
        match self.act(wire::REVOKE, &wire::lease(id), limit) {
            Ok(_) => Ok(true),
            Err(Fault::LeaseGone) => Ok(false),
            Err(fault) => Err(fault.into()),
        }
    }
}

pub(super) fn of(id: i64, asked: u64, sent: BootTime, answer: &Value) -> Option<Lease> {
    let seconds = u64::try_from(wire::number(answer, "TTL")).ok()?;
    (seconds > 0).then(|| Lease {
        id,
        asked,
        seconds,
        sure: sent.after(Duration::from_secs(seconds)),
    })
}

/// Nothing of a lock depends on it.
fn harmless(error: crate::Error) -> crate::Error {
    use crate::{Code, Error};
    if error.code() == Code::Uncertain {
        return Error::new(Code::Unavailable, "the server has not answered in time");
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(id: i64, asked: u64, sure: BootTime) -> Lease {
        Lease {
            id,
            asked,
            seconds: asked,
            sure,
        }
    }

    #[test]
    fn a_free_lease_serves_claims_of_its_length_while_it_lasts() {
        let leases = Leases::default();
        let later = BootTime::now().after(Duration::from_secs(60));
        leases.give(lease(1, 31, later));
        leases.give(lease(2, 6, later));
        leases.give(lease(3, 6, BootTime::from_nanos(1)));
        assert_eq!(leases.take(6).map(|lease| lease.id), Some(2));
        assert_eq!(leases.take(6), None);
        assert_eq!(leases.take(31).map(|lease| lease.id), Some(1));
    }

    #[test]
    fn seconds_are_never_less_than_the_ttl() {
        assert_eq!(seconds(Duration::from_millis(1000)), 2);
        assert_eq!(seconds(Duration::from_millis(1001)), 3);
        assert_eq!(seconds(Duration::from_secs(30)), 31);
    }
}
