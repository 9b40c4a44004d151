//! Several requests to one server in one round trip.

use super::client::{Redis, Turn};
use super::connection::{Broken, Connection};
use super::nodes::Node;
use crate::Result;
use crate::lease::BootTime;
use redis::Value;

impl Redis {
    /// Sends them all, and reads their replies: as many as came, and what went wrong if that is not all. Whether
    /// something may be granted by them.
    /// Nothing is sent again.
    pub fn pipeline(
        &self,
        node: &Node,
        requests: &[Vec<u8>],
        grants: bool,
        limit: BootTime,
    ) -> (Vec<Value>, Option<Broken>) {
        let mut replies = Vec::with_capacity(requests.len());
        let broken = self.fill(node, requests, grants, limit, &mut replies).err();
        if broken.is_some()
            && let Some(process) = self.known_process()
        {
            self.drop_idle(process, node);
            self.distrust(process, node);
        }
        (replies, broken)
    }

    fn fill(
        &self,
        node: &Node,
        requests: &[Vec<u8>],
        grants: bool,
        limit: BootTime,
        replies: &mut Vec<Value>,
    ) -> std::result::Result<(), Broken> {
        let unsent = |error| Broken { error, sent: false };
        let process = self.process().map_err(unsent)?;
        let mut connection = self.connect(node, Turn::First, limit).map_err(unsent)?;
        if grants && let Some(refusal) = connection.refusal() {
            replies.resize(requests.len(), refusal);
            return Ok(());
        }
        match read_all(&mut connection, requests, limit, replies) {
            Ok(()) => {
                self.keep(process, connection);
                Ok(())
            }
            Err(broken) => {
                if broken.sent {
                    // What is still on its way must not act after what is asked next.
                    process.unended.add(&connection.node, connection.id);
                }
                Err(broken)
            }
        }
    }

    /// As `pipeline`, for requests that only read: all replies or none.
    pub fn many(&self, node: &Node, requests: &[Vec<u8>], limit: BootTime) -> Result<Vec<Value>> {
        if requests.is_empty() {
            return Ok(Vec::new());
        }
        match self.pipeline(node, requests, false, limit) {
            (replies, None) => Ok(replies),
            (_, Some(broken)) => Err(broken.error),
        }
    }
}

fn read_all(
    connection: &mut Connection,
    requests: &[Vec<u8>],
    limit: BootTime,
    replies: &mut Vec<Value>,
) -> std::result::Result<(), Broken> {
    replies.push(connection.exchange(&requests.concat(), limit)?);
    while replies.len() < requests.len() {
        let reply = connection.reply(limit);
        replies.push(reply.map_err(|error| Broken { error, sent: true })?);
    }
    Ok(())
}
