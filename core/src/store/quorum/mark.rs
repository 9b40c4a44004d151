//! The mark of a quorum's members: by which members, strategy and `max_ttl` a member's votes are counted.
//!
//! A lock of a name of its own on each member, whose token is made of all that processes must have in
//! common: those that agree have it together, since asking again renews, and for anybody else it is busy.
//! Two majorities of different members need not meet, and a shorter `max_ttl` lets a member vote that
//! remembers nothing of a longer lease.

use super::config::Quorum;
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::store::{Attempt, Backend, Claim};
use crate::{Code, Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// The mark's name on each member.
const NAME: &[u8] = b"synlock: whose votes these are";

/// What all processes that use a quorum must have in common.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    token: OwnerToken,
    /// In words, for whoever has another.
    label: Arc<str>,
    max_ttl: Duration,
}

fn fnv(text: &str, mut hash: u64) -> u64 {
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

impl Mark {
    /// None where nothing is to be remembered.
    pub fn of(quorum: &Quorum) -> Option<Self> {
        if quorum.cold_start {
            return None;
        }
        let all = format!("{}, {:?}", quorum.fingerprint(), quorum.max_ttl);
        let halves = [0xcbf2_9ce4_8422_2325, 0x6c62_272e_07bb_0142].map(|seed| fnv(&all, seed));
        let mut bytes = [0; 16];
        for (to, from) in bytes
            .iter_mut()
            .zip(halves.iter().flat_map(|half| half.to_be_bytes()))
        {
            *to = from;
        }
        let need = quorum.rule;
        Some(Mark {
            token: OwnerToken::from_bytes(bytes),
            label: format!(
                "{} of {}, max_ttl={}, members {:08x}",
                need.need,
                need.of,
                quorum.max_ttl.as_millis(),
                halves[0] >> 32
            )
            .into(),
            max_ttl: quorum.max_ttl,
        })
    }

    /// For how long a member has not to be asked again: a hold that is granted now ends before the mark does.
    pub fn pause(&self) -> Duration {
        self.max_ttl
    }

    /// Puts the mark, or finds it.
    ///
    /// # Errors
    /// `InvalidUrl` if the member has another one; whatever the member answers.
    pub fn put(&self, member: &dyn Backend, deadline: Option<BootTime>) -> Result<()> {
        let can = member.capabilities();
        // What keeps leases by a server's clock is reached from several hosts. A quorum marks its own members.
        if can.store == "quorum"
            || can.clock != "server"
            || !can.ttl
            || cfg!(canary = "any_members")
        {
            return Ok(());
        }
        let name = Name::new(NAME)?;
        let ttl = self.max_ttl * 2;
        let claim = Claim {
            name: name.clone(),
            token: self.token,
            mode: Mode::Exclusive,
            ttl: Some(ttl),
            deadline,
            fence_block: 1,
            label: Some(self.label.clone()),
            fair: false,
            asked: BootTime::now(),
            seat: Default::default(),
        };
        if let Attempt::Granted(_) = member.attempt(&claim, None)? {
            return Ok(());
        }
        let found = member.inspect(&name, deadline)?;
        let Some(holder) = found.holders.first() else {
            return Err(Error::new(Code::Unavailable, "a mark that came and went"));
        };
        // A store need not grant twice to say that it is ours.
        if !holder.owner.is_empty() && self.token.to_hex().starts_with(&holder.owner) {
            let _ = member.extend(&claim, ttl);
            return Ok(());
        }
        Err(Error::new(
            Code::InvalidUrl,
            format!(
                "{} votes in a quorum that is set up in another way: here {}, there {}; members (in the same words), strategy and max_ttl must be the same in every process, or the prefix another (after a change the old ones count for {:.0} s more)",
                member.url(),
                self.label,
                holder.label.as_deref().unwrap_or("unknown"),
                holder.remaining.unwrap_or(ttl).as_secs_f64(),
            ),
        ))
    }
}
