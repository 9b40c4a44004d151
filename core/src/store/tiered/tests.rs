//! What can come between two steps: a store does what the test wants once it has carried out a verb.

use super::baton::Batons;
use super::config::Tiered;
use crate::capability::Capabilities;
use crate::fork::PerProcess;
use crate::lease::BootTime;
use crate::name::Name;
use crate::owner::OwnerToken;
use crate::signal::Signal;
use crate::store::{Answer, Attempt, Backend, Cancelled, Claim, Grant, Inspection, Life};
use crate::sync::Mutex;
use crate::url::Url;
use crate::{Code, Result};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{fmt, fs};

const TTL: Duration = Duration::from_secs(600);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verb {
    Attempt,
    Extend,
    IsHeld,
    Inspect,
}

struct Act(Box<dyn FnOnce() + Send>);

impl fmt::Debug for Act {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Act")
    }
}

/// A store, and what comes after the next of a verb.
#[derive(Debug)]
struct Watched {
    inner: Arc<dyn Backend>,
    next: Mutex<Option<(Verb, Act)>>,
    /// When the last `extend` was asked for.
    asked: Mutex<Option<BootTime>>,
    /// How long its server is up, if it forgets.
    up: Mutex<Option<Duration>>,
}

impl Watched {
    fn over(inner: Arc<dyn Backend>) -> Arc<Self> {
        Arc::new(Watched {
            inner,
            next: Mutex::default(),
            asked: Mutex::default(),
            up: Mutex::default(),
        })
    }

    fn after(&self, verb: Verb, act: impl FnOnce() + Send + 'static) {
        *self.next.lock() = Some((verb, Act(Box::new(act))));
    }

    fn has_come(&self) -> bool {
        self.next.lock().is_none()
    }

    fn did<T>(&self, verb: Verb, answer: T) -> T {
        let act = self.next.lock().take_if(|(of, _)| *of == verb);
        if let Some((_, act)) = act {
            act.0();
        }
        answer
    }
}

impl Backend for Watched {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn url(&self) -> &str {
        self.inner.url()
    }

    fn ping(&self, deadline: Option<BootTime>) -> Result<()> {
        self.inner.ping(deadline)
    }

    fn life(&self, _: Option<BootTime>) -> Result<Option<Life>> {
        Ok(self.up.lock().map(|up| Life {
            id: "1".into(),
            up,
            clock: None,
        }))
    }

    fn attempt(&self, claim: &Claim, bell: Option<&Arc<Signal>>) -> Result<Attempt> {
        self.did(Verb::Attempt, self.inner.attempt(claim, bell))
    }

    fn cancel(&self, claim: &Claim) -> Result<Cancelled> {
        self.inner.cancel(claim)
    }

    fn extend(&self, claim: &Claim, ttl: Duration) -> Result<Answer> {
        *self.asked.lock() = Some(claim.asked);
        self.did(Verb::Extend, self.inner.extend(claim, ttl))
    }

    fn release(&self, claim: &Claim) -> Result<Answer> {
        self.inner.release(claim)
    }

    fn is_held(&self, claim: &Claim) -> Result<bool> {
        self.did(Verb::IsHeld, self.inner.is_held(claim))
    }

    fn inspect(&self, name: &Name, deadline: Option<BootTime>) -> Result<Inspection> {
        self.did(Verb::Inspect, self.inner.inspect(name, deadline))
    }
}

/// Two processes of a host, and what they share.
struct Host {
    folder: PathBuf,
    near: Arc<dyn Backend>,
    far: Arc<dyn Backend>,
    /// What the first of them sees of the stores.
    near_of_one: Arc<Watched>,
    far_of_one: Arc<Watched>,
    one: Arc<Tiered>,
    two: Arc<Tiered>,
}

fn open(url: &str, by: fn(&mut Url) -> Result<Arc<dyn Backend>>) -> Arc<dyn Backend> {
    by(&mut Url::parse(url, &[]).unwrap()).unwrap()
}

fn tiers(near: &Arc<dyn Backend>, far: &Arc<dyn Backend>, state: PathBuf) -> Arc<Tiered> {
    Arc::new(Tiered {
        local: near.clone(),
        remote: far.clone(),
        budget: 32,
        allowance: TTL,
        batons: Batons::new(state, "stores").unwrap(),
        can: far.capabilities(),
        url: "tiered:".into(),
        process: PerProcess::new(),
    })
}

impl Host {
    fn start() -> Arc<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("synlock-tiers-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(&id);
        fs::create_dir_all(&folder).unwrap();
        let shm = format!("shm:{}/segment?slots=16", folder.display());
        let near = open(&shm, crate::store::shm::open);
        let far = open(&format!("memory:{id}"), crate::store::memory::open);
        let near_of_one = Watched::over(near.clone());
        let far_of_one = Watched::over(far.clone());
        let (near_dyn, far_dyn): (Arc<dyn Backend>, Arc<dyn Backend>) =
            (near_of_one.clone(), far_of_one.clone());
        let state = folder.join("state");
        Arc::new(Host {
            one: tiers(&near_dyn, &far_dyn, state.clone()),
            two: tiers(&near, &far, state),
            folder,
            near,
            far,
            near_of_one,
            far_of_one,
        })
    }

    /// The first process loses the local lock, as one does that is frozen for long; the second asks.
    fn pass(&self) -> Result<Attempt> {
        assert!(self.near.break_lock(&name(), None).unwrap());
        self.two.attempt(&claim(2), Some(&bell()))
    }

    /// A holder dies: its baton stays, and so does the remote hold.
    fn leave_a_baton(&self) {
        granted(self.two.attempt(&claim(3), None));
        assert!(self.near.break_lock(&name(), None).unwrap());
    }

    fn two_holds(&self) -> bool {
        self.two.is_held(&claim(2)).unwrap()
    }

    fn is_free(&self, store: &Arc<dyn Backend>) -> bool {
        matches!(store.attempt(&claim(9), None), Ok(Attempt::Granted(_)))
    }

    /// Where the baton of a claim is.
    fn baton(&self, of: &str) -> PathBuf {
        let only = |path: PathBuf| {
            let mut found = fs::read_dir(path).unwrap();
            found.next().unwrap().unwrap().path()
        };
        only(only(self.folder.join("state"))).join(of)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn name() -> Name {
    Name::new("n").unwrap()
}

fn bell() -> Arc<Signal> {
    Arc::new(Signal::new())
}

fn claim(byte: u8) -> Claim {
    Claim::exclusive(name(), OwnerToken::from_bytes([byte; 16]), TTL)
}

fn granted(answer: Result<Attempt>) -> Grant {
    match answer {
        Ok(Attempt::Granted(grant)) => grant,
        other => panic!("{other:?}"),
    }
}

fn busy(answer: Result<Attempt>) {
    assert!(matches!(answer, Ok(Attempt::Busy(_))), "{answer:?}");
}

fn code<T>(answer: Result<T>) -> Code {
    answer.err().map_or(Code::Ok, |error| error.code())
}

#[test]
fn who_waits_remotely_and_lost_its_local_place_takes_nothing_away() {
    let ways: [fn(&Tiered, &Claim); 3] = [
        |tiers, claim| busy(tiers.confirm(claim, &bell())),
        |tiers, claim| assert_eq!(tiers.cancel(claim).unwrap(), Cancelled::Gone),
        |tiers, claim| assert!(tiers.release(claim).is_ok()),
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let host = Host::start();
        granted(host.far.attempt(&claim(9), None));
        busy(host.one.attempt(&claim(1), Some(&bell())));
        busy(host.pass());
        // The other host gives it back, and the second process is the first that asks.
        let waits = host.one.known(claim(1).token).unwrap().remote;
        host.far.release(&waits).unwrap();
        host.far.release(&claim(9)).unwrap();
        granted(host.two.confirm(&claim(2), &bell()));
        way(&host.one, &claim(1));
        assert!(host.two_holds(), "way {number}");
        if number == 0 {
            // It has a place again.
            assert_eq!(host.two.release(&claim(2)).unwrap(), Answer::Done(None));
            granted(host.one.confirm(&claim(1), &bell()));
        }
    }
}

#[test]
fn who_loses_its_local_place_before_it_has_the_baton_leaves_it() {
    let ways: [fn(&Tiered); 2] = [
        |tiers| busy(tiers.attempt(&claim(1), None)),
        |tiers| tiers.sweep(&claim(1)),
    ];
    for way in ways {
        // Before it looks whether it has its place, and after.
        for verb in [Verb::Attempt, Verb::IsHeld] {
            let host = Host::start();
            let other = Arc::downgrade(&host);
            host.near_of_one.after(verb, move || {
                granted(other.upgrade().unwrap().pass());
            });
            way(&host.one);
            assert!(host.near_of_one.has_come() && host.two_holds(), "{verb:?}");
        }
    }
}

#[test]
fn who_held_and_lost_its_local_place_asks_anew_for_one() {
    let host = Host::start();
    granted(host.one.attempt(&claim(1), None));
    granted(host.pass());
    busy(host.one.attempt(&claim(1), Some(&bell())));
    assert!(host.two_holds());
}

#[test]
fn who_loses_its_baton_while_it_goes_on_does_not_give_the_remote_hold_up() {
    // While the remote store is asked; before the baton is written.
    for is_near in [false, true] {
        let host = Host::start();
        host.leave_a_baton();
        let store = [&host.far_of_one, &host.near_of_one][usize::from(is_near)];
        let other = Arc::downgrade(&host);
        store.after(Verb::Extend, move || {
            granted(other.upgrade().unwrap().pass());
        });
        assert_eq!(code(host.one.attempt(&claim(1), None)), Code::Unavailable);
        assert!(store.has_come() && host.two_holds(), "{is_near}");
    }
}

#[test]
fn who_loses_its_local_place_while_it_writes_its_first_baton_gives_it_up() {
    let host = Host::start();
    let other = Arc::downgrade(&host);
    host.near_of_one
        .after(Verb::Extend, move || busy(other.upgrade().unwrap().pass()));
    assert_eq!(code(host.one.attempt(&claim(1), None)), Code::Unavailable);
    granted(host.two.confirm(&claim(2), &bell()));
    assert!(host.two_holds());
}

#[test]
fn a_lease_counts_from_before_the_local_lock_was_made_sure_of() {
    let host = Host::start();
    let lease = granted(host.one.attempt(&claim(1), None)).lease.unwrap();
    let asked = host.near_of_one.asked.lock().unwrap();
    assert!(lease <= asked.after(TTL), "{lease:?} {asked:?}");
}

#[test]
fn a_baton_that_cannot_be_ended_keeps_neither_store_locked() {
    let host = Host::start();
    granted(host.one.attempt(&claim(1), None));
    let file = host.baton(&claim(1).token.to_hex());
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert_eq!(code(host.one.release(&claim(1))), Code::Storage);
    assert!(host.is_free(&host.near) && host.is_free(&host.far));
}

#[test]
fn a_baton_that_cannot_be_handed_over_is_given_back() {
    let host = Host::start();
    granted(host.one.attempt(&claim(1), None));
    busy(host.two.attempt(&claim(2), Some(&bell())));
    fs::create_dir_all(host.baton("free").join("full")).unwrap();
    assert_eq!(host.one.release(&claim(1)).unwrap(), Answer::Done(None));
    assert!(host.is_free(&host.far));
    host.two.cancel(&claim(2)).unwrap();
    assert!(host.is_free(&host.near));
}

#[test]
fn a_baton_of_a_lost_hold_that_cannot_be_ended_keeps_nobody_out() {
    let host = Host::start();
    host.leave_a_baton();
    assert!(host.far.break_lock(&name(), None).unwrap());
    let file = host.baton(&claim(1).token.to_hex());
    host.far_of_one.after(Verb::Extend, move || {
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
    });
    assert_eq!(code(host.one.attempt(&claim(1), None)), Code::Storage);
    assert!(host.is_free(&host.near) && host.is_free(&host.far));
}

#[test]
fn who_leaves_a_baton_to_waiters_that_go_away_gives_it_back() {
    let host = Host::start();
    host.leave_a_baton();
    granted(host.near.attempt(&claim(1), None));
    busy(host.near.attempt(&claim(2), Some(&bell())));
    let near = host.near.clone();
    host.near_of_one.after(Verb::Inspect, move || {
        assert!(near.cancel(&claim(2)).is_ok())
    });
    host.one.cancel(&claim(1)).unwrap();
    assert!(host.near_of_one.has_come() && host.is_free(&host.far));
}

/// A quorum asks its members: one that has forgotten must not vote.
#[test]
fn its_life_is_that_of_the_remote_store() {
    let host = Host::start();
    assert!(host.one.life(None).unwrap().is_none());
    let up = Duration::from_secs(3);
    *host.far_of_one.up.lock() = Some(up);
    let life = host.one.life(None).unwrap();
    assert_eq!(life.map(|life| life.up), Some(up));
}

/// Its baton speaks of a hold that the remote store has disowned, and another host has by now.
#[test]
fn a_hold_that_the_remote_store_disowns_is_not_handed_on() {
    let ways: [fn(&Tiered); 2] = [
        |tiers| assert_eq!(tiers.extend(&claim(1), TTL).unwrap(), Answer::NotOurs),
        |tiers| assert!(!tiers.is_held(&claim(1)).unwrap()),
    ];
    for way in ways {
        let host = Host::start();
        granted(host.one.attempt(&claim(1), None));
        busy(host.two.attempt(&claim(2), Some(&bell())));
        assert!(host.far.break_lock(&name(), None).unwrap());
        granted(host.far.attempt(&claim(9), None));
        way(&host.one);
        assert!(host.one.known(claim(1).token).is_none());
        // Nor does it keep the next one of its host from asking.
        busy(host.two.confirm(&claim(2), &bell()));
        assert!(
            host.two.known(claim(2).token).is_some(),
            "it has no local lock"
        );
        assert_eq!(host.one.release(&claim(1)).unwrap(), Answer::NotOurs);
        busy(host.two.confirm(&claim(2), &bell()));
        assert!(host.far.is_held(&claim(9)).unwrap() && !host.two_holds());
        host.far.release(&claim(9)).unwrap();
        granted(host.two.confirm(&claim(2), &bell()));
    }
}
