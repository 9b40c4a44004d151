//! One question put to several members side by side, until their answers settle it.

use super::pool::{Job, Pool};
use crate::lease::BootTime;
use crate::store::Backend;
use crate::sync::Mutex;
use crate::{Error, Result};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

/// A member's place and its store.
pub(super) type Member = (usize, Arc<dyn Backend>);

/// Answers so far, each with the member's place.
pub(super) type Answers<T> = Vec<(usize, Result<T>)>;

/// What becomes of a round.
pub(super) struct Rules<L, S, E> {
    /// Makes what late answers of a member go to.
    pub late: L,
    /// Asked after every answer, with the answers so far and how many are still to come.
    pub is_settled: S,
    /// For how long it goes on after that, for those that are late.
    pub linger: Duration,
    /// Told the answers before any other one can be late.
    pub at_end: E,
}

/// Asks each of `members` what `question` makes for it, until the answers settle it.
///
/// Without a pool one after the other, and all: on this host an answer takes no time worth a thread.
pub(super) fn ask<T, Q, L>(
    pool: Option<&Pool>,
    members: &[Member],
    question: impl Fn(usize) -> Q,
    rules: Rules<
        impl Fn(usize) -> L,
        impl Fn(&Answers<T>, usize) -> bool,
        impl FnOnce(&Answers<T>),
    >,
) -> Answers<T>
where
    T: Send + 'static,
    Q: FnOnce(&dyn Backend) -> Result<T> + Send + 'static,
    L: FnOnce(&Arc<dyn Backend>, Result<T>) + Send + 'static,
{
    let mut answers = Answers::with_capacity(members.len());
    let left = |answers: &Answers<T>| members.len() - answers.len();
    let Some(pool) = pool else {
        for (place, member) in members {
            answers.push((*place, question(*place)(&**member)));
        }
        (rules.at_end)(&answers);
        return answers;
    };
    let (sender, receiver) = channel();
    let over = Arc::new(Mutex::new(false));
    // None on the caller's thread: one that does not answer must not hold up what the others settle.
    for (place, member) in members {
        let (place, member) = (*place, member.clone());
        let (question, late) = (question(place), (rules.late)(place));
        let (over, sender) = (over.clone(), sender.clone());
        let job: Job = Box::new(move || {
            let answer = question(&*member);
            let is_over = over.lock();
            if *is_over {
                drop(is_over);
                late(&member, answer);
            } else {
                // Under the lock, so that whoever ends the round has it.
                let _ = sender.send((place, answer));
            }
        });
        if let Err(job) = pool.run(job) {
            job();
        }
    }
    drop(sender);
    while left(&answers) > 0 && !(rules.is_settled)(&answers, left(&answers)) {
        match receiver.recv() {
            Ok(answer) => answers.push(answer),
            Err(_) => {
                // A thread met a bug and said nothing.
                for (place, _) in members {
                    if !answers.iter().any(|(answered, _)| answered == place) {
                        let bug = Error::new(crate::Code::Internal, "a thread met a bug");
                        answers.push((*place, Err(bug)));
                    }
                }
            }
        }
    }
    let end = BootTime::now().after(rules.linger);
    while left(&answers) > 0 {
        match receiver.recv_timeout(end.left()) {
            Ok(answer) => answers.push(answer),
            Err(_) => break,
        }
    }
    let mut is_over = over.lock();
    answers.extend(receiver.try_iter());
    (rules.at_end)(&answers);
    *is_over = true;
    drop(is_over);
    answers
}
