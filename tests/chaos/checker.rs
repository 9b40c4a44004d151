//! Row 43: the judge of histories (`tests/support/history.rs`) against stateright's linearizability
//! tester: the same verdict on generated histories, sound ones and tampered ones, and every seeded
//! violation found.

mod quorum_model;

use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};
use std::process::ExitCode;
use std::time::Instant;
use synlock_tests::history::{Answer, Kind, NEVER, Op, Orphans, judge};
use synlock_tests::process::nanos;
use synlock_tests::torture::{Random, Verdict};

/// What a lock is, step by step.
#[derive(Clone, Debug, Default)]
struct Mutex {
    holder: Option<u64>,
    token: u64,
}

#[derive(Clone, PartialEq, Debug)]
enum Ask {
    Acquire(u64),
    Release(u64),
}

#[derive(Clone, PartialEq, Debug)]
enum Told {
    /// With the token of a grant.
    Done(u64),
    Busy,
}

impl SequentialSpec for Mutex {
    type Op = Ask;
    type Ret = Told;

    fn invoke(&mut self, op: &Ask) -> Told {
        match *op {
            Ask::Acquire(_) if self.holder.is_some() => Told::Busy,
            Ask::Acquire(client) => {
                self.holder = Some(client);
                Told::Done(0)
            }
            Ask::Release(client) => {
                if self.holder == Some(client) {
                    self.holder = None;
                }
                Told::Done(0)
            }
        }
    }

    fn is_valid_step(&mut self, op: &Ask, told: &Told) -> bool {
        match (op, told) {
            (Ask::Acquire(_), Told::Busy) => self.holder.is_some(),
            (Ask::Acquire(client), Told::Done(token)) => {
                let fits = self.holder.is_none() && *token > self.token;
                self.holder = Some(*client);
                self.token = *token;
                fits
            }
            (Ask::Release(client), _) => self.holder.take() == Some(*client),
        }
    }
}

fn oracle(ops: &[Op]) -> bool {
    let mut moments: Vec<(u64, bool, &Op)> = Vec::new();
    for op in ops {
        moments.push((op.invoked, true, op));
        if op.returned != NEVER {
            moments.push((op.returned, false, op));
        }
    }
    moments.sort_by_key(|(time, ..)| *time);
    let mut tester = LinearizabilityTester::new(Mutex::default());
    for (_, begins, op) in moments {
        if begins {
            let ask = match op.kind {
                Kind::Acquire => Ask::Acquire(op.client),
                Kind::Release => Ask::Release(op.client),
            };
            tester.on_invoke(op.client, ask).expect("one at a time");
        } else {
            let told = match op.answer {
                Answer::Busy => Told::Busy,
                _ => Told::Done(op.token),
            };
            tester.on_return(op.client, told).expect("one at a time");
        }
    }
    tester.is_consistent()
}

const CLIENTS: u64 = 4;
/// Time between the moments at which operations take effect.
const STEP: u64 = 1_000;
/// Operations that overlap their neighbours: the oracle tries every order of them.
const MOST_WIDE: usize = 5;

/// A history that a lock has made; at its end some operations are unanswered.
fn sound(random: &mut Random, length: usize) -> Vec<Op> {
    let mut ops: Vec<Op> = Vec::new();
    let mut free_from = [0u64; CLIENTS as usize];
    let mut gone = [false; CLIENTS as usize];
    let (mut holder, mut token, mut wide) = (None, 0, 0);
    for number in 0..length as u64 {
        let moment = (number + 10) * STEP;
        let holds = holder.filter(|_| random.below(2) == 0);
        let client = holds.unwrap_or_else(|| random.below(CLIENTS as usize) as u64);
        if gone[client as usize] || (holder == Some(client) && holds.is_none()) {
            continue;
        }
        // Distinct times: no two moments of different operations are equal.
        let slack = |random: &mut Random, steps: usize| {
            let steps = if steps == 0 {
                0
            } else {
                1 + random.below(steps)
            };
            (steps as u64) * STEP + 10 + 7 * (random.below(40) as u64)
        };
        let is_wide = wide < MOST_WIDE && random.below(length.max(8) / 4) == 0;
        wide += usize::from(is_wide);
        let steps = if is_wide { 2 } else { 0 };
        let invoked = moment
            .saturating_sub(slack(random, steps))
            .max(free_from[client as usize]);
        if invoked >= moment {
            continue;
        }
        let returned = moment + slack(random, steps) + client + 1;
        free_from[client as usize] = returned + 1;
        let mut op = Op {
            client,
            kind: Kind::Acquire,
            invoked,
            returned,
            answer: Answer::Busy,
            token: 0,
        };
        if holder == Some(client) {
            (op.kind, op.answer) = (Kind::Release, Answer::Done);
            holder = None;
        } else if holder.is_none() {
            token += 1 + random.below(3) as u64;
            (op.answer, op.token) = (Answer::Done, token);
            holder = Some(client);
        }
        // Near the end somebody dies, and is never answered.
        if number + 12 > length as u64 && random.below(6) == 0 {
            (op.returned, op.answer, op.token) = (NEVER, Answer::Unknown, 0);
            gone[client as usize] = true;
        }
        ops.push(op);
    }
    ops
}

/// The same history with distinct times: which of two equal ones came first is left open otherwise.
fn rank(ops: &mut [Op]) {
    let mut times: Vec<(u64, usize, bool)> = Vec::new();
    for (at, op) in ops.iter().enumerate() {
        times.push((op.invoked, at, false));
        if op.returned != NEVER {
            times.push((op.returned, at, true));
        }
    }
    times.sort_unstable();
    for (rank, (_, at, is_return)) in times.into_iter().enumerate() {
        let time = if is_return {
            &mut ops[at].returned
        } else {
            &mut ops[at].invoked
        };
        *time = rank as u64 + 1;
    }
}

fn positions(ops: &[Op], wanted: impl Fn(&Op) -> bool) -> Vec<usize> {
    (0..ops.len()).filter(|at| wanted(&ops[*at])).collect()
}

fn pick(random: &mut Random, from: &[usize]) -> Option<usize> {
    (!from.is_empty()).then(|| from[random.below(from.len())])
}

/// Changes something, which may or may not make the history impossible.
fn tamper(random: &mut Random, ops: &mut [Op]) {
    let granted = |op: &Op| op.kind == Kind::Acquire && op.answer == Answer::Done;
    let refused = |op: &Op| op.answer == Answer::Busy;
    match random.below(5) {
        0 => {
            if let Some(at) = pick(random, &positions(ops, refused)) {
                ops[at].answer = Answer::Done;
                ops[at].token = 1 + random.below(60) as u64;
            }
        }
        1 => {
            // Its release stays, so only a grant without one is changed.
            let last = |op: &Op| {
                granted(op)
                    && !ops
                        .iter()
                        .any(|later| later.client == op.client && later.invoked > op.invoked)
            };
            if let Some(at) = pick(random, &positions(ops, last)) {
                ops[at].answer = Answer::Busy;
                ops[at].token = 0;
            }
        }
        2 => {
            if let Some(at) = pick(random, &positions(ops, granted)) {
                ops[at].token = 1 + random.below(60) as u64;
            }
        }
        3 => {
            // Answered later, if the client did nothing in between.
            let at = random.below(ops.len());
            let later = ops
                .iter()
                .filter(|op| op.client == ops[at].client && op.invoked > ops[at].invoked)
                .map(|op| op.invoked)
                .min()
                .unwrap_or(NEVER);
            let moved = ops[at].returned.saturating_add(STEP + 3);
            if ops[at].returned != NEVER && moved < later {
                ops[at].returned = moved;
            }
        }
        _ => {
            // Asked for later.
            let at = random.below(ops.len());
            let moved = ops[at].invoked + STEP / 2 + 1;
            if moved < ops[at].returned {
                ops[at].invoked = moved;
            }
        }
    }
}

/// Makes a history that no lock can have made, in one of three ways.
fn violate(random: &mut Random, ops: &mut Vec<Op>) -> bool {
    let granted = |op: &Op| op.kind == Kind::Acquire && op.answer == Answer::Done;
    match random.below(3) {
        // A grant in the middle of another's certain hold.
        0 => {
            let inside: Vec<usize> = positions(ops, |op| {
                op.answer == Answer::Busy
                    && ops.iter().filter(|hold| granted(hold)).any(|hold| {
                        let end = ops
                            .iter()
                            .filter(|end| {
                                end.client == hold.client
                                    && end.kind == Kind::Release
                                    && end.invoked > hold.returned
                            })
                            .map(|end| end.invoked)
                            .min()
                            .unwrap_or(NEVER);
                        hold.returned < op.invoked && op.returned < end
                    })
            });
            let Some(at) = pick(random, &inside) else {
                return false;
            };
            ops[at].answer = Answer::Done;
            ops[at].token = 1_000;
            true
        }
        // A refusal before anybody asked for anything.
        1 => {
            ops.push(Op {
                client: CLIENTS,
                kind: Kind::Acquire,
                invoked: 1,
                returned: 2,
                answer: Answer::Busy,
                token: 0,
            });
            true
        }
        // A token a second time.
        _ => {
            let grants = positions(ops, granted);
            if grants.len() < 2 {
                return false;
            }
            let at = 1 + random.below(grants.len() - 1);
            ops[grants[at]].token = ops[grants[at - 1]].token;
            true
        }
    }
}

#[expect(clippy::print_stdout, reason = "rows report on stdout")]
fn main() -> ExitCode {
    // Row 42 needs the same crate.
    if std::env::args().nth(1).as_deref() == Some("quorum") {
        return quorum_model::run();
    }
    let seed = std::env::var("SYNLOCK_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(nanos);
    println!("SYNLOCK_SEED={seed} repeats this");
    let mut random = Random(seed | 1);
    let mut verdict = Verdict::default();
    let (mut equal, mut sounds, mut ops_judged) = (0, 0, 0);
    for number in 0..1_000 {
        // Most are short, where more overlaps; some have the most operations that the row asks for.
        let length = if number % 4 == 0 {
            200
        } else {
            4 + random.below(40)
        };
        let mut ops = sound(&mut random, length);
        if ops.is_empty() {
            ops = sound(&mut random, 40);
        }
        for _ in 0..random.below(3) {
            tamper(&mut random, &mut ops);
        }
        rank(&mut ops);
        let (ours, theirs) = (judge(&ops, Orphans::Stay), oracle(&ops));
        ops_judged += ops.len();
        sounds += usize::from(theirs);
        if ours.is_sound() == theirs {
            equal += 1;
        } else if number - equal < 3 {
            println!("history {number}: the oracle says {theirs}, we say {ours:?}");
            for op in &ops {
                println!("    {op:?}");
            }
        }
    }
    verdict.claim(
        equal == 1_000,
        "equal verdicts of 1000",
        format!("{equal}, over {ops_judged} operations"),
    );
    verdict.claim((300..=900).contains(&sounds), "of them sound", sounds);
    let (mut seeded, mut found, mut oracle_found) = (0, 0, 0);
    while seeded < 100 {
        let length = 10 + random.below(50);
        let mut ops = sound(&mut random, length);
        if violate(&mut random, &mut ops) {
            rank(&mut ops);
            seeded += 1;
            found += u32::from(!judge(&ops, Orphans::Stay).is_sound());
            oracle_found += u32::from(!oracle(&ops));
        }
    }
    verdict.claim(found == 100, "violations found of 100", found);
    verdict.claim(oracle_found == 100, "of these, by the oracle", oracle_found);
    let start = Instant::now();
    let many = sound(&mut random, 1_500_000);
    let generated = start.elapsed();
    let start = Instant::now();
    let judged = judge(&many, Orphans::Stay);
    verdict.claim(
        judged.is_sound() && judged.ops >= 1_000_000,
        "a long history is sound",
        format!(
            "{} operations made in {generated:.1?}, judged in {:.1?}",
            judged.ops,
            start.elapsed()
        ),
    );
    verdict.finish()
}
