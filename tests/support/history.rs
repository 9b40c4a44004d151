//! Histories of a lock, and whether a lock can have made them.
//!
//! Each operation is noted with the times before and after it, by one clock. A history is judged
//! sound if there is an order of grants and releases that explains every answer: no two holds that
//! are certain at one time, no `busy` while the lock cannot have been held, tokens that grow. What
//! was never answered may have happened at any time since.

use crate::page::SharedPage;
use std::sync::atomic::{AtomicU64, Ordering};

/// What was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Kind {
    /// The lock.
    Acquire = 0,
    /// Its end; also the death of the holder, or of what it was promised.
    Release = 1,
}

/// What was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Answer {
    /// Nothing, or nothing definite: it may have happened, or happen later.
    Unknown = 0,
    /// It was done.
    Done = 1,
    /// Somebody else held the lock.
    Busy = 2,
}

/// One operation of one client. A client's operations follow one another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Op {
    /// Who.
    pub client: u64,
    /// What.
    pub kind: Kind,
    /// Before it was asked for.
    pub invoked: u64,
    /// After the answer came; [`NEVER`] if none did.
    pub returned: u64,
    /// The answer.
    pub answer: Answer,
    /// The grant's fencing token; 0 for none.
    pub token: u64,
}

/// The time of an answer that never came.
pub const NEVER: u64 = u64::MAX;

/// What is wrong with a history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Operations judged.
    pub ops: usize,
    /// Grants among them.
    pub grants: usize,
    /// Holds that begin before another has ended.
    pub overlaps: usize,
    /// Refusals while nobody can have held the lock.
    pub false_busy: usize,
    /// Tokens that are not greater than the one before.
    pub regressions: usize,
}

impl Judgement {
    /// Whether a lock can have made it.
    pub fn is_sound(&self) -> bool {
        self.overlaps == 0 && self.false_busy == 0 && self.regressions == 0
    }

    /// Of two histories together.
    #[must_use]
    pub fn and(&self, other: &Judgement) -> Judgement {
        Judgement {
            ops: self.ops + other.ops,
            grants: self.grants + other.grants,
            overlaps: self.overlaps + other.overlaps,
            false_busy: self.false_busy + other.false_busy,
            regressions: self.regressions + other.regressions,
        }
    }
}

/// What becomes of a hold whose owner is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Orphans {
    /// It stays: a lock without leases whose store does not see its owners die.
    Stay,
    /// It ends some time after.
    End,
}

/// A grant, from one operation to the end of it.
#[derive(Clone, Copy, Debug)]
struct Hold {
    /// It cannot have begun before, and has begun by then.
    asked: u64,
    granted: u64,
    /// It has not ended before, and has ended by then.
    given_up: u64,
    gone: u64,
    token: u64,
}

/// Judges a history; `ops` may be in any order.
pub fn judge(ops: &[Op], orphans: Orphans) -> Judgement {
    let mut ops = ops.to_vec();
    ops.sort_unstable_by_key(|op| (op.client, op.invoked));
    let (mut holds, mut maybe) = pair(&ops);
    holds.sort_unstable_by_key(|hold| hold.granted);
    let mut judgement = Judgement {
        ops: ops.len(),
        grants: holds.len(),
        ..Judgement::default()
    };
    let mut held_until = 0;
    let mut token = 0;
    for hold in &holds {
        // Canary of row 43: looks at what is possible, not at what is certain.
        let begun = if cfg!(canary = "lenient_judge") {
            hold.granted.saturating_add(20)
        } else {
            hold.granted
        };
        judgement.overlaps += usize::from(begun < held_until);
        held_until = held_until.max(hold.given_up);
        if hold.token != 0 {
            judgement.regressions += usize::from(hold.token <= token);
            token = token.max(hold.token);
        }
    }
    // An unanswered release has happened by the next grant, whatever came of its reply.
    for at in 1..holds.len() {
        holds[at - 1].gone = holds[at - 1].gone.min(holds[at].granted);
    }
    if orphans == Orphans::Stay {
        // One that had taken the lock would have kept all later ones out.
        for hold in &mut maybe {
            hold.asked = hold.asked.max(held_until);
        }
    }
    let possible = holds.iter().chain(&maybe);
    let covered = union(possible.map(|hold| (hold.asked, hold.gone)).collect());
    let is_busy = |op: &&Op| op.kind == Kind::Acquire && op.answer == Answer::Busy;
    for op in ops.iter().filter(is_busy) {
        // The last stretch that begins before the answer came.
        let at = covered.partition_point(|(from, _)| *from <= op.returned);
        let explained = at
            .checked_sub(1)
            .and_then(|at| covered.get(at))
            .is_some_and(|(_, to)| *to >= op.invoked)
            || cfg!(canary = "believes_busy");
        judgement.false_busy += usize::from(!explained);
    }
    judgement
}

/// Grants that are certain, and those that may have been made; `ops` by client and time.
fn pair(ops: &[Op]) -> (Vec<Hold>, Vec<Hold>) {
    let (mut holds, mut maybe) = (Vec::new(), Vec::new());
    for (at, op) in ops.iter().enumerate() {
        if op.kind != Kind::Acquire || op.answer == Answer::Busy {
            continue;
        }
        let end = ops
            .get(at + 1)
            .filter(|next| next.client == op.client && next.kind == Kind::Release);
        let gone = match end {
            Some(end) if end.answer == Answer::Done => end.returned,
            _ => NEVER,
        };
        let hold = Hold {
            asked: op.invoked,
            granted: op.returned,
            given_up: end.map_or(NEVER, |end| end.invoked),
            gone,
            token: op.token,
        };
        if op.answer == Answer::Done {
            holds.push(hold);
        } else {
            maybe.push(hold);
        }
    }
    (holds, maybe)
}

/// Stretches that do not touch, in order.
fn union(mut stretches: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    stretches.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (from, to) in stretches {
        match joined.last_mut() {
            Some(last) if from <= last.1 => last.1 = last.1.max(to),
            _ => joined.push((from, to)),
        }
    }
    joined
}

/// Grants whose token is not greater than that of a grant that had returned before they were asked
/// for. Says nothing of holds, so it serves for stores that may lose them, too.
pub fn token_regressions(ops: &[Op]) -> usize {
    let granted = |op: &&Op| op.kind == Kind::Acquire && op.answer == Answer::Done;
    let mut asked: Vec<&Op> = ops.iter().filter(granted).collect();
    let mut returned = asked.clone();
    asked.sort_unstable_by_key(|op| op.invoked);
    returned.sort_unstable_by_key(|op| op.returned);
    let mut returned = returned.into_iter().peekable();
    let (mut greatest, mut regressions) = (0, 0);
    for op in asked {
        while let Some(earlier) = returned.next_if(|earlier| earlier.returned <= op.invoked) {
            greatest = greatest.max(earlier.token);
        }
        regressions += usize::from(op.token <= greatest);
    }
    regressions
}

/// One client's operations, written by one process and read by another; `N` of them at most.
#[derive(Debug)]
pub struct Tape<const N: usize> {
    length: AtomicU64,
    full: AtomicU64,
    ops: [[AtomicU64; 4]; N],
}

impl<const N: usize> Tape<N> {
    /// Notes an operation before it is asked for. Whoever dies now leaves it unanswered.
    pub fn begin(&self, kind: Kind, now: u64) {
        let at = self.length.load(Ordering::Relaxed);
        let Some(op) = self.ops.get(at as usize) else {
            // Several share the tape of those who are too many: the earliest counts.
            let _ = self
                .full
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full| {
                    (full == 0 || now < full).then_some(now)
                });
            return;
        };
        op[1].store(NEVER, Ordering::Relaxed);
        op[2].store(kind as u64, Ordering::Relaxed);
        op[0].store(now, Ordering::Release);
        self.length.store(at + 1, Ordering::Release);
    }

    /// Notes the answer to it.
    pub fn end(&self, answer: Answer, token: u64, now: u64) {
        if self.full.load(Ordering::Relaxed) != 0 {
            return;
        }
        let at = self.length.load(Ordering::Relaxed) as usize;
        if let Some(op) = at.checked_sub(1).and_then(|at| self.ops.get(at)) {
            op[3].store(token, Ordering::Relaxed);
            op[2].fetch_or((answer as u64) << 8, Ordering::Relaxed);
            op[1].store(now, Ordering::Release);
        }
    }

    /// When something was first not noted for want of room.
    fn cut(&self) -> u64 {
        match self.full.load(Ordering::Acquire) {
            0 => NEVER,
            full => full,
        }
    }

    fn read(&self, client: u64, into: &mut Vec<Op>) {
        let length = (self.length.load(Ordering::Acquire) as usize).min(N);
        for op in &self.ops[..length] {
            let returned = op[1].load(Ordering::Acquire);
            let bits = op[2].load(Ordering::Acquire);
            let answer = match bits >> 8 {
                1 if returned != NEVER => Answer::Done,
                2 if returned != NEVER => Answer::Busy,
                _ => Answer::Unknown,
            };
            into.push(Op {
                client,
                kind: if bits & 1 == 0 {
                    Kind::Acquire
                } else {
                    Kind::Release
                },
                invoked: op[0].load(Ordering::Acquire),
                returned,
                answer,
                token: op[3].load(Ordering::Acquire),
            });
        }
    }
}

/// The tapes of `CLIENTS` clients, in memory that forked processes share.
#[derive(Debug)]
pub struct Tapes<const CLIENTS: usize, const N: usize>(SharedPage<[Tape<N>; CLIENTS]>);

impl<const CLIENTS: usize, const N: usize> Tapes<CLIENTS, N> {
    /// Blank ones.
    #[expect(clippy::new_without_default, reason = "a mapping is no plain value")]
    pub fn new() -> Self {
        // SAFETY: atomics, for which zero is a value.
        let tapes = Tapes(unsafe { SharedPage::<[Tape<N>; CLIENTS]>::new() });
        tapes.0[CLIENTS - 1]
            .length
            .store(N as u64, Ordering::Release);
        tapes
    }

    /// The tape of a client; the last one, which is full, serves for all who are too many.
    pub fn of(&self, client: u64) -> &Tape<N> {
        &self.0[(client as usize).min(CLIENTS - 1)]
    }

    /// Everything up to the time at which the first tape was full. `died` says when a client was
    /// killed: what it held has ended some time after.
    pub fn read(&self, mut died: impl FnMut(u64) -> Option<u64>) -> Vec<Op> {
        let mut ops = Vec::new();
        let mut end = self.0[CLIENTS - 1].cut();
        for (client, tape) in self.0[..CLIENTS - 1].iter().enumerate() {
            let before = ops.len();
            tape.read(client as u64, &mut ops);
            if let Some(last) = ops.get(before..).and_then(<[Op]>::last)
                && let Some(at) = died(client as u64)
            {
                ops.push(Op {
                    kind: Kind::Release,
                    invoked: at.max(last.invoked + 1),
                    returned: NEVER,
                    answer: Answer::Unknown,
                    token: 0,
                    ..*last
                });
            }
            end = end.min(tape.cut());
        }
        // Beyond it some holds and their ends are not known: a refusal could not be explained, and
        // a grant may have followed a release that is not there.
        ops.retain(|op| op.invoked < end && (op.answer != Answer::Busy || op.returned < end));
        for op in &mut ops {
            if op.kind == Kind::Acquire && op.returned >= end {
                (op.answer, op.returned, op.token) = (Answer::Unknown, NEVER, 0);
            }
        }
        ops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(client: u64, kind: Kind, invoked: u64, returned: u64, answer: Answer, token: u64) -> Op {
        Op {
            client,
            kind,
            invoked,
            returned,
            answer,
            token,
        }
    }

    fn take(client: u64, invoked: u64, returned: u64, token: u64) -> Op {
        op(
            client,
            Kind::Acquire,
            invoked,
            returned,
            Answer::Done,
            token,
        )
    }

    fn give(client: u64, invoked: u64, returned: u64) -> Op {
        op(client, Kind::Release, invoked, returned, Answer::Done, 0)
    }

    fn busy(client: u64, invoked: u64, returned: u64) -> Op {
        op(client, Kind::Acquire, invoked, returned, Answer::Busy, 0)
    }

    fn wrong(ops: &[Op]) -> (usize, usize, usize) {
        let judged = judge(ops, Orphans::End);
        (judged.overlaps, judged.false_busy, judged.regressions)
    }

    #[test]
    fn one_after_the_other_is_sound() {
        let ops = [
            take(1, 1, 4, 10),
            give(1, 6, 9),
            take(2, 3, 8, 11),
            give(2, 9, 12),
        ];
        assert_eq!(wrong(&ops), (0, 0, 0));
    }

    #[test]
    fn two_certain_holds_overlap() {
        let ops = [
            take(1, 1, 4, 10),
            give(1, 9, 10),
            take(2, 3, 8, 11),
            give(2, 9, 12),
        ];
        assert_eq!(wrong(&ops), (1, 0, 0));
        // One that was never given up, too.
        assert_eq!(wrong(&[take(1, 1, 4, 10), take(2, 5, 8, 11)]), (1, 0, 0));
    }

    #[test]
    fn a_refusal_needs_a_holder() {
        let ops = [
            take(1, 10, 14, 1),
            give(1, 20, 24),
            busy(2, 1, 9),
            busy(3, 25, 30),
        ];
        assert_eq!(wrong(&ops), (0, 2, 0));
        let ops = [
            take(1, 10, 14, 1),
            give(1, 20, 24),
            busy(2, 1, 11),
            busy(3, 24, 30),
        ];
        assert_eq!(wrong(&ops), (0, 0, 0));
        // Whoever was never answered may have been the holder.
        let lost = op(4, Kind::Acquire, 2, NEVER, Answer::Unknown, 0);
        assert_eq!(wrong(&[lost, busy(2, 3, 9)]), (0, 0, 0));
        assert_eq!(wrong(&[lost, busy(2, 1, 1)]), (0, 1, 0));
    }

    #[test]
    fn a_later_grant_tells_that_an_unanswered_release_was_done() {
        let unanswered = op(1, Kind::Release, 5, NEVER, Answer::Unknown, 0);
        let ops = [take(1, 1, 2, 1), unanswered, busy(3, 7, 8)];
        assert_eq!(wrong(&ops), (0, 0, 0));
        let later = [take(2, 10, 12, 2), give(2, 14, 15), busy(3, 20, 21)];
        assert_eq!(wrong(&[&ops[..], &later].concat()), (0, 1, 0));
    }

    #[test]
    fn an_orphan_that_stays_keeps_all_out() {
        let lost = op(4, Kind::Acquire, 2, NEVER, Answer::Unknown, 0);
        let ops = [lost, busy(2, 3, 9), take(3, 20, 22, 1), give(3, 25, 26)];
        assert_eq!(judge(&ops, Orphans::Stay).false_busy, 1);
        assert_eq!(judge(&ops, Orphans::End).false_busy, 0);
    }

    #[test]
    fn tokens_grow() {
        let ops = [
            take(1, 1, 2, 5),
            give(1, 3, 4),
            take(2, 5, 6, 5),
            give(2, 7, 8),
        ];
        assert_eq!(wrong(&ops), (0, 0, 1));
        assert_eq!(token_regressions(&ops), 1);
        // At the same time, either may be the first.
        let ops = [take(1, 1, 6, 5), give(1, 7, 8), take(2, 2, 5, 6)];
        assert_eq!(token_regressions(&ops), 0);
    }

    #[test]
    fn a_million_operations_take_about_a_second() {
        let mut ops = Vec::new();
        for turn in 0..500_000 {
            let at = turn * 10;
            ops.push(take(turn % 16, at, at + 3, turn + 1));
            ops.push(give(turn % 16, at + 5, at + 8));
        }
        assert!(judge(&ops, Orphans::End).is_sound());
        assert_eq!(token_regressions(&ops), 0);
    }

    #[test]
    fn a_grant_after_the_end_of_a_tape_may_follow_a_release_that_is_not_there() {
        let tapes = Tapes::<4, 2>::new();
        let note = |client, kind, asked, answered, token| {
            tapes.of(client).begin(kind, asked);
            tapes.of(client).end(Answer::Done, token, answered);
        };
        note(0, Kind::Acquire, 1, 2, 1);
        note(0, Kind::Release, 3, 4, 0);
        note(1, Kind::Acquire, 10, 11, 2);
        tapes.of(2).begin(Kind::Acquire, 20);
        tapes.of(0).begin(Kind::Acquire, 30);
        note(1, Kind::Release, 31, 32, 0);
        tapes.of(2).end(Answer::Done, 3, 33);
        let ops = tapes.read(|_| None);
        assert_eq!(ops.len(), 4);
        assert!(judge(&ops, Orphans::Stay).is_sound());
    }

    #[test]
    fn nothing_is_judged_once_clients_without_a_tape_take_part() {
        let tapes = Tapes::<3, 4>::new();
        tapes.of(0).begin(Kind::Acquire, 10);
        tapes.of(0).end(Answer::Done, 1, 12);
        tapes.of(0).begin(Kind::Release, 14);
        tapes.of(0).end(Answer::Done, 0, 16);
        // Both are too many. Whoever of them came first takes the lock.
        tapes.of(3).begin(Kind::Acquire, 21);
        tapes.of(2).begin(Kind::Acquire, 20);
        tapes.of(2).end(Answer::Done, 2, 22);
        tapes.of(1).begin(Kind::Acquire, 20);
        tapes.of(1).end(Answer::Busy, 0, 24);
        let judged = judge(&tapes.read(|_| None), Orphans::Stay);
        assert!(judged.is_sound(), "{judged:?}");
        assert_eq!(judged.ops, 2);
    }

    #[test]
    fn tapes_keep_what_was_noted() {
        let tapes = Tapes::<4, 3>::new();
        let tape = tapes.of(1);
        tape.begin(Kind::Acquire, 10);
        tape.end(Answer::Done, 7, 12);
        tape.begin(Kind::Release, 15);
        tapes.of(2).begin(Kind::Acquire, 11);
        tapes.of(2).end(Answer::Busy, 0, 13);
        let ops = tapes.read(|client| (client == 1).then_some(20));
        assert_eq!(
            ops,
            [
                take(1, 10, 12, 7),
                op(1, Kind::Release, 15, NEVER, Answer::Unknown, 0),
                op(1, Kind::Release, 20, NEVER, Answer::Unknown, 0),
                busy(2, 11, 13),
            ]
        );
        for _ in 0..2 {
            tapes.of(2).begin(Kind::Acquire, 30);
            tapes.of(2).end(Answer::Busy, 0, 31);
        }
        assert_eq!(tapes.read(|_| None).len(), 5);
        tapes.of(2).begin(Kind::Acquire, 30);
        tapes.of(2).end(Answer::Busy, 0, 31);
        assert_eq!(
            tapes.read(|_| None).len(),
            3,
            "nothing after the first full tape"
        );
    }
}
