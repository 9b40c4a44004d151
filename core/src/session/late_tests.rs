//! Persistent sessions of several processes on a store whose answers come when the test wants.

use super::{Session, Taken};
use crate::capability::Capabilities;
use crate::lease::BootTime;
use crate::name::Name;
use crate::options::LockOptions;
use crate::owner::OwnerToken;
use crate::registry::Store;
use crate::signal::Signal;
use crate::store::{Answer, Attempt, Backend, Busy, Cancelled, Claim, Grant, Inspection};
use crate::sync::Mutex;
use crate::{Code, Error, Result};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Longer than any test waits.
const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(400);

/// One lock, whatever its name.
#[derive(Debug, Default)]
struct Far {
    held: Mutex<Option<(OwnerToken, BootTime)>>,
    /// What a verb says in place of doing it, once.
    faults: Mutex<HashMap<&'static str, Code>>,
    /// A verb's answer comes when this says so, once; it is done at once.
    gates: Mutex<HashMap<&'static str, Receiver<()>>>,
    asked: Mutex<Vec<&'static str>>,
}

impl Far {
    fn fail(&self, verb: &'static str, code: Code) {
        self.faults.lock().insert(verb, code);
    }

    fn delay(&self, verb: &'static str) -> Sender<()> {
        let (open, gate) = channel();
        self.gates.lock().insert(verb, gate);
        open
    }

    fn times(&self, verb: &str) -> usize {
        self.asked.lock().iter().filter(|one| **one == verb).count()
    }

    fn act<T>(
        &self,
        verb: &'static str,
        act: impl FnOnce(&mut Option<(OwnerToken, BootTime)>) -> T,
    ) -> Result<T> {
        self.asked.lock().push(verb);
        if let Some(code) = self.faults.lock().remove(verb) {
            return Err(Error::new(code, "as the test wants"));
        }
        let answer = {
            let mut held = self.held.lock();
            held.take_if(|(_, until)| until.has_passed());
            act(&mut held)
        };
        let gate = self.gates.lock().remove(verb);
        if let Some(gate) = gate {
            let _ = gate.recv();
        }
        Ok(answer)
    }
}

fn until(claim: &Claim) -> BootTime {
    BootTime::now().after(claim.ttl.unwrap_or(LONG))
}

impl Backend for Far {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            export: true,
            ..Capabilities::of_a_plain_server("far")
        }
    }

    fn url(&self) -> &str {
        "far:"
    }

    fn ping(&self, _: Option<BootTime>) -> Result<()> {
        Ok(())
    }

    fn attempt(&self, claim: &Claim, _: Option<&Arc<Signal>>) -> Result<Attempt> {
        self.act("attempt", |held| match held {
            Some(_) => Attempt::Busy(Busy::default()),
            None => {
                *held = Some((claim.token, until(claim)));
                Attempt::Granted(Grant::default())
            }
        })
    }

    fn cancel(&self, _: &Claim) -> Result<Cancelled> {
        Ok(Cancelled::Gone)
    }

    fn extend(&self, claim: &Claim, ttl: Duration) -> Result<Answer> {
        self.act("extend", |held| match held {
            Some((owner, until)) if *owner == claim.token => {
                *until = (*until).max(BootTime::now().after(ttl));
                Answer::Done(None)
            }
            _ => Answer::NotOurs,
        })
    }

    fn release(&self, claim: &Claim) -> Result<Answer> {
        self.act("release", |held| {
            match held.take_if(|(owner, _)| *owner == claim.token) {
                Some(_) => Answer::Done(None),
                None => Answer::NotOurs,
            }
        })
    }

    fn is_held(&self, claim: &Claim) -> Result<bool> {
        Ok(self
            .held
            .lock()
            .is_some_and(|(owner, _)| owner == claim.token))
    }

    fn inspect(&self, name: &Name, _: Option<BootTime>) -> Result<Inspection> {
        Ok(Inspection {
            name: name.as_bytes().to_vec(),
            ..Inspection::default()
        })
    }

    fn adopt(&self, claim: &Claim, heir: OwnerToken) -> Result<Option<Grant>> {
        self.act("adopt", |held| {
            let (owner, _) = held.as_mut().filter(|(owner, _)| *owner == claim.token)?;
            *owner = heir;
            Some(Grant::default())
        })
    }
}

/// A store, and two processes' sessions of one id.
fn two() -> (Arc<Far>, Session, Session) {
    let far = Arc::new(Far::default());
    let store = Store::over(far.clone(), LockOptions::default());
    let session = || Session::persistent(&store, "me").unwrap();
    (far, session(), session())
}

fn wait(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Takes the lock for a short time; on a slow machine that may be over before it is had.
fn take_for_short(session: &Session) {
    wait(|| session.acquire("a", SHORT).unwrap() == Taken::New);
}

/// Lets the lease of a hold end.
fn outlast(far: &Far) {
    wait(|| far.held.lock().is_none_or(|(_, until)| until.has_passed()));
}

#[test]
fn an_answer_after_the_lease_is_about_another_hold() {
    let (far, mine, theirs) = two();
    take_for_short(&mine);
    // As if the request were long under way: what it finds is theirs.
    let open = far.delay("extend");
    std::thread::scope(|scope| {
        let renewal = scope.spawn(|| mine.renew("a", SHORT));
        // On a slow machine it may come too late itself.
        wait(|| far.times("extend") == 1 || renewal.is_finished());
        outlast(&far);
        assert_eq!(theirs.acquire("a", LONG).unwrap(), Taken::New);
        open.send(()).unwrap();
        assert!(!renewal.join().unwrap().unwrap());
    });
    assert_eq!(mine.release_all(None).unwrap(), 0);
    assert!(theirs.renew("a", LONG).unwrap());
}

#[test]
fn a_renewal_under_way_brings_no_hold_back_that_is_released() {
    let (far, mine, theirs) = two();
    assert_eq!(mine.acquire("a", LONG).unwrap(), Taken::New);
    let open = far.delay("extend");
    std::thread::scope(|scope| {
        let renewal = scope.spawn(|| mine.renew("a", LONG));
        wait(|| far.times("extend") == 1);
        assert!(mine.release("a").unwrap());
        open.send(()).unwrap();
        renewal.join().unwrap().unwrap();
    });
    assert_eq!(theirs.acquire("a", LONG).unwrap(), Taken::New);
    assert_eq!(mine.release_all(None).unwrap(), 0);
    assert_eq!(mine.acquire("a", LONG).unwrap(), Taken::Busy);
    assert!(theirs.renew("a", LONG).unwrap());
}

#[test]
fn a_hand_over_that_fails_releases_no_other_hold() {
    for (code, releases) in [(Code::Unavailable, 0), (Code::Uncertain, 1)] {
        let (far, mine, theirs) = two();
        far.fail("adopt", code);
        // What it had is given back in the background alone, which asks once more.
        let open = far.delay("release");
        let error = std::thread::scope(|scope| {
            let acquire = scope.spawn(|| mine.acquire("a", LONG));
            wait(|| far.times("release") >= 1);
            if releases == 1 {
                open.send(()).unwrap();
            }
            acquire.join().unwrap().unwrap_err()
        });
        assert_eq!(error.code(), code);
        drop(open);
        wait(|| far.held.lock().is_none());
        assert_eq!(theirs.acquire("a", LONG).unwrap(), Taken::New);
        assert_eq!(far.times("release"), releases + 1, "{code:?}");
        assert!(theirs.renew("a", LONG).unwrap());
    }
}

#[test]
fn a_hand_over_that_is_answered_after_the_lease_is_none() {
    let (far, mine, theirs) = two();
    let open = far.delay("adopt");
    std::thread::scope(|scope| {
        let acquire = scope.spawn(|| mine.acquire("a", SHORT));
        wait(|| far.times("adopt") == 1);
        outlast(&far);
        assert_eq!(theirs.acquire("a", LONG).unwrap(), Taken::New);
        open.send(()).unwrap();
        assert_eq!(acquire.join().unwrap().unwrap(), Taken::Busy);
    });
    assert_eq!(mine.release_all(None).unwrap(), 0);
    assert!(theirs.renew("a", LONG).unwrap());
}

#[test]
fn what_may_be_released_is_not_released_again() {
    let (far, mine, theirs) = two();
    assert_eq!(mine.acquire("a", LONG).unwrap(), Taken::New);
    far.fail("release", Code::Uncertain);
    assert_eq!(mine.release_all(None).unwrap_err().code(), Code::Uncertain);
    // It was, before the answer was lost.
    *far.held.lock() = None;
    assert_eq!(theirs.acquire("a", LONG).unwrap(), Taken::New);
    assert_eq!(mine.release_all(None).unwrap(), 0);
    assert!(theirs.renew("a", LONG).unwrap());
    // What surely was not is.
    far.fail("release", Code::Unavailable);
    theirs.release_all(None).unwrap_err();
    assert_eq!(theirs.release_all(None).unwrap(), 1);
}

#[test]
fn a_hold_whose_lease_is_over_is_not_released() {
    let (far, mine, theirs) = two();
    take_for_short(&mine);
    outlast(&far);
    assert_eq!(theirs.acquire("a", LONG).unwrap(), Taken::New);
    assert!(!mine.release("a").unwrap());
    assert!(theirs.renew("a", LONG).unwrap());
    // Whoever has nothing of it releases what the id has.
    assert!(mine.release("a").unwrap());
}

#[test]
fn a_hold_that_was_lost_is_nobodys_to_renew_or_release() {
    let (far, mine, theirs) = two();
    take_for_short(&mine);
    outlast(&far);
    assert_eq!(theirs.acquire("a", LONG).unwrap(), Taken::New);
    assert!(!mine.renew("a", LONG).unwrap());
    assert!(!mine.renew("a", LONG).unwrap());
    assert!(!mine.release("a").unwrap());
    assert!(theirs.renew("a", LONG).unwrap());
}

#[test]
fn a_release_that_surely_failed_can_be_tried_again() {
    let (far, mine, theirs) = two();
    take_for_short(&mine);
    far.fail("release", Code::Unavailable);
    if mine.release("a").is_err() {
        outlast(&far);
        assert_eq!(theirs.acquire("a", LONG).unwrap(), Taken::New);
        assert!(!mine.release("a").unwrap());
        assert!(theirs.renew("a", LONG).unwrap());
    }
}

#[test]
fn a_renewal_for_less_does_not_end_a_hold() {
    let (_, mine, _) = two();
    assert_eq!(mine.acquire("a", LONG).unwrap(), Taken::New);
    assert_eq!(
        mine.acquire("a", Duration::from_millis(1)).unwrap(),
        Taken::Renewed
    );
    std::thread::sleep(Duration::from_millis(20));
    assert!(mine.release("a").unwrap());
}
