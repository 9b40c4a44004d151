//! Leases that are lengthened together: one round trip for each server that keeps some of them.

use super::answers::number;
use super::client::Redis;
use super::connection::Broken;
use super::exchange::{ack_request, settle};
use super::nodes::{Next, Node, share};
use super::scripts::Verb;
use super::verbs::millis;
use crate::codes::Code;
use crate::lease::BootTime;
use crate::store::{Answer, Backend, Claim};
use crate::{Error, Result};
use redis::Value;
use std::time::Duration;

/// How often those are asked for again whom an answer sent elsewhere.
const MOST_ROUNDS: u32 = 3;

/// A claim, and how much longer it is to last.
type Wish<'a> = (&'a Claim, Duration);

/// Those of one server: their places among the wishes, their slots and their requests.
struct Batch {
    node: Node,
    places: Vec<usize>,
    slots: Vec<u16>,
    requests: Vec<Vec<u8>>,
}

/// Answers each wish, as many as there are.
pub(super) fn extend(redis: &Redis, wishes: &[Wish<'_>]) -> Vec<Result<Answer>> {
    let mut answers: Vec<Option<Result<Answer>>> = wishes.iter().map(|_| None).collect();
    let nearest = wishes.iter().filter_map(|(claim, _)| claim.deadline).min();
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
        let (claim, ttl) = wishes[place];
        answers[place] = Some(redis.extend(claim, ttl));
    }
    let late = || Error::new(Code::Unavailable, "the servers could not serve in time");
    let answers = answers.into_iter();
    answers
        .map(|answer| answer.unwrap_or_else(|| Err(late())))
        .collect()
}

fn open(answers: &[Option<Result<Answer>>]) -> Vec<usize> {
    let all = answers.iter().enumerate();
    all.filter(|(_, answer)| answer.is_none())
        .map(|(place, _)| place)
        .collect()
}

/// By server.
fn sort(
    redis: &Redis,
    wishes: &[Wish<'_>],
    open: &[usize],
    limit: BootTime,
    answers: &mut [Option<Result<Answer>>],
) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    let form = redis.form(redis.is_bare());
    for &place in open {
        let (claim, ttl) = wishes[place];
        if redis.is_scriptless() {
            answers[place] = Some(redis.extend(claim, ttl));
            continue;
        }
        let (token, ttl) = (claim.token.to_hex(), millis(ttl));
        let args = [token.as_bytes(), ttl.as_bytes()];
        let (request, slot) = redis.request(form, Verb::Extend, &claim.name, &args, false);
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

fn ask(
    redis: &Redis,
    wishes: &[Wish<'_>],
    batch: &Batch,
    limit: BootTime,
    answers: &mut [Option<Result<Answer>>],
) {
    let before = BootTime::now();
    let mut requests = batch.requests.clone();
    let wants_acks = redis.config.min_acks > 0;
    if wants_acks {
        // Of all that was written before it.
        requests.push(ack_request(
            redis.config.min_acks,
            redis.config.ack_timeout,
            limit,
        ));
    }
    let (mut replies, broken) = redis.pipeline(&batch.node, &requests, limit);
    let mut acks = None;
    if wants_acks {
        let last = (broken.is_none()).then(|| replies.pop()).flatten();
        replies.truncate(batch.places.len());
        acks = Some(last.as_ref().and_then(number).unwrap_or(0));
    }
    let mut replies = replies.into_iter();
    let mut first = true;
    for (&place, &slot) in batch.places.iter().zip(&batch.slots) {
        let (claim, ttl) = wishes[place];
        answers[place] = match (replies.next(), &broken) {
            (Some(error @ Value::ServerError(_)), _) => {
                let stays = look_elsewhere(redis, batch, &error, slot);
                // What one has to do, to load the script for instance, serves the others too.
                (stays && std::mem::take(&mut first)).then(|| redis.extend(claim, ttl))
            }
            (Some(reply), _) => Some(redis.extended(claim, ttl, before, &reply, acks)),
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
