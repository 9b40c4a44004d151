//! Claims that are asked for, lengthened or given back together: one round trip for each server that keeps some.

use super::answers::number;
use super::client::Redis;
use super::connection::Broken;
use super::exchange::{ack_request, settle};
use super::nodes::{Next, Node, share};
use super::pipe;
use super::scripts::Verb;
use super::verbs::{Asking, millis};
use crate::codes::Code;
use crate::lease::BootTime;
use crate::store::{Answer, Attempt, Backend, Claim};
use crate::{Error, Result};
use redis::Value;
use std::time::Duration;

/// How often those are asked for again whom an answer sent elsewhere.
const MOST_ROUNDS: u32 = 3;

/// What is asked for one claim.
pub(super) trait Wish {
    type Answer;
    /// Whether something is granted by it, which replicas are to have.
    const GRANTS: bool;

    fn claim(&self) -> &Claim;

    /// The verb, and its words.
    fn words(&self, redis: &Redis) -> Result<(Verb, Vec<Vec<u8>>)>;

    /// What the reply means to a request that was sent at `before`.
    fn read(
        &self,
        redis: &Redis,
        before: BootTime,
        reply: Value,
        acks: Option<i64>,
    ) -> Result<Self::Answer>;

    /// Whether something comes before it that others must not wait for.
    fn goes_alone(&self, _: &Redis) -> bool {
        false
    }

    /// The same by itself.
    fn alone(&self, redis: &Redis) -> Result<Self::Answer>;
}

/// A hold is to last so much longer.
pub(super) struct Longer<'a>(pub &'a Claim, pub Duration);

impl Wish for Longer<'_> {
    type Answer = Answer;
    const GRANTS: bool = true;

    fn claim(&self) -> &Claim {
        self.0
    }

    fn words(&self, _: &Redis) -> Result<(Verb, Vec<Vec<u8>>)> {
        let words = [self.0.token.to_hex(), millis(self.1)];
        Ok((Verb::Extend, words.map(String::into_bytes).to_vec()))
    }

    fn read(
        &self,
        redis: &Redis,
        before: BootTime,
        reply: Value,
        acks: Option<i64>,
    ) -> Result<Answer> {
        redis.extended(self.0, self.1, before, &reply, acks)
    }

    fn alone(&self, redis: &Redis) -> Result<Answer> {
        redis.extend(self.0, self.1)
    }
}

/// A hold is wanted, if the lock is free.
pub(super) struct Taking<'a>(pub &'a Claim);

impl Wish for Taking<'_> {
    type Answer = Attempt;
    const GRANTS: bool = true;

    fn claim(&self) -> &Claim {
        self.0
    }

    fn words(&self, redis: &Redis) -> Result<(Verb, Vec<Vec<u8>>)> {
        let asking = Asking::new(self.0, redis.who(self.0.label.as_deref())?);
        let words = asking.args(None).into_iter().map(<[u8]>::to_vec);
        Ok((Verb::Acquire, words.collect()))
    }

    fn read(
        &self,
        redis: &Redis,
        before: BootTime,
        reply: Value,
        acks: Option<i64>,
    ) -> Result<Attempt> {
        redis.answer(self.0, before, false, reply, acks)
    }

    /// A release of that name must be seen through first.
    fn goes_alone(&self, redis: &Redis) -> bool {
        let process = redis.known_process();
        process.is_some_and(|process| process.owed.has(&self.0.name))
    }

    fn alone(&self, redis: &Redis) -> Result<Attempt> {
        redis.attempt(self.0, None)
    }
}

/// A hold is over.
pub(super) struct Leaving<'a>(pub &'a Claim);

impl Wish for Leaving<'_> {
    type Answer = Answer;
    const GRANTS: bool = false;

    fn claim(&self) -> &Claim {
        self.0
    }

    fn words(&self, _: &Redis) -> Result<(Verb, Vec<Vec<u8>>)> {
        Ok((Verb::Release, vec![self.0.token.to_hex().into_bytes()]))
    }

    fn read(&self, redis: &Redis, _: BootTime, reply: Value, _: Option<i64>) -> Result<Answer> {
        redis.forget(self.0);
        pipe::released(&reply)
    }

    fn alone(&self, redis: &Redis) -> Result<Answer> {
        redis.release(self.0)
    }
}

/// Those of one server: their places among the wishes, their slots and their requests.
struct Batch {
    node: Node,
    places: Vec<usize>,
    slots: Vec<u16>,
    requests: Vec<Vec<u8>>,
}

/// Answers each wish, as many as there are.
pub(super) fn ask_all<W: Wish>(redis: &Redis, wishes: &[W]) -> Vec<Result<W::Answer>> {
    let mut answers: Vec<Option<Result<W::Answer>>> = wishes.iter().map(|_| None).collect();
    let nearest = wishes.iter().filter_map(|wish| wish.claim().deadline).min();
    let limit = redis.limit(nearest);
    for _ in 0..MOST_ROUNDS {
        let open = open(&answers);
        if open.is_empty() || limit.has_passed() {
            break;
        }
        let batches = sort(redis, wishes, &open, limit, &mut answers);
        for (done, batch) in batches.iter().enumerate() {
            // A server that is deaf must not use up the time of the others.
            let limit = share(limit, batches.len() - done);
            ask(redis, wishes, batch, limit, &mut answers);
        }
    }
    // Few are left: a slot that is on its way to another server sends each elsewhere once.
    for place in open(&answers) {
        if limit.has_passed() {
            break;
        }
        answers[place] = Some(wishes[place].alone(redis));
    }
    let late = || Error::new(Code::Unavailable, "the servers could not serve in time");
    let answers = answers.into_iter();
    answers
        .map(|answer| answer.unwrap_or_else(|| Err(late())))
        .collect()
}

fn open<T>(answers: &[Option<Result<T>>]) -> Vec<usize> {
    let all = answers.iter().enumerate();
    all.filter(|(_, answer)| answer.is_none())
        .map(|(place, _)| place)
        .collect()
}

/// By server.
fn sort<W: Wish>(
    redis: &Redis,
    wishes: &[W],
    open: &[usize],
    limit: BootTime,
    answers: &mut [Option<Result<W::Answer>>],
) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    let form = redis.form(redis.is_bare());
    for &place in open {
        let wish = &wishes[place];
        if redis.is_scriptless() || wish.goes_alone(redis) {
            answers[place] = Some(wish.alone(redis));
            continue;
        }
        let (verb, words) = match wish.words(redis) {
            Ok(asked) => asked,
            Err(error) => {
                answers[place] = Some(Err(error));
                continue;
            }
        };
        let args: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let (request, slot) = redis.request(form, verb, &wish.claim().name, &args, false);
        let node = redis
            .process()
            .and_then(|process| process.nodes.target(&redis.config, slot, limit));
        let node = match node {
            Ok(node) => node,
            Err(error) => {
                answers[place] = Some(Err(error));
                continue;
            }
        };
        let known = batches.iter().position(|batch| batch.node == node);
        let at = known.unwrap_or_else(|| {
            batches.push(Batch {
                node,
                places: Vec::new(),
                slots: Vec::new(),
                requests: Vec::new(),
            });
            batches.len() - 1
        });
        batches[at].places.push(place);
        batches[at].slots.push(slot);
        batches[at].requests.push(request);
    }
    batches
}

fn ask<W: Wish>(
    redis: &Redis,
    wishes: &[W],
    batch: &Batch,
    limit: BootTime,
    answers: &mut [Option<Result<W::Answer>>],
) {
    let before = BootTime::now();
    let mut requests = batch.requests.clone();
    let wants_acks = W::GRANTS && redis.config.min_acks > 0;
    if wants_acks {
        // Of all that was written before it.
        requests.push(ack_request(
            redis.config.min_acks,
            redis.config.ack_timeout,
            limit,
        ));
    }
    let (mut replies, broken) = redis.pipeline(&batch.node, &requests, W::GRANTS, limit);
    let mut acks = None;
    if wants_acks {
        let last = (broken.is_none()).then(|| replies.pop()).flatten();
        replies.truncate(batch.places.len());
        acks = Some(last.as_ref().and_then(number).unwrap_or(0));
    }
    let mut replies = replies.into_iter();
    let mut first = true;
    for (&place, &slot) in batch.places.iter().zip(&batch.slots) {
        let wish = &wishes[place];
        answers[place] = match (replies.next(), &broken) {
            (Some(error @ Value::ServerError(_)), _) => {
                let stays = look_elsewhere(redis, batch, &error, slot);
                // What one has to do, to load the script for instance, serves the others too.
                (stays && std::mem::take(&mut first)).then(|| wish.alone(redis))
            }
            (Some(reply), _) => Some(wish.read(redis, before, reply, acks)),
            (None, Some(broken)) => Some(Err(unanswered(broken))),
            (None, None) => None,
        };
    }
}

/// Whether an error in place of an answer has nothing to do with the server it came from.
fn look_elsewhere(redis: &Redis, batch: &Batch, error: &Value, slot: u16) -> bool {
    let Some(process) = redis.known_process() else {
        return true;
    };
    match process.nodes.next(&redis.config, error, &batch.node, slot) {
        Next::Move => false,
        Next::Elsewhere => {
            redis.distrust(process, &batch.node);
            false
        }
        Next::Stay | Next::Ask(_) | Next::Later => true,
    }
}

fn unanswered(broken: &Broken) -> Error {
    let error = Error::new(broken.error.code(), broken.error.message());
    let sent = broken.sent;
    settle(Broken { error, sent })
}
