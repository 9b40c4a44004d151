//! How often the head of a queue looks at a peer's key, which nobody announces.

use crate::hash::ByToken;
use crate::owner::OwnerToken;
use crate::sync::Mutex;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(20);
pub(super) const LONGEST: Duration = Duration::from_millis(250);

/// Looks so far, by waiter.
#[derive(Debug, Default)]
pub(super) struct Polls(Mutex<ByToken<u32>>);

impl Polls {
    /// How long to the next look.
    pub fn next(&self, token: OwnerToken) -> Duration {
        let mut polls = self.0.lock();
        let looks = polls.entry(token).or_insert(0);
        let pause = FIRST * 2_u32.pow((*looks).min(4));
        *looks += 1;
        pause.min(LONGEST)
    }

    pub fn forget(&self, token: OwnerToken) {
        self.0.lock().remove(&token);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_a_quarter_of_a_second() {
        let (polls, token) = (Polls::default(), OwnerToken::from_bytes([1; 16]));
        let pauses = [(); 6].map(|()| polls.next(token).as_millis());
        assert_eq!(pauses, [20, 40, 80, 160, 250, 250]);
        polls.forget(token);
        assert_eq!(polls.next(token), FIRST);
    }
}
