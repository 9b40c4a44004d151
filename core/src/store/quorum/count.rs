//! Putting a question to the members, and counting what they say.

use super::config::Quorum;
use super::members::Process;
use super::round::{Answers, Member, Rules, ask};
use crate::codes::Code;
use crate::store::{Backend, Claim};
use crate::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

/// Rules of questions whose late answers matter to nobody.
pub(super) fn until<T, S>(
    is_settled: S,
) -> Rules<impl Fn(usize) -> Forget<T>, S, impl FnOnce(&Answers<T>)>
where
    S: Fn(&Answers<T>, usize) -> bool,
{
    Rules {
        late: |_| -> Forget<T> { |_, _| {} },
        is_settled,
        linger: Duration::ZERO,
        at_end: |_: &Answers<T>| {},
    }
}

pub(super) type Forget<T> = fn(&Arc<dyn Backend>, Result<T>);

/// Hears everybody.
pub(super) fn never<T>(_: &Answers<T>, _: usize) -> bool {
    false
}

impl Quorum {
    pub(super) fn process(&self) -> &Arc<Process> {
        self.process.get_or_init(Arc::default)
    }

    pub(super) fn places(&self) -> Vec<Member> {
        self.members.iter().cloned().enumerate().collect()
    }

    /// Puts a verb to members and hears them all, or as many as `is_settled` wants.
    pub(super) fn put<T: Send + 'static>(
        &self,
        claim: &Claim,
        members: &[Member],
        verb: impl Fn(&dyn Backend, &Claim) -> Result<T> + Copy + Send + 'static,
        is_settled: impl Fn(&Answers<T>, usize) -> bool,
    ) -> Answers<T> {
        let pool = self.remote.then(|| &self.process().pool);
        let question = |_| {
            let claim = claim.clone();
            move |member: &dyn Backend| verb(member, &claim)
        };
        ask(pool, members, question, until(is_settled))
    }

    /// Counts yes and no; what neither enough of one nor of the other has said is unknown.
    pub(super) fn count(&self, answers: &Answers<bool>) -> Result<bool> {
        let said = |what: bool| {
            let said =
                |answer: &&(usize, Result<bool>)| matches!(answer.1, Ok(word) if word == what);
            answers.iter().filter(said).count()
        };
        if self.rule.is_met(said(true)) {
            return Ok(true);
        }
        if self.rule.is_short(said(false)) {
            return Ok(false);
        }
        Err(self.unknown(answers))
    }

    pub(super) fn is_counted(&self, answers: &Answers<bool>) -> bool {
        let yes = answers
            .iter()
            .filter(|(_, answer)| matches!(answer, Ok(true)));
        let no = answers
            .iter()
            .filter(|(_, answer)| matches!(answer, Ok(false)));
        self.rule.is_met(yes.count()) || self.rule.is_short(no.count())
    }

    /// Too few members have answered.
    pub(super) fn unknown<T>(&self, answers: &Answers<T>) -> Error {
        let mut words = Vec::new();
        let mut code = Code::Unavailable;
        for (place, answer) in answers {
            if let (Err(error), Some(member)) = (answer, self.members.get(*place)) {
                words.push(format!("{}: {}", member.url(), error.message()));
                if error.code() == Code::Uncertain {
                    code = Code::Uncertain;
                }
            }
        }
        Error::new(
            code,
            format!(
                "too few members of the quorum answered ({})",
                words.join("; ")
            ),
        )
    }
}
