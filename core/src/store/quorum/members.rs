//! What this process remembers of the members: since when each is up, and requests still under way.

use super::losses::Losses;
use super::pool::Pool;
use crate::Error;
use crate::lease::{BootTime, drift_allowance};
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::store::Life;
use crate::store::cautions::Cautions;
use crate::sync::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// From how many on those that are over are forgotten.
const MANY: usize = 64;

/// How many holds at once are known to be told of another set-up.
const MOST_MISFITS: usize = 1024;

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

/// What was seen of a member's server.
#[derive(Debug)]
struct Seen {
    /// Which life.
    id: String,
    /// How long it had forgotten nothing then. Not since when: it may be older than our clock.
    kept: Duration,
    at: BootTime,
    /// When it was last asked.
    asked: BootTime,
    /// By how much its wall clock was ahead of our boot clock then.
    ahead: Option<Bounds>,
}

/// A difference of two clocks, in nanoseconds, as a reading of the one shows it that was made after one moment
/// and before another.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    least: i128,
    most: i128,
}

fn nanos(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

impl Bounds {
    fn of(clock: Duration, asked: BootTime, now: BootTime) -> Self {
        Bounds {
            least: nanos(clock) - i128::from(now.as_nanos()),
            most: nanos(clock) - i128::from(asked.as_nanos()),
        }
    }

    /// What both say, unless the one clock has stepped between the two.
    fn and(self, later: Bounds, between: Duration) -> Option<Bounds> {
        let (drift, step) = (nanos(between / 100), nanos(drift_allowance(between)));
        let is_steady = later.least <= self.most + step && later.most >= self.least - step;
        is_steady.then(|| Bounds {
            least: later.least.max(self.least - drift),
            most: later.most.min(self.most + drift),
        })
    }
}

impl Seen {
    fn up(&self, now: BootTime) -> Duration {
        self.kept.saturating_add(now.since(self.at))
    }

    /// A wall clock that has gone ahead ends leases too early: as if they were forgotten. One that has gone back
    /// will be set right, and ends then what was granted meanwhile; who does not look in between never knows.
    fn look(&mut self, clock: Option<Duration>, asked: BootTime, now: BootTime) {
        if let (Some(clock), Some(ahead)) = (clock, self.ahead) {
            let found = Bounds::of(clock, asked, now);
            let steady = ahead.and(found, now.since(self.asked));
            if steady.is_none() && !cfg!(canary = "blind_clock") {
                (self.kept, self.at) = (Duration::ZERO, now);
            }
            self.ahead = Some(steady.unwrap_or(found));
        }
        self.asked = self.asked.max(asked);
    }
}

/// What each process makes for itself.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub pool: Pool,
    pub cautions: Cautions,
    pub losses: Losses,

    /// For each member, what was seen of its server.
    seen: Mutex<HashMap<usize, Seen>>,
    /// When holders of a name were last looked at.
    looked: Mutex<HashMap<Vec<u8>, BootTime>>,
    /// Holds beside which another set-up has one, as found out after their grant.
    misfits: Mutex<VecDeque<(OwnerToken, Error)>>,
    /// Whether a first round has been made.
    pub is_known: AtomicBool,
    flights: Mutex<HashMap<OwnerToken, Weak<Flight>>>,
    /// The first member let a release wait in vain.
    pub first_is_silent: Arc<AtomicBool>,
}

impl Process {
    /// For how long a member has kept what it granted, as an answer says to what was asked then. The
    /// server's own word counts once: it follows its wall clock.
    pub fn up(&self, place: usize, life: Life, asked: BootTime, url: &str) -> Duration {
        let now = BootTime::now();
        let mut seen = self.seen.lock();
        if let Some(known) = seen.get_mut(&place)
            && known.id == life.id
        {
            known.look(life.clock, asked, now);
            return known.up(now);
        }
        if life.id.len() >= SURELY_UNIQUE && seen.values().any(|known| known.id == life.id) {
            self.cautions.add([format!(
                "two members of the quorum are one server, {url} by another name: if it is down or forgets, so do both; let every member be a server of its own"
            )]);
        }
        let new = Seen {
            id: life.id,
            // It has begun after the one before was there still, whatever its clock says.
            kept: seen
                .get(&place)
                .map_or(life.up, |last| life.up.min(now.since(last.asked))),
            at: now,
            asked,
            ahead: life.clock.map(|clock| Bounds::of(clock, asked, now)),
        };
        let up = new.kept;
        seen.insert(place, new);
        up
    }

    /// Whether the holders of a name have not been looked at of late.
    pub fn is_due(&self, name: &Name, pause: Duration) -> bool {
        let now = BootTime::now();
        let looked = self.looked.lock();
        looked
            .get(name.as_bytes())
            .is_none_or(|last| now.since(*last) >= pause)
    }

    pub fn has_looked(&self, name: &Name, pause: Duration) {
        let now = BootTime::now();
        let mut looked = self.looked.lock();
        if looked.len() >= MANY {
            looked.retain(|_, last| now.since(*last) < pause);
        }
        looked.insert(name.as_bytes().to_vec(), now);
    }

    pub fn note_misfit(&self, token: OwnerToken, error: Error) {
        let mut misfits = self.misfits.lock();
        if misfits.len() >= MOST_MISFITS {
            misfits.pop_front();
        }
        misfits.push_back((token, error));
    }

    pub fn take_misfit(&self, token: OwnerToken) -> Option<Error> {
        let mut misfits = self.misfits.lock();
        let place = misfits.iter().position(|(one, _)| *one == token)?;
        misfits.remove(place).map(|(_, error)| error)
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

    fn life(id: &str, up: u64, clock: Option<u64>) -> Life {
        Life {
            id: id.into(),
            up: Duration::from_secs(up),
            clock: clock.map(Duration::from_secs),
        }
    }

    #[test]
    fn a_servers_own_word_counts_once() {
        let members = Process::default();
        let up = |place, id, age| members.up(place, life(id, age, None), BootTime::now(), "");
        assert!(up(0, "a", 10) < Duration::from_secs(11));
        // Its wall clock has jumped.
        assert!(up(0, "a", 9999) < Duration::from_secs(11));
        assert!(up(0, "b", 0) < Duration::from_secs(1));
        assert!(up(1, "b", 7) >= Duration::from_secs(7));
    }

    #[test]
    fn a_member_may_be_older_than_this_host() {
        let members = Process::default();
        let age = BootTime::now().as_nanos() / 1_000_000_000 + 1_000_000;
        for _ in 0..2 {
            let up = members.up(0, life("a", age, None), BootTime::now(), "");
            assert!(up >= Duration::from_secs(age), "{up:?}");
        }
    }

    #[test]
    fn a_life_begins_after_the_one_before() {
        let members = Process::default();
        members.up(0, life("a", 100, None), BootTime::now(), "");
        // Its wall clock is an hour ahead.
        let up = members.up(0, life("b", 3600, None), BootTime::now(), "");
        assert!(up < Duration::from_secs(60), "{up:?}");
    }

    #[test]
    fn a_clock_that_steps_ends_what_was_kept() {
        let long = Duration::from_secs(100);
        for (place, step) in [1_100_000, 900_000].into_iter().enumerate() {
            let members = Process::default();
            let up = |clock| members.up(place, life("a", 100, Some(clock)), BootTime::now(), "");
            assert!(up(1_000_000) >= long);
            assert!(up(1_000_000) >= long);
            assert!(up(step) < long);
            // Its own word is not asked for again.
            assert!(up(step) < long);
            // Right again, which ends what was granted meanwhile.
            assert!(up(1_000_000) < long);
        }
    }

    #[test]
    fn an_answer_that_was_long_under_way_says_little_of_a_clock() {
        let members = Process::default();
        let long = Duration::from_secs(100);
        let asked = BootTime::from_nanos(BootTime::now().as_nanos() - 10_000_000_000);
        let late = |clock| members.up(1, life("b", 100, Some(clock)), asked, "");
        assert!(late(500_000) >= long);
        assert!(late(500_009) >= long);
        assert!(late(500_012) < long);
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
