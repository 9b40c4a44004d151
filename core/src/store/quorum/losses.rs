//! Members whose holds end with a session: the quorum's is over once too few of them can have it still.

use super::config::Quorum;
use super::rules::Need;
use crate::owner::OwnerToken;
use crate::signal::Signal;
use crate::store::Claim;
use crate::sync::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// From how many on alarms are looked through for those that nobody hears any more.
const MANY: usize = 64;
/// How many lost holds are known to be, at most.
const MOST_LOST: usize = 1024;

/// What a process knows of the ends of its members' sessions.
#[derive(Debug, Default)]
pub(super) struct Losses {
    alarms: Mutex<HashMap<OwnerToken, Alarm>>,
    lost: Mutex<VecDeque<OwnerToken>>,
}

/// A hold's bell, and those of its members, who may know theirs by weak references alone.
type Alarm = (Weak<Signal>, Vec<Arc<Signal>>);

impl Losses {
    /// A bell for each member, in place of those of before; the hold's is rung once so many have been that too few
    /// are left.
    fn set(&self, token: OwnerToken, bell: &Arc<Signal>, rule: Need) -> Vec<Arc<Signal>> {
        let rung = Arc::new(AtomicUsize::new(0));
        let one = || {
            let (bell, rung) = (Arc::downgrade(bell), rung.clone());
            Arc::new(Signal::with_hook(move || {
                let rung = rung.fetch_add(1, Ordering::SeqCst) + 1;
                if rule.is_short(rung)
                    && let Some(bell) = bell.upgrade()
                {
                    bell.ring();
                }
            }))
        };
        let members: Vec<Arc<Signal>> = (0..rule.of).map(|_| one()).collect();
        let mut alarms = self.alarms.lock();
        if alarms.len() >= MANY {
            alarms.retain(|_, (bell, _)| bell.strong_count() > 0);
        }
        alarms.insert(token, (Arc::downgrade(bell), members.clone()));
        members
    }

    /// The hold is over, or its end is known.
    pub fn forget(&self, token: OwnerToken) {
        self.alarms.lock().remove(&token);
    }

    /// A late vote of a hold that has been called lost makes it none.
    fn is_lost(&self, token: OwnerToken, is_short: bool) -> bool {
        let mut lost = self.lost.lock();
        let is_known = lost.contains(&token);
        if is_short && !is_known {
            if lost.len() >= MOST_LOST {
                lost.pop_front();
            }
            lost.push_back(token);
        }
        is_short || is_known
    }
}

impl Quorum {
    /// Asks nobody: members that have lost it, or never had it, know that by themselves.
    pub(super) fn has_lost_members(&self, token: OwnerToken) -> bool {
        let members = self.members.iter();
        let lost = members.filter(|member| member.has_lost(token)).count();
        // Members with leases know nothing.
        lost > 0
            && self
                .process()
                .losses
                .is_lost(token, self.rule.is_short(lost))
    }

    pub(super) fn set_alarm(&self, claim: &Claim, bell: &Arc<Signal>) {
        let bells = self.process().losses.set(claim.token, bell, self.rule);
        for (member, bell) in self.members.iter().zip(&bells) {
            member.alarm(claim, bell);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_THREE: Need = Need { need: 2, of: 3 };

    fn token(byte: u8) -> OwnerToken {
        OwnerToken::from_bytes([byte; 16])
    }

    #[test]
    fn the_bell_rings_once_too_few_are_left() {
        let (losses, bell) = (Losses::default(), Arc::new(Signal::new()));
        let members = losses.set(token(1), &bell, OF_THREE);
        // Rung twice, it is one.
        members[0].ring();
        members[0].ring();
        assert!(!bell.is_rung());
        members[2].ring();
        assert!(bell.take());
        // Set anew, it counts anew: whoever is away rings again at once.
        let members = losses.set(token(1), &bell, OF_THREE);
        members[0].ring();
        assert!(!bell.is_rung());
        members[1].ring();
        assert!(bell.is_rung());
    }

    #[test]
    fn alarms_that_nobody_hears_are_forgotten() {
        let (losses, kept) = (Losses::default(), Arc::new(Signal::new()));
        losses.set(token(0), &kept, OF_THREE);
        for byte in 1..200 {
            losses.set(token(byte), &Arc::new(Signal::new()), OF_THREE);
        }
        let alarms = losses.alarms.lock();
        assert!(alarms.len() <= MANY && alarms.contains_key(&token(0)));
    }

    #[test]
    fn what_was_called_lost_stays_so() {
        let losses = Losses::default();
        assert!(!losses.is_lost(token(1), false));
        assert!(losses.is_lost(token(1), true));
        assert!(losses.is_lost(token(1), false));
        assert!(!losses.is_lost(token(2), false));
    }
}
