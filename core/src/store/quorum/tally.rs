//! Votes counted.

use super::round::Answers;
use super::rules::{Need, Said};
use crate::codes::Code;
use crate::lease::BootTime;
use crate::store::{Backend, Busy, Grant};
use crate::{Error, Result};
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub(super) enum Vote {
    Granted(Grant),
    Busy(Busy),
    /// It would, but has been up for so short that it may have forgotten whoever holds.
    Cold(Duration),
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    pub answers: Answers<Vote>,
}

impl Tally {
    /// What the members have said, as the rules see it.
    pub fn said(answers: &Answers<Vote>) -> impl Iterator<Item = Said> + '_ {
        answers.iter().map(|(_, answer)| said(answer))
    }

    pub fn count_granted(answers: &Answers<Vote>) -> usize {
        Self::said(answers)
            .filter(|said| *said == Said::Granted)
            .count()
    }

    pub fn granted(&self) -> usize {
        Self::count_granted(&self.answers)
    }

    pub fn grants(&self) -> Vec<(usize, Grant)> {
        let granted = |(place, answer): &(usize, Result<Vote>)| match answer {
            Ok(Vote::Granted(grant)) => Some((*place, *grant)),
            _ => None,
        };
        self.answers.iter().filter_map(granted).collect()
    }

    /// A member whose vote was there may have it still, or not.
    pub fn doubt(&mut self, place: usize, error: &Error) {
        self.put(place, Err(Error::new(Code::Uncertain, error.message())));
    }

    /// A member has said something else since.
    pub fn put(&mut self, place: usize, vote: Result<Vote>) {
        if let Some((_, answer)) = self.answers.iter_mut().find(|(one, _)| *one == place) {
            *answer = vote;
        }
    }

    /// What a member said of a hold of another set-up.
    pub fn take_misfit(&mut self) -> Option<Error> {
        let says_so =
            |(_, answer): &(usize, Result<Vote>)| answer.as_ref().is_err_and(Error::ends_hold);
        let place = self.answers.iter().position(says_so)?;
        self.answers.remove(place).1.err()
    }

    /// When the first of the holders in the way ends.
    pub fn until(&self) -> Option<BootTime> {
        let until = |(_, answer): &(usize, Result<Vote>)| match answer {
            Ok(Vote::Busy(busy)) => busy.until,
            _ => None,
        };
        self.answers.iter().filter_map(until).min()
    }
}

pub(super) fn said(answer: &Result<Vote>) -> Said {
    match answer {
        Ok(Vote::Granted(_)) => Said::Granted,
        Ok(Vote::Busy(_)) => Said::Busy,
        Ok(Vote::Cold(_)) => Said::Cold,
        Err(error) if error.code() == Code::Uncertain => Said::Unsure,
        Err(_) => Said::Down,
    }
}

/// Why there was no quorum, if not because somebody holds: members that are down, or cold, are told apart
/// from those that are busy.
pub(super) fn shortfall(
    tally: &Tally,
    members: &[Arc<dyn Backend>],
    rule: Need,
    max_ttl: Duration,
) -> Option<Error> {
    let mut words = Vec::new();
    let (mut uncertain, mut codes) = (0, Vec::new());
    for (place, answer) in &tally.answers {
        let url = members.get(*place).map_or("", |member| member.url());
        match answer {
            Ok(Vote::Granted(_) | Vote::Busy(_)) => {}
            Ok(Vote::Cold(up)) => {
                codes.push(Code::Unavailable);
                words.push(format!(
                    "{url} has been up for {:.1} s, or its clock has stepped then, may have forgotten, and votes after {:.1} s (`max_ttl`; `cold_start=1` lets it vote)",
                    up.as_secs_f64(),
                    max_ttl.as_secs_f64()
                ));
            }
            Err(error) => {
                uncertain += usize::from(error.code() == Code::Uncertain);
                codes.push(error.code());
                words.push(format!("{url}: {}", error.message()));
            }
        }
    }
    // Those that have not answered could have.
    if !rule.is_short(words.len()) {
        return None;
    }
    let first = codes.first().copied().unwrap_or(Code::Unavailable);
    let code = if rule.is_met(tally.granted() + uncertain) {
        Code::Uncertain
    } else if first != Code::Uncertain && codes.iter().all(|code| *code == first) {
        first
    } else {
        Code::Unavailable
    };
    Some(Error::new(
        code,
        format!(
            "{} of the quorum's {} members do not vote: {}",
            words.len(),
            members.len(),
            words.join("; ")
        ),
    ))
}
