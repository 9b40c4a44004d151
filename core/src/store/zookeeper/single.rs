//! Symfony's way: the lock is one node of the session with the owner's token in it. Nobody stands in
//! line; whoever waits looks again when the node is gone.

use super::client::{Node, Zookeeper, node_of, odd, refusal, settle};
use super::names;
use super::record::symfony_token;
use super::session::Broken;
use super::wire::{self, Kind};
use crate::codes::Code;
use crate::lease::BootTime;
use crate::signal::Signal;
use crate::store::{Answer, Attempt, Busy, Claim};
use crate::{Error, Result};
use std::sync::Arc;

/// How often the node may come and go within one attempt.
const ROUNDS: usize = 4;
/// When to ask again if it did so all the time.
const SOON: std::time::Duration = std::time::Duration::from_millis(20);

impl Zookeeper {
    pub fn take_single(
        &self,
        claim: &Claim,
        bell: Option<&Arc<Signal>>,
        limit: BootTime,
    ) -> Result<Attempt> {
        let path = names::node(&self.config, &claim.name)?;
        let process = self.process()?;
        let frame = wire::create(&path, &self.data(claim)?, Kind::Ephemeral, self.access());
        for _ in 0..ROUNDS {
            let standing = process.known(claim.token).and_then(|entry| entry.node);
            if standing.is_none() {
                process.note(claim.token, |_| {});
                let [slot] = process.session.send([frame.clone()], limit)?;
                match process.session.wait(&slot, limit) {
                    Ok(reply) if reply.error == 0 => {
                        let node = node_of(&reply)?;
                        process.note(claim.token, |entry| entry.node = Some(node.clone()));
                        return self.granted(claim, &node);
                    }
                    Ok(reply) if reply.error == wire::NO_NODE => {
                        process.forget(claim.token);
                        self.make_folder(names::parent(&path), &[], Kind::Persistent, limit)?;
                        continue;
                    }
                    Ok(reply) if reply.error == wire::NODE_EXISTS => {}
                    Ok(reply) => {
                        process.forget(claim.token);
                        return Err(refusal(reply.error));
                    }
                    Err(Broken::Cut) => {}
                    Err(broken) => {
                        if matches!(broken, Broken::Unsent(_)) {
                            process.forget(claim.token);
                        }
                        return Err(settle(broken));
                    }
                }
            }
            if let Some(bell) = bell {
                process.watch(claim.token, &path, bell);
            }
            match self.ours(claim, &path, bell.is_some(), limit)? {
                Owner::Us(node) => {
                    process.unwatch(claim.token);
                    process.note(claim.token, |entry| entry.node = Some(node.clone()));
                    return self.granted(claim, &node);
                }
                Owner::Other if bell.is_some() => {
                    process.note(claim.token, |entry| entry.node = None);
                    return Ok(Attempt::Busy(Busy::default()));
                }
                Owner::Other => {
                    process.forget(claim.token);
                    return Ok(Attempt::Busy(Busy::default()));
                }
                Owner::Nobody => {
                    process.unwatch(claim.token);
                    process.note(claim.token, |entry| entry.node = None);
                }
            }
        }
        process.forget(claim.token);
        Ok(Attempt::Busy(Busy {
            until: None,
            poll: Some(BootTime::now().after(SOON)),
            ..Busy::default()
        }))
    }

    /// Whose the node is at this moment.
    fn ours(&self, claim: &Claim, path: &str, watch: bool, limit: BootTime) -> Result<Owner> {
        let reply = self.read_fresh(path, &wire::get(path, watch), limit)?;
        match reply.error {
            wire::NO_NODE => return Ok(Owner::Nobody),
            0 => {}
            number => return Err(refusal(number)),
        }
        let mut body = wire::In(&reply.body);
        let data = body.bytes().ok_or_else(odd)?;
        let is_ours = data == symfony_token(claim.token).as_bytes();
        let stat = body.stat().ok_or_else(odd)?;
        if !is_ours || stat.owner != reply.life.id {
            return Ok(Owner::Other);
        }
        Ok(Owner::Us(Node {
            path: path.to_owned(),
            fence: stat.created_by,
            life: reply.life,
        }))
    }

    /// Deletes the node if it is this claim's. A stranger who deletes it by force and makes his own at
    /// this very moment loses it: the name is the peer's, and the server compares no owner.
    pub fn release_single(&self, claim: &Claim, limit: BootTime) -> Result<Answer> {
        let path = names::node(&self.config, &claim.name)?;
        let process = self.process()?;
        let owner = self
            .ours(claim, &path, false, limit)
            .map_err(|error| match error.code() {
                // It may have been made by a request whose answer is still awaited.
                Code::Unavailable => Error::new(Code::Uncertain, error.message()),
                _ => error,
            })?;
        let done = match owner {
            Owner::Us(node) => self.delete(&node.path, Some(node.fence), limit)?,
            Owner::Other | Owner::Nobody => false,
        };
        process.forget(claim.token);
        Ok(if done {
            Answer::Done(None)
        } else {
            Answer::NotOurs
        })
    }

    pub fn holds_single(&self, claim: &Claim, limit: BootTime) -> Result<bool> {
        let path = names::node(&self.config, &claim.name)?;
        Ok(matches!(
            self.ours(claim, &path, false, limit)?,
            Owner::Us(_)
        ))
    }
}

enum Owner {
    Us(Node),
    Other,
    Nobody,
}
