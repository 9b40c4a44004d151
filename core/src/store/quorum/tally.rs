//! Votes counted.

use super::round::Answers;
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
    pub fn count_granted(answers: &Answers<Vote>) -> usize {
        let granted = |answer: &&(usize, Result<Vote>)| matches!(answer.1, Ok(Vote::Granted(_)));
        answers.iter().filter(granted).count()
    }

    /// How many have a say, whatever it is.
    pub fn count_votes(answers: &Answers<Vote>) -> usize {
        let votes = |answer: &&(usize, Result<Vote>)| {
            matches!(answer.1, Ok(Vote::Granted(_) | Vote::Busy(_)))
        };
        answers.iter().filter(votes).count()
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

    /// Whether something is to be given back at a member that answered so.
    pub fn may_hold(answer: &Result<Vote>) -> bool {
        match answer {
            Ok(Vote::Granted(_) | Vote::Cold(_)) => true,
            Ok(Vote::Busy(_)) => false,
            Err(error) => error.code() == Code::Uncertain,
        }
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

/// The `n`-th longest of the times: so many members stand for as long. No time is for ever.
pub(super) fn nth<T: Ord>(times: impl Iterator<Item = Option<T>>, n: usize) -> Option<T> {
    let mut times: Vec<Option<T>> = times.collect();
    times.sort_by(|a, b| match (a, b) {
        (None, None) => std::cmp::Ordering::Equal,
        (None, _) => std::cmp::Ordering::Less,
        (_, None) => std::cmp::Ordering::Greater,
        (Some(a), Some(b)) => b.cmp(a),
    });
    times.into_iter().nth(n.saturating_sub(1)).flatten()
}

/// Why there was no quorum, if not because somebody holds: members that are down, or cold, are told apart
/// from those that are busy.
pub(super) fn shortfall(
    tally: &Tally,
    members: &[Arc<dyn Backend>],
    need: usize,
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
                    "{url} has been up for {:.1} s, may have forgotten, and votes after {:.1} s (`max_ttl`; `cold_start=1` lets it vote)",
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
    if members.len() - words.len() >= need {
        return None;
    }
    let first = codes.first().copied().unwrap_or(Code::Unavailable);
    let code = if tally.granted() + uncertain >= need {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_stand_for_as_long() {
        assert_eq!(nth([Some(1), Some(3), Some(2)].into_iter(), 2), Some(2));
        assert_eq!(nth([Some(1), None, Some(2)].into_iter(), 2), Some(2));
        assert_eq!(nth([None, None, Some(2)].into_iter(), 2), None);
        assert_eq!(nth([Some(5)].into_iter(), 1), Some(5));
    }
}
