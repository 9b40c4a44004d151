//! Members whose answers come when the test wants.

use super::config::open;
use crate::capability::{Capabilities, Fence, Scope};
use crate::lease::BootTime;
use crate::mode::Mode;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::Signal;
use crate::store::{Answer, Attempt, Backend, Busy, Cancelled, Claim, Grant, Seat};
use crate::sync::Mutex;
use crate::url::Url;
use crate::{Code, Error, Result};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

#[derive(Debug)]
struct Member {
    url: String,
    owner: Mutex<Option<OwnerToken>>,
    /// The next attempt is answered when this says so; what it did is done at once.
    gate: Mutex<Option<Receiver<()>>>,
    refuses_releases: Mutex<u32>,
}

impl Member {
    fn new(number: usize) -> Arc<Self> {
        Arc::new(Member {
            url: format!("member:{number}"),
            owner: Mutex::default(),
            gate: Mutex::default(),
            refuses_releases: Mutex::default(),
        })
    }

    /// Delays the answer to the next attempt.
    fn delay(&self) -> Sender<()> {
        let (open, gate) = channel();
        *self.gate.lock() = Some(gate);
        open
    }

    fn give_to(&self, owner: Option<OwnerToken>) {
        *self.owner.lock() = owner;
    }

    fn is_of(&self, owner: OwnerToken) -> bool {
        *self.owner.lock() == Some(owner)
    }
}

impl Backend for Member {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            store: "member",
            shared: false,
            promote: false,
            permits: false,
            ttl: true,
            frees_on_death: false,
            fence: Fence::None,
            wakes: false,
            fair: false,
            export: false,
            list: false,
            break_lock: false,
            survives_restart: true,
            clock: "server",
            scope: Scope::Cluster,
        }
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn ping(&self, _: Option<BootTime>) -> Result<()> {
        Ok(())
    }

    fn attempt(&self, claim: &Claim, _: Option<&Arc<Signal>>) -> Result<Attempt> {
        let granted = *self.owner.lock().get_or_insert(claim.token) == claim.token;
        let gate = self.gate.lock().take();
        if let Some(gate) = gate {
            let _ = gate.recv();
        }
        Ok(if granted {
            Attempt::Granted(Grant {
                lease: claim.ttl.map(|ttl| BootTime::now().after(ttl)),
                ..Grant::default()
            })
        } else {
            Attempt::Busy(Busy::default())
        })
    }

    fn cancel(&self, _: &Claim) -> Result<Cancelled> {
        Ok(Cancelled::Gone)
    }

    fn extend(&self, _: &Claim, _: Duration) -> Result<Answer> {
        Ok(Answer::Done(None))
    }

    fn release(&self, claim: &Claim) -> Result<Answer> {
        let mut refusals = self.refuses_releases.lock();
        if *refusals > 0 {
            *refusals -= 1;
            return Err(Error::new(Code::Uncertain, "no answer"));
        }
        drop(refusals);
        let mut owner = self.owner.lock();
        if *owner == Some(claim.token) {
            *owner = None;
            return Ok(Answer::Done(None));
        }
        Ok(Answer::NotOurs)
    }

    fn is_held(&self, claim: &Claim) -> Result<bool> {
        Ok(self.is_of(claim.token))
    }
}

fn three() -> ([Arc<Member>; 3], Arc<dyn Backend>) {
    let members = [0, 1, 2].map(Member::new);
    let each = members.iter().map(|one| one.clone() as Arc<dyn Backend>);
    let mut url = Url::parse("quorum:", &[]).unwrap();
    let quorum = open(&mut url, each.collect()).unwrap();
    (members, quorum)
}

fn token(byte: u8) -> OwnerToken {
    OwnerToken::from_bytes([byte; 16])
}

fn claim() -> Claim {
    Claim {
        name: Name::new("a").unwrap(),
        token: token(1),
        mode: Mode::Exclusive,
        ttl: Some(Duration::from_secs(30)),
        deadline: None,
        fence_block: 1,
        label: None,
        fair: true,
        asked: BootTime::now(),
        seat: Seat::new(),
    }
}

fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn is_granted(attempt: Result<Attempt>) -> bool {
    matches!(attempt.unwrap(), Attempt::Granted(_))
}

#[test]
fn a_vote_that_comes_after_its_round_does_not_undo_the_next_round() {
    let ([late, free, taken], quorum) = three();
    let (claim, other) = (claim(), token(2));
    // The first round ends without the answer of one that has granted.
    free.give_to(Some(other));
    taken.give_to(Some(other));
    let answer = late.delay();
    assert!(!is_granted(quorum.attempt(&claim, None)));
    assert!(late.is_of(claim.token));
    // In the second that member must not count: its vote is about to be given back.
    free.give_to(None);
    assert!(!is_granted(quorum.attempt(&claim, None)));
    answer.send(()).unwrap();
    until(|| !late.is_of(claim.token));
    // Then it votes again.
    until(|| is_granted(quorum.attempt(&claim, None)));
    assert!(quorum.is_held(&claim).unwrap());
}

#[test]
fn a_release_that_goes_on_in_the_background_does_not_undo_the_next_round() {
    let ([first, second, third], quorum) = three();
    let (claim, other) = (claim(), token(2));
    second.give_to(Some(other));
    third.give_to(Some(other));
    // Given back in vain, and again in the background, while the next rounds are held.
    *first.refuses_releases.lock() = 2;
    assert!(!is_granted(quorum.attempt(&claim, None)));
    second.give_to(None);
    until(|| {
        let granted = is_granted(quorum.attempt(&claim, None));
        assert!(!granted || *first.refuses_releases.lock() == 0);
        granted
    });
    assert!(quorum.is_held(&claim).unwrap());
}
