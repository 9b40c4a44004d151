//! Requests and their replies: sent over a kept or a new connection, again after trouble, and to another server.

use super::client::{Process, Redis, Turn};
use super::config::Place;
use super::connection::{Broken, Connection, check, pack};
use super::nodes::{Next, Node};
use crate::Result;
use crate::codes::Code;
use crate::error::Error;
use crate::lease::BootTime;
use crate::owner::OwnerToken;
use redis::Value;
use std::time::Duration;

/// How often an answer may send a request to another server.
const MOST_MOVES: u32 = 16;
/// Between attempts to connect to a server that refuses.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// Between looks for the server that has a failed one's place.
const FAILOVER_PAUSE: Duration = Duration::from_millis(100);

/// A request on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub bytes: &'a [u8],
    /// Of a Cluster, where its key is.
    pub slot: u16,
    /// Asks how many replicas have what it wrote.
    pub acks: bool,
    /// For whom, where a release of that token undoes all that it does.
    pub token: Option<OwnerToken>,
    /// Something may be granted by it.
    pub grants: bool,
    pub turn: Turn,
    /// Not again once it may have been carried out.
    pub once: bool,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Reply {
    pub value: Value,
    /// The request was sent more than once.
    pub resent: bool,
    /// Replicas that have it, if that was asked.
    pub acks: Option<i64>,
}

/// A call that failed: whether the server may have carried it out decides the code.
pub(super) fn settle(broken: Broken) -> Error {
    if broken.sent && broken.error.code() == Code::Unavailable {
        in_doubt(&broken.error)
    } else {
        broken.error
    }
}

/// An error of a request that was sent before: whatever it says, what came of that is not known.
pub(super) fn in_doubt(error: &Error) -> Error {
    let words = format!("{}; the request may have been carried out", error.message());
    Error::new(Code::Uncertain, words)
}

impl Redis {
    /// Sends a request over a kept or a new connection, and to another server as answers say. A lost
    /// reply is asked for again, on a new connection, after the old one was ended on the server; so the
    /// request must be idempotent.
    pub fn exchange(&self, request: Request<'_>, limit: BootTime) -> Result<Reply> {
        self.exchange_on(None, request, limit)
    }

    /// As `exchange`, on this connection first, if there is one.
    pub fn exchange_on(
        &self,
        mut first: Option<Connection>,
        request: Request<'_>,
        limit: BootTime,
    ) -> Result<Reply> {
        let process = self.process()?;
        let mut sent_before = false;
        let mut asked: Option<Node> = None;
        let mut moves = 0;
        loop {
            let once = self.once(process, first.take(), request, asked.take(), limit);
            let (mut broken, moved) = match once {
                Err(broken) => (broken, false),
                Ok((value, acks, node)) => {
                    match process
                        .nodes
                        .next(&self.config, &value, &node, request.slot)
                    {
                        Next::Stay => {
                            return Ok(Reply {
                                value,
                                resent: sent_before,
                                acks,
                            });
                        }
                        next => {
                            let moved = matches!(next, Next::Move | Next::Ask(_));
                            match next {
                                Next::Elsewhere => self.distrust(process, &node),
                                Next::Ask(node) => asked = Some(node),
                                Next::Stay | Next::Move | Next::Later => {}
                            }
                            moves += u32::from(moved);
                            (unserved(value), moved && moves <= MOST_MOVES)
                        }
                    }
                }
            };
            let earlier = sent_before;
            sent_before |= broken.sent;
            broken.sent = sent_before;
            if moved && !limit.has_passed() {
                continue;
            }
            let is_done = request.once && sent_before && !cfg!(canary = "send_twice");
            if is_done || !self.pauses_after(&broken.error, limit) {
                return Err(match broken.error.code() {
                    Code::Unavailable | Code::Uncertain => settle(broken),
                    _ if earlier => in_doubt(&broken.error),
                    _ => broken.error,
                });
            }
        }
    }

    /// Before another try, if there is time for one after this error.
    fn pauses_after(&self, error: &Error, limit: BootTime) -> bool {
        let pause = match self.config.place {
            Place::One(_) => RETRY_PAUSE,
            Place::Sentinel { .. } | Place::Cluster(_) => FAILOVER_PAUSE,
        };
        let again = error.code() == Code::Unavailable && BootTime::now().after(pause) < limit;
        if again {
            std::thread::sleep(pause);
        }
        again
    }

    /// Sees to it that wake-ups are heard; tried again as requests are.
    pub fn subscribe(&self, limit: BootTime) -> Result<()> {
        let subscription = &self.process()?.subscription;
        loop {
            match subscription.ensure(|| self.connect_any(limit), limit) {
                Err(error) if self.pauses_after(&error, limit) => {}
                done => return done,
            }
        }
    }

    /// One try: the answer, how many replicas have it, and who gave it.
    fn once(
        &self,
        process: &Process,
        first: Option<Connection>,
        request: Request<'_>,
        asked: Option<Node>,
        limit: BootTime,
    ) -> std::result::Result<(Value, Option<i64>, Node), Broken> {
        let unsent = |error| Broken { error, sent: false };
        let begun = BootTime::now();
        let asks = asked.is_some();
        let node = match asked {
            Some(node) => node,
            None => process
                .nodes
                .target(&self.config, request.slot, limit)
                .map_err(unsent)?,
        };
        let connected = first.map_or_else(|| self.connect(&node, request.turn, limit), Ok);
        let mut connection = match connected {
            Ok(connection) => connection,
            Err(error) => {
                self.distrust(process, &node);
                return Err(unsent(error));
            }
        };
        if request.grants
            && let Some(refusal) = connection.refusal()
        {
            return Ok((refusal, None, node));
        }
        // A request that is still on its way on the old connection must not act after this one.
        let ends = process.unended.beside(&connection);
        let acks = request
            .acks
            .then_some((self.config.min_acks, self.config.ack_timeout));
        match send_on(&mut connection, &ends, asks, acks, request.bytes, limit) {
            Ok((value, acks)) => {
                process.unended.forget(&connection, &ends);
                self.keep(process, connection);
                Ok((value, acks, node))
            }
            Err(broken) => {
                if cfg!(canary = "keep_broken") {
                    self.keep(process, connection);
                    return Err(broken);
                }
                let is_alone = ends.is_empty() && !asks && acks.is_none();
                let had_time = limit.since(begun) >= self.config.io_timeout.mul_f32(0.9);
                let (at, id) = (connection.node.clone(), connection.id);
                // Where there are several servers, another may have to be asked.
                let may_wait = is_alone && !had_time && self.only_node().is_some();
                if let Some(token) = request.token.filter(|_| may_wait)
                    && self.leave_reply(process, connection, token)
                {
                    return Err(broken);
                }
                if broken.sent {
                    process.unended.add(&at, id);
                }
                self.drop_idle(process, &node);
                self.distrust(process, &node);
                Err(broken)
            }
        }
    }

    /// A server failed: where there are several, another may have its place.
    pub fn distrust(&self, process: &Process, node: &Node) {
        if !matches!(self.config.place, Place::One(_)) {
            process.nodes.distrust(node);
            process.subscription.distrust(node);
        }
    }

    /// Sends a request that concerns no lock.
    pub fn one(&self, bytes: &[u8], limit: BootTime) -> Result<Value> {
        let request = Request {
            bytes,
            slot: 0,
            acks: false,
            token: None,
            grants: false,
            turn: Turn::Any,
            once: false,
        };
        self.exchange(request, limit).map(|reply| reply.value)
    }
}

/// An error in place of an answer, of a server that did nothing.
fn unserved(value: Value) -> Broken {
    let error = match check(value) {
        Err(error) => Error::new(Code::Unavailable, error.message().to_owned()),
        Ok(_) => Error::new(Code::Unavailable, "the servers point to one another"),
    };
    Broken { error, sent: false }
}

/// Asks how many replicas have what was written before.
pub(super) fn ack_request(count: u32, time: Duration, limit: BootTime) -> Vec<u8> {
    // Half of what is left at most, so that its answer arrives.
    let time = time.min(limit.left() / 2).as_millis().max(1).to_string();
    pack(&[b"WAIT", count.to_string().as_bytes(), time.as_bytes()])
}

/// Sends a request, with what goes before and after it, and reads the reply.
fn send_on(
    connection: &mut Connection,
    ends: &[i64],
    asks: bool,
    acks: Option<(u32, Duration)>,
    request: &[u8],
    limit: BootTime,
) -> std::result::Result<(Value, Option<i64>), Broken> {
    if ends.is_empty() && !asks && acks.is_none() {
        return connection
            .exchange(request, limit)
            .map(|value| (value, None));
    }
    let mut all = Vec::new();
    let mut before = 0;
    // A server that numbers a new connection lower has begun anew: that number is another client's by now.
    let newest = connection.id.filter(|_| connection.is_new);
    for id in ends.iter().filter(|id| newest.is_none_or(|own| **id < own)) {
        all.extend(pack(&[
            b"CLIENT",
            b"KILL",
            b"ID",
            id.to_string().as_bytes(),
        ]));
        before += 1;
    }
    if asks {
        all.extend(pack(&[b"ASKING"]));
        before += 1;
    }
    all.extend_from_slice(request);
    if let Some((count, time)) = acks {
        all.extend(ack_request(count, time, limit));
    }
    let lost = |error| Broken { error, sent: true };
    let mut value = connection.exchange(&all, limit)?;
    for _ in 0..before {
        value = connection.reply(limit).map_err(lost)?;
    }
    let acks = match acks {
        None => None,
        Some(_) => match connection.reply(limit).map_err(lost)? {
            Value::Int(number) => Some(number),
            _ => Some(0),
        },
    };
    Ok((value, acks))
}
