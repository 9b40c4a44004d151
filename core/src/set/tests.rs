//! Sets against a table of locks that grants and refuses, in random orders.

use super::plan::{Next, Plan, Step, Told};
use crate::codes::Code;
use crate::state::Acquired;
use crate::{Error, Result};

/// Draws numbers, the same for the same seed (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).unwrap()
    }
}

/// Somebody who takes sets of names, and holds each for a while.
struct Taker {
    names: Vec<usize>,
    plan: Plan,
    /// What is still to be done of the present step, and what came of the rest.
    step: Step,
    left: Vec<usize>,
    told: Told,
    ended: Option<Result<Acquired>>,
}

impl Taker {
    fn new(names: Vec<usize>, waits: bool) -> Self {
        let mut plan = Plan::new(names.len(), waits);
        let first = plan.begin();
        let mut taker = Taker {
            names,
            plan,
            step: Step::Try,
            left: Vec::new(),
            told: Vec::new(),
            ended: None,
        };
        taker.go_on(first);
        taker
    }

    fn go_on(&mut self, next: Next) {
        match next {
            Next::Over(ended) => self.ended = Some(ended),
            Next::Do(step, mut left) => {
                left.reverse();
                (self.step, self.left) = (step, left);
            }
        }
    }

    /// One access to the table; false if it has to wait.
    fn act(&mut self, me: usize, owners: &mut [Option<usize>], gives_up: bool) -> bool {
        let Some(&at) = self.left.last() else {
            let told = std::mem::take(&mut self.told);
            let next = self.plan.next(told);
            self.go_on(next);
            return true;
        };
        let owner = &mut owners[self.names[at]];
        let answer = match self.step {
            Step::Try | Step::Wait if owner.is_none() => {
                *owner = Some(me);
                Ok(Some(Acquired::default()))
            }
            Step::Try => Ok(None),
            Step::Wait if gives_up => Err(Error::outcome(Code::Timeout)),
            Step::Wait => return false,
            Step::Confirm => Ok(None),
            Step::Release => {
                assert_eq!(*owner, Some(me), "it gives back what it has");
                *owner = None;
                Ok(None)
            }
        };
        self.left.pop();
        self.told.push((at, answer));
        true
    }
}

fn pick(dice: &mut Dice, names: usize) -> Vec<usize> {
    let mut picked: Vec<usize> = (0..names).filter(|_| dice.below(2) == 0).collect();
    if picked.is_empty() {
        picked.push(dice.below(names));
    }
    picked
}

/// Every set gets its turn, whatever the order of their steps: nobody waits in a ring. Whoever has failed holds
/// nothing, and whoever has not holds all.
#[test]
fn sets_never_wait_in_a_ring_and_are_taken_whole() {
    const NAMES: usize = 4;
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..3_000 {
        let mut owners = vec![None; NAMES];
        let mut takers: Vec<Taker> = (0..4)
            .map(|_| Taker::new(pick(&mut dice, NAMES), dice.below(5) > 0))
            .collect();
        let mut open: Vec<usize> = (0..takers.len()).collect();
        let mut stuck = 0;
        while !open.is_empty() {
            let turn = dice.below(open.len());
            let me = open[turn];
            let taker = &mut takers[me];
            let Some(ended) = &taker.ended else {
                let gives_up = dice.below(50) == 0 && round % 3 == 0;
                stuck = if taker.act(me, &mut owners, gives_up) {
                    0
                } else {
                    stuck + 1
                };
                assert!(
                    stuck < 10_000,
                    "round {round}: {owners:?} wait for one another"
                );
                continue;
            };
            let mine = owners.iter().filter(|owner| **owner == Some(me)).count();
            match ended {
                Ok(_) => assert_eq!(mine, taker.names.len(), "all"),
                Err(error) => {
                    assert!(matches!(error.code(), Code::Busy | Code::Timeout));
                    assert_eq!(mine, 0, "or none");
                }
            }
            for owner in &mut owners {
                owner.take_if(|owner| *owner == me);
            }
            open.swap_remove(turn);
        }
    }
}

fn places(next: &Next) -> (Option<Step>, Vec<usize>) {
    match next {
        Next::Do(step, places) => (Some(*step), places.clone()),
        Next::Over(_) => (None, Vec::new()),
    }
}

const GRANT: Result<Option<Acquired>> = Ok(Some(Acquired {
    waited: std::time::Duration::ZERO,
    contended: false,
    attempts: 1,
    fence: None,
    recovered: false,
    extended: false,
}));

#[test]
fn what_was_held_during_a_wait_is_confirmed_at_the_end() {
    let mut plan = Plan::new(3, true);
    plan.begin();
    let next = plan.next(vec![(0, GRANT), (1, Ok(None)), (2, GRANT)]);
    assert_eq!(places(&next), (Some(Step::Release), vec![2]));
    let next = plan.next(vec![(2, Ok(None))]);
    assert_eq!(places(&next), (Some(Step::Wait), vec![1]));
    let next = plan.next(vec![(1, GRANT)]);
    assert_eq!(places(&next), (Some(Step::Try), vec![2]));
    let next = plan.next(vec![(2, GRANT)]);
    assert_eq!(places(&next), (Some(Step::Confirm), vec![0]));
    // It was lost: the set is nobody's.
    let next = plan.next(vec![(0, Err(Error::outcome(Code::Lost)))]);
    assert_eq!(places(&next), (Some(Step::Release), vec![2, 1, 0]));
    let next = plan.next(vec![(2, Ok(None)), (1, Ok(None)), (0, Ok(None))]);
    assert!(matches!(next, Next::Over(Err(error)) if error.code() == Code::Unavailable));
}

#[test]
fn an_interrupted_wait_keeps_what_it_has_and_goes_on() {
    let mut plan = Plan::new(2, true);
    plan.begin();
    plan.next(vec![(0, GRANT), (1, Ok(None))]);
    let next = plan.next(vec![(1, Err(Error::outcome(Code::Interrupted)))]);
    assert!(matches!(next, Next::Over(Err(error)) if error.code() == Code::Interrupted));
    let at = plan.waits_at();
    assert_eq!(at, Some(1));
    let mut plan = Plan::resumed(2, 1);
    assert_eq!(places(&plan.begin()), (Some(Step::Wait), vec![1]));
    let next = plan.next(vec![(1, GRANT)]);
    assert_eq!(places(&next), (Some(Step::Confirm), vec![0]));
    assert!(matches!(plan.next(vec![(0, Ok(None))]), Next::Over(Ok(_))));
}
