//! How long a statement may take, and for how long another's transaction may be in its way.

use crate::lease::BootTime;
use std::time::Duration;

/// For how long an attempt asks again while another's transaction is in its way, and how often in any case: a
/// machine that stood still meanwhile has not asked for long.
const PATIENCE: (Duration, u32) = (Duration::from_millis(60), 3);

/// What a server takes to say that another's transaction was in the way, and some more.
#[cfg(any(feature = "postgres", feature = "mysql"))]
const LAST_WORDS: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    /// Until when an exchange may take.
    pub end: BootTime,
    /// Until when another's transaction may be in the way, and how often it is looked at least; until the end
    /// without.
    patience: Option<(BootTime, u32)>,
}

impl From<BootTime> for Limit {
    fn from(end: BootTime) -> Self {
        Limit {
            end,
            patience: None,
        }
    }
}

impl Limit {
    /// For an attempt: whoever is in its way for longer has the lock, as far as it is concerned.
    pub fn brief(self) -> Self {
        let (time, times) = PATIENCE;
        Limit {
            patience: Some((BootTime::now().after(time), times)),
            ..self
        }
    }

    /// For what can be left undone.
    pub fn once(self) -> Self {
        Limit {
            patience: Some((BootTime::now(), 1)),
            ..self
        }
    }

    /// Whether to give up after so many times in vain.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub fn is_over_after(self, times: u32) -> bool {
        self.patience.is_some_and(|(until, least)| {
            // What were cut off on its way could still be granted, to nobody.
            times >= least && until.has_passed() || self.left() < LAST_WORDS / 2
        })
    }

    /// Until when an answer that is late is still waited for: the server waits for others no longer than this.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub fn last_words(self) -> Option<BootTime> {
        self.patience.map(|_| BootTime::now().after(LAST_WORDS))
    }

    /// Whether to give up after so many times in vain, where what is refused has surely not been done.
    #[cfg(feature = "sqlite")]
    pub fn is_spent_after(self, times: u32) -> bool {
        let (until, least) = self.patience.unwrap_or((self.end, 1));
        self.has_passed() || times >= least && until.has_passed()
    }

    /// Whether it is an attempt's.
    pub fn is_brief(self) -> bool {
        self.patience.is_some()
    }

    pub fn has_passed(self) -> bool {
        self.end.has_passed()
    }

    pub fn left(self) -> Duration {
        self.end.left()
    }
}
