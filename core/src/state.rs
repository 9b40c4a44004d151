//! What a handle's claim has come to, and how acquire and release went.

use std::time::Duration;

/// What a handle's claim has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum State {
    /// Nothing is held or asked for.
    Idle = 0,
    /// An acquire is under way, or was interrupted and keeps its place.
    Acquiring = 1,
    /// Held, as far as this process can know.
    Held = 2,
    /// The lease has run out by this process' clock.
    Expired = 3,
    /// The store said that it is not held any more.
    Lost = 4,
    /// A release was sent and its reply was lost.
    Releasing = 5,
    /// Held, asked for or uncertain in the parent of this process.
    Forked = 6,
}

impl State {
    pub(crate) fn from_u8(number: u8) -> Self {
        match number {
            1 => State::Acquiring,
            2 => State::Held,
            3 => State::Expired,
            4 => State::Lost,
            5 => State::Releasing,
            6 => State::Forked,
            _ => State::Idle,
        }
    }

    /// Lower-case name.
    pub fn name(self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Acquiring => "acquiring",
            State::Held => "held",
            State::Expired => "expired",
            State::Lost => "lost",
            State::Releasing => "releasing",
            State::Forked => "forked",
        }
    }
}

/// How an acquire went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Acquired {
    /// Time from the call to the grant.
    pub waited: Duration,
    /// Whether somebody else held the lock first.
    pub contended: bool,
    /// How often the store was asked.
    pub attempts: u32,
    /// The fencing token, if the store gives one.
    pub fence: Option<u64>,
    /// The previous owner died while it held the lock.
    pub recovered: bool,
    /// This process held the lock already, and its lease was lengthened: what is given back now is that hold.
    pub extended: bool,
}

/// How a release went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Released {
    /// The lease had run out by this process' clock, though the store still had it as ours.
    pub late: bool,
}
