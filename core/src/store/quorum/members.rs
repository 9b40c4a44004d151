//! What this process remembers of the members: since when each is up, and requests still under way.

use super::pool::Pool;
use crate::lease::BootTime;
use crate::owner::OwnerToken;
use crate::store::Life;
use crate::store::cautions::Cautions;
use crate::sync::Mutex;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// From how many on those that are over are forgotten.
const MANY: usize = 64;

/// A name of a server's life that is so long was drawn, not counted: no other has it.
const SURELY_UNIQUE: usize = 32;

/// An attempt of which not all answers have come.
#[derive(Debug, Default)]
pub(super) struct Flight {
    given_up: AtomicBool,
}

impl Flight {
    /// Whatever is granted from now on is to be given back.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::SeqCst);
    }

    pub fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::SeqCst)
    }
}

/// What each process makes for itself.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub pool: Pool,
    pub cautions: Cautions,

    /// For each member, which life of the server was seen, and since when it is up by our clock.
    since: Mutex<HashMap<usize, (String, BootTime)>>,
    flights: Mutex<HashMap<OwnerToken, Weak<Flight>>>,
    /// The first member let a release wait in vain.
    pub first_is_silent: Arc<AtomicBool>,
}

impl Process {
    /// For how long a member has been up. The server's own word counts once: it follows its wall clock.
    pub fn up(&self, place: usize, life: Life, url: &str) -> Duration {
        let now = BootTime::now();
        let mut since = self.since.lock();
        if let Some((id, since)) = since.get(&place)
            && *id == life.id
        {
            return now.since(*since);
        }
        if life.id.len() >= SURELY_UNIQUE && since.values().any(|(id, _)| *id == life.id) {
            self.cautions.add([format!(
                "two members of the quorum are one server, {url} by another name: if it is down or forgets, so do both; let every member be a server of its own"
            )]);
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

    /// Waits for what is still under way for a token; what is not there by then is to be given back.
    pub fn settle(&self, token: OwnerToken, until: BootTime) {
        let is_under_way = || {
            let flights = self.flights.lock();
            flights
                .get(&token)
                .is_some_and(|flight| flight.strong_count() > 0)
        };
        while is_under_way() && !until.has_passed() {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.give_up(token);
    }

    /// What is still under way for a token is to be given back when it is granted; whether anything was
    /// under way at the end of its round.
    pub fn give_up(&self, token: OwnerToken) -> bool {
        let flight = self.flights.lock().remove(&token);
        if let Some(flight) = flight.as_ref().and_then(Weak::upgrade) {
            flight.give_up();
        }
        flight.is_some()
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
        assert!(members.up(0, life("a", 10), "") < Duration::from_secs(11));
        // Its wall clock has jumped.
        assert!(members.up(0, life("a", 9999), "") < Duration::from_secs(11));
        assert!(members.up(0, life("b", 0), "") < Duration::from_secs(1));
        assert!(members.up(1, life("b", 7), "") >= Duration::from_secs(7));
    }

    #[test]
    fn what_is_under_way_is_given_up() {
        let members = Process::default();
        let flight = Arc::new(Flight::default());
        let token = OwnerToken::from_bytes([1; 16]);
        members.note(token, &flight);
        members.give_up(OwnerToken::from_bytes([2; 16]));
        assert!(!flight.is_given_up());
        members.give_up(token);
        assert!(flight.is_given_up());
        for byte in 0..200 {
            members.note(
                OwnerToken::from_bytes([byte; 16]),
                &Arc::new(Flight::default()),
            );
        }
        assert!(members.flights.lock().len() <= MANY);
    }
}
