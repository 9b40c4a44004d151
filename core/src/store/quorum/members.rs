//! What this process remembers of the members: since when each is up, and requests still under way.

use super::pool::Pool;
use crate::lease::BootTime;
use crate::owner::OwnerToken;
use crate::store::Life;
use crate::sync::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, PoisonError, Weak};
use std::time::Duration;

/// From how many on those that are over are forgotten.
const MANY: usize = 64;

/// An attempt of which not all answers have come.
#[derive(Debug, Default)]
pub(super) struct Flight(Mutex<Aloft>);

#[derive(Debug, Default)]
struct Aloft {
    /// The members that have not answered.
    places: Vec<usize>,
    given_up: bool,
}

impl Flight {
    /// The round is over without these.
    pub fn leave(&self, places: Vec<usize>) {
        self.0.lock().places = places;
    }

    /// A late answer has come; whether it is to be given back.
    pub fn land(&self, place: usize) -> bool {
        let mut aloft = self.0.lock();
        aloft.places.retain(|one| *one != place);
        aloft.given_up
    }

    /// Whatever is granted from now on is to be given back, and is owed until then.
    pub fn give_up(&self, token: OwnerToken, debts: &Debts) {
        let mut aloft = self.0.lock();
        if !aloft.given_up {
            aloft.given_up = true;
            aloft
                .places
                .iter()
                .for_each(|place| debts.note(token, *place));
        }
    }
}

/// Members at which something of a token is still to be given back. Such a member has no vote in a later
/// round of the same token: what it granted there would be given back behind the holder's back.
#[derive(Debug, Default)]
pub(super) struct Debts {
    open: std::sync::Mutex<HashSet<(OwnerToken, usize)>>,
    paid: Condvar,
}

impl Debts {
    fn open(&self) -> std::sync::MutexGuard<'_, HashSet<(OwnerToken, usize)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn note(&self, token: OwnerToken, place: usize) {
        self.open().insert((token, place));
    }

    pub fn pay(&self, token: OwnerToken, place: usize) {
        self.open().remove(&(token, place));
        self.paid.notify_all();
    }

    pub fn owes(&self, token: OwnerToken, place: usize) -> bool {
        !cfg!(canary = "forget_debts") && self.open().contains(&(token, place))
    }

    /// Waits until the member owes nothing; whether it came to that.
    pub fn wait(&self, token: OwnerToken, place: usize, until: BootTime) -> bool {
        let mut open = self.open();
        while open.contains(&(token, place)) {
            let left = until.left();
            if left.is_zero() {
                return false;
            }
            let woken = self.paid.wait_timeout(open, left);
            open = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

/// What each process makes for itself.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub pool: Pool,
    pub debts: Debts,

    /// For each member, which life of the server was seen, and since when it is up by our clock.
    since: Mutex<HashMap<usize, (String, BootTime)>>,
    flights: Mutex<HashMap<OwnerToken, Weak<Flight>>>,
}

impl Process {
    /// For how long a member has been up. The server's own word counts once: it follows its wall clock.
    pub fn up(&self, place: usize, life: Life) -> Duration {
        let now = BootTime::now();
        let mut since = self.since.lock();
        if let Some((id, since)) = since.get(&place)
            && *id == life.id
        {
            return now.since(*since);
        }
        let up_nanos = u64::try_from(life.up.as_nanos()).unwrap_or(u64::MAX);
        let began = BootTime::from_nanos(now.as_nanos().saturating_sub(up_nanos));
        since.insert(place, (life.id, began));
        now.since(began)
    }

    pub fn note(&self, token: OwnerToken, flight: &Arc<Flight>) {
        let mut flights = self.flights.lock();
        if flights.len() >= MANY {
            flights.retain(|_, flight| flight.strong_count() > 0);
        }
        flights.insert(token, Arc::downgrade(flight));
    }

    /// What is still under way for a token is to be given back when it is granted.
    pub fn give_up(&self, token: OwnerToken) {
        if let Some(flight) = self.flights.lock().remove(&token)
            && let Some(flight) = flight.upgrade()
        {
            flight.give_up(token, &self.debts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_own_word_counts_once() {
        let members = Process::default();
        let life = |id: &str, up| Life {
            id: id.into(),
            up: Duration::from_secs(up),
        };
        assert!(members.up(0, life("a", 10)) < Duration::from_secs(11));
        // Its wall clock has jumped.
        assert!(members.up(0, life("a", 9999)) < Duration::from_secs(11));
        assert!(members.up(0, life("b", 0)) < Duration::from_secs(1));
        assert!(members.up(1, life("b", 7)) >= Duration::from_secs(7));
    }

    #[test]
    fn what_is_under_way_is_given_up_and_owed() {
        let members = Process::default();
        let flight = Arc::new(Flight::default());
        let token = OwnerToken::from_bytes([1; 16]);
        flight.leave(vec![0, 2]);
        members.note(token, &flight);
        assert!(!flight.land(0));
        members.give_up(OwnerToken::from_bytes([2; 16]));
        assert!(!members.debts.owes(token, 2));
        members.give_up(token);
        assert!(members.debts.owes(token, 2) && !members.debts.owes(token, 0));
        assert!(!members.debts.wait(token, 2, BootTime::now()));
        assert!(flight.land(2));
        members.debts.pay(token, 2);
        assert!(members.debts.wait(token, 2, BootTime::now()));
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let members = Process::default();
        for byte in 0..200 {
            members.note(
                OwnerToken::from_bytes([byte; 16]),
                &Arc::new(Flight::default()),
            );
        }
        assert!(members.flights.lock().len() <= MANY);
    }
}
