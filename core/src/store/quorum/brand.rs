//! The brand: a hash, in every owner token of a quorum, of what all its processes must have in common.
//!
//! Two majorities of different members need not meet, and a shorter `max_ttl` lets a member vote that may have
//! forgotten a longer lease. A member that is busy shows whose hold it has, and so whether that was counted by
//! the same rules. Nothing is kept for it anywhere: with its last hold a set-up is gone.

use super::config::Quorum;
use super::members::Process;
use super::round::Answers;
use crate::codes::Code;
use crate::owner::Brand;
use crate::store::{Backend, Claim};
use crate::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// For how long a name's holders need not be looked at again by who is refused anyway.
const PAUSE: Duration = Duration::from_secs(1);

/// How long the first round of a process hears members that it would not have to wait for.
pub(super) const FIRST_LINGER: Duration = Duration::from_millis(100);

/// FNV-1a of 64 bits, folded.
pub(super) fn of(text: &str) -> Brand {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let folded = hash ^ hash >> 24 ^ hash >> 48;
    let [.., a, b, c] = folded.to_be_bytes();
    [a, b, c]
}

impl Quorum {
    /// What all processes must have in common, as text.
    pub(super) fn set_up(&self) -> String {
        let mut members: Vec<String> = self.members.iter().map(|one| one.identity()).collect();
        members.sort_unstable();
        let members = match &self.name {
            Some(name) => format!("={name}"),
            None => members.join(","),
        };
        // Who asks no server forgets nothing.
        let max_ttl = if self.remote {
            self.max_ttl
        } else {
            Duration::ZERO
        };
        let strategy = if self.unanimous {
            "unanimous"
        } else {
            "majority"
        };
        format!(
            "quorum:{strategy}:{}:{}:({members})",
            self.rule.of,
            max_ttl.as_millis()
        )
    }

    pub(super) fn in_words(&self) -> String {
        let strategy = if self.unanimous { "all" } else { "a majority" };
        let members = match &self.name {
            Some(name) => format!("the {} of config={name}", self.members.len()),
            None => self.url.clone(),
        };
        format!(
            "here {strategy} of {members}, max_ttl={}",
            self.max_ttl.as_millis()
        )
    }

    /// Ends a hold of which was found out too late for its grant that another set-up has one beside it.
    ///
    /// # Errors
    /// That, once.
    pub(super) fn end_misfit(&self, claim: &Claim) -> Result<()> {
        match self.process().take_misfit(claim.token) {
            Some(error) => {
                self.leave(claim);
                Err(error)
            }
            None => Ok(()),
        }
    }

    /// The same of what a member that is a quorum has found out.
    ///
    /// # Errors
    /// That.
    pub(super) fn end_told<T>(&self, claim: &Claim, answers: &mut Answers<T>) -> Result<()> {
        let says_so =
            |(_, answer): &(usize, Result<T>)| answer.as_ref().is_err_and(Error::ends_hold);
        let told = answers
            .iter()
            .position(says_so)
            .map(|at| answers.swap_remove(at));
        match told {
            Some((_, Err(error))) => {
                self.leave(claim);
                Err(error)
            }
            _ => Ok(()),
        }
    }
}

/// What a round needs to tell other set-ups.
#[derive(Clone)]
pub(super) struct Watch {
    /// Whether whoever is refused looks why.
    pub is_due: bool,
    set_up: Arc<str>,
}

impl Watch {
    pub fn of(quorum: &Quorum, claim: &Claim) -> Self {
        Watch {
            is_due: quorum.process().is_due(&claim.name, PAUSE),
            set_up: quorum.set_up.clone(),
        }
    }

    /// Looks at the holders of a member that is busy. What it does not tell leaves it busy.
    ///
    /// # Errors
    /// If one of them holds by a quorum of another set-up.
    pub fn look(&self, member: &dyn Backend, claim: &Claim, process: &Process) -> Result<()> {
        // What has none was not drawn for a quorum.
        let Some(own) = claim.token.brand() else {
            return Ok(());
        };
        let Ok(found) = member.inspect(&claim.name, claim.deadline) else {
            return Ok(());
        };
        let brands = || found.holders.iter().filter_map(|holder| holder.brand);
        if brands().all(|brand| brand == own) || cfg!(canary = "any_brand") {
            process.has_looked(&claim.name, PAUSE);
            return Ok(());
        }
        Err(Error::new(
            Code::InvalidUrl,
            format!(
                "{} votes in a quorum that is set up in another way, which holds this lock: the members with their databases and prefixes, `strategy` and `max_ttl` must be the same in every process ({}); where hosts spell the same members in different ways, `config=NAME` stands for their list",
                member.url(),
                self.set_up,
            ),
        )
        .ending_hold())
    }
}
