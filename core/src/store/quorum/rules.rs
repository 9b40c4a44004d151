//! What a quorum makes of its members' answers; no clocks, threads or members here, so that the model of
//! row 42 checks these very rules in every order of events.

/// Whether a round that came to nothing has used up its claim's token: votes and releases of it are still on
/// their way, and must not meet a later round.
pub const SPENT: bool = !cfg!(canary = "same_token");

/// What a member has answered to a claim.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Said {
    Granted,
    Busy,
    /// It would, but may have forgotten whoever holds.
    Cold,
    /// Nothing: it may have granted.
    Unsure,
    /// It has done nothing.
    Down,
}

impl Said {
    /// Whether something is to be given back where this was said.
    pub fn may_hold(self) -> bool {
        matches!(self, Said::Granted | Said::Cold | Said::Unsure)
    }

    /// Whether it is a vote, for or against.
    pub fn is_vote(self) -> bool {
        matches!(self, Said::Granted | Said::Busy)
    }
}

/// How many members must agree.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Need {
    pub need: usize,
    pub of: usize,
}

impl Need {
    pub fn majority(of: usize) -> Self {
        let need = if cfg!(canary = "half") {
            of / 2
        } else {
            of / 2 + 1
        };
        Need { need, of }
    }

    pub fn is_met(self, agree: usize) -> bool {
        agree >= self.need
    }

    /// Whether so many without a say leave too few.
    pub fn is_short(self, mute: usize) -> bool {
        mute > self.of - self.need
    }

    /// Whether a round need not hear the members that have not answered yet.
    pub fn is_settled(self, said: impl Iterator<Item = Said>, left: usize) -> bool {
        let (mut granted, mut votes, mut all) = (0, 0, 0);
        for one in said {
            granted += usize::from(one == Said::Granted);
            votes += usize::from(one.is_vote());
            all += 1;
        }
        let hopeless = !self.is_met(granted + left);
        // Busy must be told apart from down.
        let clear = votes >= self.need || self.is_short(all - votes);
        self.is_met(granted) || (hopeless && clear)
    }

    /// How many must have prolonged a lease until it counts.
    pub fn to_extend(self) -> Self {
        let need = if cfg!(canary = "partial_refresh") {
            1
        } else {
            self.need
        };
        Need { need, ..self }
    }
}

/// Whether a member that has been up for so long may have forgotten a lease. Asked after the grant: when that
/// counts, all leases of before are over.
pub fn is_cold<T: Ord>(up: T, longest: T) -> bool {
    up < longest && !cfg!(canary = "cold_votes")
}

/// Whether a round that is given up releases at a member; `said` is nothing if the round ended without it.
pub fn gives_back(said: Option<Said>, left_out: bool) -> bool {
    said.map_or(left_out, Said::may_hold)
}

/// The `n`-th longest of the times: so many members stand for as long. No time is for ever.
pub fn nth<T: Ord>(times: impl Iterator<Item = Option<T>>, n: usize) -> Option<T> {
    let mut times: Vec<Option<T>> = times.collect();
    times.sort_by(|a, b| match (a, b) {
        (None, None) => std::cmp::Ordering::Equal,
        (None, _) => std::cmp::Ordering::Less,
        (_, None) => std::cmp::Ordering::Greater,
        (Some(a), Some(b)) => b.cmp(a),
    });
    times.into_iter().nth(n.saturating_sub(1)).flatten()
}

/// The tokens that a member has drawn for a vote: the first, and the last that it will give nobody else.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Draw {
    pub first: u64,
    pub last: u64,
}

/// The fencing token of a hold, the highest of its members' first ones, of which it takes `block`; and whose
/// vote must be given back and asked for again (see [`lift`]) until enough members will count on from there: any
/// later quorum has one of these in it. Asked again after each: a whole hold of another's may have come and gone
/// before the vote was had again, and then its first token is higher than all of before.
pub fn level(draws: &[Draw], block: u64, need: usize) -> (u64, Option<usize>) {
    let highest = draws.iter().map(|draw| draw.first).max().unwrap_or(0);
    let is_behind = |draw: &&Draw| draw.last < last(highest, block);
    let behind = draws.iter().filter(is_behind).count();
    if draws.len() - behind >= need || cfg!(canary = "no_level") {
        return (highest, None);
    }
    (highest, draws.iter().position(|draw| is_behind(&draw)))
}

/// The last token of a hold.
pub fn last(highest: u64, block: u64) -> u64 {
    highest + block - 1
}

/// How many tokens a member that is behind must draw, if that is how it gets there.
pub fn lift(draw: Draw, highest: u64, block: u64) -> u64 {
    last(highest, block).saturating_sub(draw.last).max(block)
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

    #[test]
    fn a_round_is_settled_when_busy_is_told_from_down() {
        let settled =
            |said: &[Said]| Need::majority(3).is_settled(said.iter().copied(), 3 - said.len());
        assert!(settled(&[Said::Granted, Said::Granted]));
        assert!(settled(&[Said::Busy, Said::Busy]));
        assert!(settled(&[Said::Down, Said::Unsure]));
        assert!(!settled(&[Said::Busy, Said::Down]));
        assert!(!settled(&[Said::Cold, Said::Granted]));
    }

    #[test]
    fn who_is_behind_is_levelled_unless_enough_are_not() {
        let draws = |firsts: &[u64], block| -> Vec<Draw> {
            let draw = |first: &u64| Draw {
                first: *first,
                last: first + block - 1,
            };
            firsts.iter().map(draw).collect()
        };
        assert_eq!(level(&draws(&[3, 7, 7], 1), 1, 2), (7, None));
        assert_eq!(level(&draws(&[7, 3], 1), 1, 2), (7, Some(1)));
        assert_eq!(level(&draws(&[7, 3], 4), 4, 2), (7, Some(1)));
        let behind = Draw { first: 3, last: 6 };
        assert_eq!(lift(behind, 7, 4), 4);
        assert_eq!(lift(Draw { first: 3, last: 3 }, 7, 1), 4);
        // Others had it meanwhile: it is ahead now.
        let ahead = Draw { first: 9, last: 12 };
        let one = Draw { first: 7, last: 7 };
        assert_eq!(level(&[one, ahead], 1, 2), (9, Some(0)));
        let all = Draw { first: 7, last: 9 };
        assert_eq!(level(&[all, ahead], 1, 2), (9, None));
    }
}
