//! What all of them are in at one moment, and what can happen next.

use super::rules::{Draw, Said};
use std::hash::{Hash, Hasher};

pub(super) const MEMBERS: usize = 3;
/// At most so many clients, with so many tokens each.
pub(super) const CLIENTS: usize = 3;
pub(super) const TOKENS: usize = 3;

pub(super) type Token = u8;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Member {
    pub(super) holder: Option<Token>,
    pub(super) left: u8,
    /// How long it is up, as far as that matters.
    pub(super) age: u8,
    pub(super) fence: u8,
}

/// An exchange with a member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Wire {
    None,
    Asked,
    /// Granted by a life of this age, with this token.
    Told(u8, u8),
}

/// A client's round, or what it came to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Phase {
    Idle,
    /// At the first member alone.
    First {
        left: u8,
    },
    Asking(Round),
    /// Votes whose tokens are behind are given back and asked for again, one after the other.
    Levelling {
        round: Round,
        released: bool,
        /// How many have been asked for again.
        lifts: u8,
    },
    Held {
        left: u8,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Round {
    /// What each vote would leave of the lease: it counts from the question.
    pub(super) left: [u8; MEMBERS],
    pub(super) said: [Option<Said>; MEMBERS],
    /// The first and the last token of each vote.
    pub(super) fence: [u8; MEMBERS],
    pub(super) last: [u8; MEMBERS],
}

impl Round {
    pub(super) fn draw(&self, place: usize) -> Draw {
        Draw {
            first: self.fence[place].into(),
            last: self.last[place].into(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Client {
    pub(super) phase: Phase,
    pub(super) token: u8,
    pub(super) tries: u8,
    /// A refresh under way: what it leaves of the lease, and what is known of it.
    pub(super) refresh: Option<(u8, [Option<bool>; MEMBERS])>,
    pub(super) refreshes: u8,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct State {
    pub(super) members: [Member; MEMBERS],
    pub(super) clients: Vec<Client>,
    /// Of each token at each member.
    pub(super) votes: [[Wire; MEMBERS]; CLIENTS * TOKENS],
    /// Releases under way; they are repeated, so that one may come at any time from now on.
    pub(super) releases: [[bool; MEMBERS]; CLIENTS * TOKENS],
    pub(super) crashes: u8,
    /// The highest fencing token so far, and whether a later one was not higher.
    pub(super) top: u8,
    pub(super) went_back: bool,
}

impl State {
    /// All that is of one member, in a number.
    pub(super) fn column(&self, place: usize) -> u128 {
        let mut column = 0u128;
        let mut add = |bits: u8, value: u8| {
            debug_assert!(value < 1 << bits);
            column = column << bits | u128::from(value);
        };
        let member = self.members[place];
        add(4, member.holder.map_or(15, |holder| holder));
        add(2, member.left);
        add(2, member.age);
        add(4, member.fence);
        for client in &self.clients {
            let round = match client.phase {
                Phase::Asking(round) | Phase::Levelling { round, .. } => Some(round),
                _ => None,
            };
            add(2, round.map_or(0, |round| round.left[place]));
            let said = round.and_then(|round| round.said[place]);
            add(3, said.map_or(7, |said| said as u8));
            add(4, round.map_or(0, |round| round.fence[place]));
            add(
                3,
                round.map_or(0, |round| round.last[place] - round.fence[place]),
            );
            let answer = client.refresh.and_then(|(_, answers)| answers[place]);
            add(2, answer.map_or(2, u8::from));
        }
        for (votes, releases) in self.votes.iter().zip(&self.releases) {
            add(1, u8::from(releases[place]));
            add(
                7,
                match votes[place] {
                    Wire::None => 0,
                    Wire::Asked => 1,
                    Wire::Told(age, fence) => 64 | age << 4 | fence,
                },
            );
        }
        column
    }
}

/// By whole numbers: there are millions.
impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        for place in 0..MEMBERS {
            hasher.write_u128(self.column(place));
        }
        for client in &self.clients {
            let (phase, left, released, lifts) = match client.phase {
                Phase::Idle => (0, 0, false, 0),
                Phase::First { left } => (1, left, false, 0),
                Phase::Asking(_) => (2, 0, false, 0),
                Phase::Levelling {
                    released, lifts, ..
                } => (3, 0, released, lifts),
                Phase::Held { left } => (4, left, false, 0),
            };
            let refresh = client.refresh.map_or(255, |(left, _)| left);
            let (token, tries, refreshes) = (client.token, client.tries, client.refreshes);
            let released = u8::from(released);
            let bytes = [
                phase, left, released, lifts, token, tries, refreshes, refresh,
            ];
            hasher.write_u64(u64::from_le_bytes(bytes));
        }
        let back = u8::from(self.went_back);
        hasher.write_u32(u32::from_le_bytes([self.crashes, self.top, back, 0]));
    }
}

/// Whom a client asks first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Start {
    /// All at once.
    AtAll,
    /// The first member, where it stands in line, and the others when that has granted.
    InLine,
    /// The others, since somebody has the first who has no other: it leaves the line.
    PassingBy,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Step {
    Tick,
    Begin(usize, Start),
    /// A question arrives, and its answer is lost or not. One that is not is heard at once: later it leaves the
    /// same lease, for a shorter time.
    Ask(Token, usize, bool),
    /// The answer of a member that was cold comes when that is hard to see.
    Tell(usize, usize),
    /// A member is down: nothing is done.
    Refuse(usize, usize),
    /// No more answers are waited for.
    Despair(usize),
    Level(usize, bool),
    Refresh(usize),
    /// A question of a refresh arrives, and is answered.
    AskAgain(usize, usize),
    Release(usize),
    /// A release arrives.
    Free(Token, usize),
    /// A member restarts empty.
    Forget(usize),
}
