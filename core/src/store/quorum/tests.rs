//! Members whose answers come when the test wants.

use super::config::open;
use super::votes::burn_at;
use crate::capability::{Capabilities, Fence};
use crate::lease::{BootTime, Wait};
use crate::lock::Lock;
use crate::name::Name;
use crate::options::{LockOptions, Reentry};
use crate::owner::OwnerToken;
use crate::registry::Store;
use crate::session::{Session, Taken};
use crate::signal::Signal;
use crate::store::{
    Answer, Attempt, Backend, Busy, Cancelled, Claim, Grant, Holder, Inspection, Life,
};
use crate::sync::Mutex;
use crate::url::Url;
use crate::{Code, Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

#[derive(Debug)]
struct Member {
    url: String,
    owner: Mutex<Option<OwnerToken>>,
    /// The last fencing token, and the owner's.
    counter: AtomicU64,
    fence: AtomicU64,
    /// The next attempt is answered when this says so; what it did is done at once.
    gate: Mutex<Option<Receiver<()>>>,
    /// The next attempt is made when this says so.
    door: Mutex<Option<Receiver<()>>>,
    /// How many attempts come to nothing, because it is down; said after the gate.
    troubles: Mutex<u32>,
    /// How many releases come to nothing, for want of an answer.
    refusals: Mutex<u32>,
    /// How many hand-overs come to nothing, because it is down.
    deaf: Mutex<u32>,
    /// How long a release or a renewal is on its way.
    distance: Mutex<Duration>,
    attempts: AtomicU32,
    renewals: AtomicU32,
    /// The tokens of releases, one after the other.
    releases: Mutex<Vec<OwnerToken>>,
    looks: AtomicU32,
    /// It does not tell who holds.
    is_shy: AtomicBool,
    /// Which of its lives this is, counted from 1; 0 of one that remembers for ever.
    life: AtomicU32,
    /// It begins anew, and has forgotten, after the next release.
    restarts: AtomicBool,
}

impl Member {
    fn new(number: usize) -> Arc<Self> {
        Arc::new(Member {
            url: format!("member:{number}"),
            owner: Mutex::default(),
            counter: AtomicU64::new(0),
            fence: AtomicU64::new(0),
            gate: Mutex::default(),
            door: Mutex::default(),
            troubles: Mutex::default(),
            refusals: Mutex::default(),
            deaf: Mutex::default(),
            distance: Mutex::default(),
            attempts: AtomicU32::new(0),
            renewals: AtomicU32::new(0),
            releases: Mutex::default(),
            looks: AtomicU32::new(0),
            is_shy: AtomicBool::new(false),
            life: AtomicU32::new(0),
            restarts: AtomicBool::new(false),
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

    fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::SeqCst)
    }

    fn releases(&self) -> usize {
        self.releases.lock().len()
    }
}

impl Backend for Member {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            export: true,
            fence: Fence::Durable,
            ..Capabilities::of_a_plain_server("member")
        }
    }

    fn url(&self) -> &str {
        &self.url
    }

    fn ping(&self, _: Option<BootTime>) -> Result<()> {
        Ok(())
    }

    fn attempt(&self, claim: &Claim, _: Option<&Arc<Signal>>) -> Result<Attempt> {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        let door = self.door.lock().take();
        if let Some(door) = door {
            let _ = door.recv();
        }
        let mut owner = self.owner.lock();
        if owner.is_none() {
            *owner = Some(claim.token);
            let block = u64::from(claim.fence_block.max(1));
            let last = self.counter.fetch_add(block, Ordering::SeqCst);
            self.fence.store(last + 1, Ordering::SeqCst);
        }
        let granted = *owner == Some(claim.token);
        let fence = granted.then(|| self.fence.load(Ordering::SeqCst));
        drop(owner);
        let gate = self.gate.lock().take();
        if let Some(gate) = gate {
            let _ = gate.recv();
        }
        if take_one(&self.troubles) {
            return Err(Error::new(Code::Unavailable, "it is down"));
        }
        Ok(if granted {
            Attempt::Granted(Grant {
                lease: claim.ttl.map(|ttl| BootTime::now().after(ttl)),
                fence,
                ..Grant::default()
            })
        } else {
            Attempt::Busy(Busy {
                poll: Some(BootTime::now().after(Duration::from_millis(2))),
                ..Busy::default()
            })
        })
    }

    fn cancel(&self, _: &Claim) -> Result<Cancelled> {
        Ok(Cancelled::Gone)
    }

    fn extend(&self, claim: &Claim, _: Duration) -> Result<Answer> {
        let distance = *self.distance.lock();
        std::thread::sleep(distance);
        self.renewals.fetch_add(1, Ordering::SeqCst);
        Ok(match self.is_held(claim)? {
            true => Answer::Done(None),
            false => Answer::NotOurs,
        })
    }

    fn release(&self, claim: &Claim) -> Result<Answer> {
        let distance = *self.distance.lock();
        std::thread::sleep(distance);
        let answer = if take_one(&self.refusals) {
            Err(Error::new(Code::Uncertain, "no answer"))
        } else if self
            .owner
            .lock()
            .take_if(|one| *one == claim.token)
            .is_some()
        {
            Ok(Answer::Done(None))
        } else {
            Ok(Answer::NotOurs)
        };
        self.releases.lock().push(claim.token);
        if self.restarts.swap(false, Ordering::SeqCst) {
            self.life.fetch_add(1, Ordering::SeqCst);
            self.give_to(None);
        }
        answer
    }

    fn life(&self, _: Option<BootTime>) -> Result<Option<Life>> {
        let number = self.life.load(Ordering::SeqCst);
        Ok((number > 0).then(|| Life {
            id: number.to_string(),
            up: Duration::from_secs(if number == 1 { 1_000_000 } else { 0 }),
            clock: None,
        }))
    }

    fn inspect(&self, name: &Name, _: Option<BootTime>) -> Result<Inspection> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        if self.is_shy.load(Ordering::SeqCst) {
            return Err(Error::new(Code::Permission, "not for you"));
        }
        let owner = *self.owner.lock();
        let holder = |owner: OwnerToken| Holder {
            owner: owner.shown(),
            brand: owner.brand(),
            ..Holder::default()
        };
        Ok(Inspection {
            name: name.as_bytes().to_vec(),
            holders: owner.map(holder).into_iter().collect(),
            waiters: None,
        })
    }

    fn is_held(&self, claim: &Claim) -> Result<bool> {
        Ok(*self.owner.lock() == Some(claim.token))
    }

    fn adopt(&self, claim: &Claim, heir: OwnerToken) -> Result<Option<Grant>> {
        if take_one(&self.deaf) {
            return Err(Error::new(Code::Unavailable, "it is down"));
        }
        let mut owner = self.owner.lock();
        if *owner != Some(claim.token) {
            return Ok(None);
        }
        *owner = Some(heir);
        Ok(Some(Grant {
            lease: claim.ttl.map(|ttl| BootTime::now().after(ttl)),
            fence: Some(self.fence.load(Ordering::SeqCst)),
            ..Grant::default()
        }))
    }
}

/// Whether there was one left.
fn take_one(count: &Mutex<u32>) -> bool {
    let mut left = count.lock();
    let was_left = *left > 0;
    *left = left.saturating_sub(1);
    was_left
}

fn store(url: &str) -> ([Arc<Member>; 3], Store) {
    let members = [0, 1, 2].map(Member::new);
    let each = members.iter().map(|one| one.clone() as Arc<dyn Backend>);
    let mut url = Url::parse(url, &[]).unwrap();
    let quorum = open(&mut url, each.collect()).unwrap();
    (members, Store::over(quorum, LockOptions::default()))
}

fn three() -> ([Arc<Member>; 3], Lock) {
    let (members, store) = store("quorum:");
    (members, store.lock("a").unwrap())
}

fn until(mut is_so: impl FnMut() -> bool) {
    while !is_so() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_vote_that_comes_after_its_round_does_not_undo_a_later_round() {
    let ([first, late, taken], lock) = three();
    let other = OwnerToken::from_bytes([2; 16]);
    first.give_to(Some(other));
    taken.give_to(Some(other));
    let answer = late.delay();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| lock.acquire(Wait::Forever, None).map(drop));
        // The first round ends without the answer of the one that has granted.
        until(|| late.owner.lock().is_some());
        until(|| first.attempts() > 1);
        first.give_to(None);
        let seen = first.attempts();
        until(|| first.attempts() > seen + 3 || waiter.is_finished());
        // What it granted is given back now, while the claim has gone on.
        let releases = late.releases();
        answer.send(()).unwrap();
        until(|| late.releases() > releases);
        waiter.join().unwrap().unwrap();
    });
    lock.ensure_held().unwrap();
}

#[test]
fn a_release_that_goes_on_in_the_background_does_not_undo_a_later_round() {
    let ([first, second, third], lock) = three();
    let other = OwnerToken::from_bytes([2; 16]);
    second.give_to(Some(other));
    third.give_to(Some(other));
    // What it granted is given back in vain at first.
    *first.refusals.lock() = 2;
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| lock.acquire(Wait::Forever, None).map(drop));
        until(|| *first.refusals.lock() < 2);
        second.give_to(None);
        until(|| first.releases() > 2);
        waiter.join().unwrap().unwrap();
    });
    lock.ensure_held().unwrap();
}

#[test]
fn a_release_where_the_line_was_does_not_undo_the_round_without_it() {
    let ([first, second, third], lock) = three();
    let other = OwnerToken::from_bytes([2; 16]);
    for member in [&first, &second, &third] {
        member.give_to(Some(other));
    }
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| lock.acquire(Wait::Forever, None).map(drop));
        // It stands in line there, and asks again.
        until(|| first.attempts() > 4);
        let answer = first.delay();
        until(|| first.gate.lock().is_none());
        first.give_to(None);
        second.give_to(None);
        *first.troubles.lock() = 1;
        *first.refusals.lock() = 1;
        let releases = first.releases();
        answer.send(()).unwrap();
        waiter.join().unwrap().unwrap();
        // The release of whatever it had there comes late.
        until(|| first.releases() > releases + 1);
    });
    lock.ensure_held().unwrap();
}

#[test]
fn a_vote_that_comes_after_a_loss_stays_with_nobody() {
    let ([late, second, third], lock) = three();
    let (open, door) = channel();
    *late.door.lock() = Some(door);
    lock.acquire(Wait::No, None).unwrap();
    second.give_to(None);
    third.give_to(None);
    assert_eq!(lock.ensure_held().unwrap_err().code(), Code::Lost);
    open.send(()).unwrap();
    let end = BootTime::now().after(Duration::from_secs(20));
    // Once in the background, and once by whoever hears that it was granted.
    until(|| late.releases() == 2 || end.has_passed());
    assert_eq!((late.releases(), *late.owner.lock()), (2, None));
}

#[test]
fn what_a_member_still_has_of_a_lost_hold_is_released() {
    let ([first, second, third], lock) = three();
    lock.acquire(Wait::No, None).unwrap();
    // Two are enough to hold; the last to grant must not come after what follows.
    until(|| {
        [&first, &second, &third]
            .iter()
            .all(|member| member.owner.lock().is_some())
    });
    second.give_to(None);
    third.give_to(None);
    assert_eq!(lock.ensure_held().unwrap_err().code(), Code::Lost);
    let end = BootTime::now().after(Duration::from_secs(20));
    until(|| first.owner.lock().is_none() || end.has_passed());
    assert_eq!(*first.owner.lock(), None);
}

#[test]
fn a_vote_that_comes_after_a_hand_over_stays_with_nobody() {
    let ([late, second, third], lock) = three();
    let (open, door) = channel();
    *late.door.lock() = Some(door);
    lock.acquire(Wait::No, None).unwrap();
    assert_eq!(*second.owner.lock(), *third.owner.lock());
    lock.export().unwrap();
    open.send(()).unwrap();
    let end = BootTime::now().after(Duration::from_secs(20));
    until(|| late.releases() == 1 || end.has_passed());
    assert_eq!((late.attempts(), *late.owner.lock()), (1, None));
}

/// Whoever has lost a hold of a session's that outlives its process has lost it to the same token, perhaps.
#[test]
fn a_session_that_has_lost_a_hold_leaves_the_next_one_alone() {
    let (members, store) = store("quorum:");
    let session = || Session::persistent(&store, "me").unwrap();
    let (mine, theirs) = (session(), session());
    let ttl = Duration::from_secs(20);
    assert_eq!(mine.acquire("a", ttl).unwrap(), Taken::New);
    assert!(theirs.release("a").unwrap());
    assert_eq!(mine.acquire("a", ttl).unwrap(), Taken::Lost);
    assert_eq!(theirs.acquire("a", ttl).unwrap(), Taken::New);
    // What is left to the background is done in its turn, and so before this.
    let last = OwnerToken::from_bytes([7; 16]);
    for member in &members {
        burn_at(&(member.clone() as Arc<dyn Backend>), &claim(last));
        until(|| member.releases.lock().last() == Some(&last));
    }
    assert!(theirs.renew("a", ttl).unwrap());
}

#[test]
fn a_session_hands_over_no_vote_that_comes_late() {
    let ([late, second, third], store) = store("quorum:");
    let session = Session::persistent(&store, "me").unwrap();
    let (open, door) = channel();
    *late.door.lock() = Some(door);
    let taken = session.acquire("a", Duration::from_secs(20)).unwrap();
    assert_eq!(taken, Taken::New);
    open.send(()).unwrap();
    let end = BootTime::now().after(Duration::from_secs(20));
    until(|| late.releases() == 1 || end.has_passed());
    assert_eq!((late.attempts(), *late.owner.lock()), (1, None));
    assert!(second.owner.lock().is_some() && third.owner.lock().is_some());
}

#[test]
fn members_that_are_down_do_not_say_that_a_hold_is_gone() {
    let (members, store) = store("quorum:");
    let lock = store.lock("a").unwrap();
    lock.acquire(Wait::No, None).unwrap();
    let exported = lock.export().unwrap();
    let deaf = |count: usize| {
        for member in &members[..count] {
            *member.deaf.lock() = 1;
        }
    };
    deaf(3);
    let adopt = || store.adopt(&exported, LockOptions::default());
    assert_eq!(adopt().unwrap_err().code(), Code::Unavailable);
    // With enough of them it goes over, and what the other one has of it is let go.
    deaf(1);
    let heir = adopt().unwrap();
    until(|| members[0].owner.lock().is_none());
    heir.ensure_held().unwrap();
}

#[test]
fn a_session_that_meets_members_that_are_down_leaves_nothing_behind() {
    let (members, store) = store("quorum:");
    let session = Session::persistent(&store, "me").unwrap();
    for member in &members {
        *member.deaf.lock() = 1;
    }
    let error = session.acquire("a", Duration::from_secs(20)).unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    until(|| members.iter().all(|one| one.owner.lock().is_none()));
}

/// What comes later could bear upon another process's hold under the same id.
#[test]
fn a_session_sends_nothing_after_its_calls() {
    let ([first, second, third], store) = store("quorum:");
    let session = Session::persistent(&store, "me").unwrap();
    let ttl = Duration::from_secs(20);
    assert_eq!(session.acquire("a", ttl).unwrap(), Taken::New);
    until(|| [&first, &second, &third].map(|one| one.owner.lock().is_some()) == [true; 3]);
    let releases = third.releases();
    *third.distance.lock() = Duration::from_millis(300);
    assert!(session.renew("a", ttl).unwrap());
    assert_eq!(third.renewals.load(Ordering::SeqCst), 1);
    assert!(session.release("a").unwrap());
    assert_eq!(third.releases(), releases + 1);
}

/// Where handles share their holds a claim keeps no notes: it must not forget that there is no line.
#[test]
fn a_waiter_without_notes_does_without_a_first_member_that_is_down() {
    let ([first, second, third], store) = store("quorum:");
    let options = LockOptions {
        reentry: Reentry::Extend,
        ..LockOptions::default()
    };
    let lock = store.lock_with("a", options).unwrap();
    let other = OwnerToken::from_bytes([2; 16]);
    *first.troubles.lock() = u32::MAX;
    second.give_to(Some(other));
    third.give_to(Some(other));
    let wait = Wait::For(Duration::from_secs(20));
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| lock.acquire(wait, None).map(drop));
        std::thread::sleep(Duration::from_millis(500));
        let attempts = first.attempts();
        second.give_to(None);
        third.give_to(None);
        waiter.join().unwrap().unwrap();
        // Each waits for 40 ms or more.
        assert!((2..30).contains(&attempts), "{attempts}");
    });
    lock.ensure_held().unwrap();
}

fn claim(token: OwnerToken) -> Claim {
    Claim::exclusive(Name::new(b"a").unwrap(), token, Duration::from_secs(20))
}

/// A hold of a quorum that counts by other rules.
fn of_another_set_up() -> OwnerToken {
    OwnerToken::from_bytes([3; 16]).branded([9; 3])
}

#[test]
fn another_set_up_is_told_from_a_stranger() {
    let ([first, second, third], lock) = three();
    for (holder, told) in [
        (OwnerToken::from_bytes([3; 16]), Code::Busy),
        (of_another_set_up(), Code::InvalidUrl),
    ] {
        for member in [&first, &second, &third] {
            member.give_to(Some(holder));
        }
        // What was seen of the one before counts for a while.
        let end = BootTime::now().after(Duration::from_secs(20));
        let mut error = lock.acquire(Wait::No, None).unwrap_err();
        while error.code() != told && !end.has_passed() {
            error = lock.acquire(Wait::No, None).unwrap_err();
        }
        assert_eq!(error.code(), told, "{error}");
    }
    // One that does not tell is busy.
    let ([first, second, third], lock) = three();
    for member in [&first, &second, &third] {
        member.give_to(Some(of_another_set_up()));
        member.is_shy.store(true, Ordering::SeqCst);
    }
    assert_eq!(lock.acquire(Wait::No, None).unwrap_err().code(), Code::Busy);
    assert!(first.looks.load(Ordering::SeqCst) + second.looks.load(Ordering::SeqCst) > 0);
    first.give_to(None);
    second.give_to(None);
    // Nor does that keep anybody from a majority.
    lock.acquire(Wait::Forever, None).unwrap();
    lock.ensure_held().unwrap();
}

#[test]
fn another_set_up_that_has_a_member_ends_a_round_that_has_the_others() {
    let ([first, second, third], lock) = three();
    third.give_to(Some(of_another_set_up()));
    let error = lock.acquire(Wait::No, None).unwrap_err();
    assert_eq!(error.code(), Code::InvalidUrl, "{error}");
    assert!(error.message().contains("member:2"), "{error}");
    assert_eq!((*first.owner.lock(), *second.owner.lock()), (None, None));
    assert_eq!(*third.owner.lock(), Some(of_another_set_up()));
    // Nothing of it stays.
    third.give_to(None);
    lock.acquire(Wait::No, None).unwrap();
    lock.release().unwrap();
}

#[test]
fn another_set_up_that_is_found_late_ends_the_hold() {
    for is_released in [false, true] {
        let ([late, second, third], lock) = three();
        late.give_to(Some(of_another_set_up()));
        let (open, door) = channel();
        *late.door.lock() = Some(door);
        lock.acquire(Wait::No, None).unwrap();
        lock.ensure_held().unwrap();
        open.send(()).unwrap();
        until(|| late.looks.load(Ordering::SeqCst) == 1);
        let end = BootTime::now().after(Duration::from_secs(20));
        if is_released {
            // It may be noted a moment after the look.
            std::thread::sleep(Duration::from_millis(100));
            let told = lock.release().map_err(|error| error.code());
            assert_eq!(told.map(drop), Err(Code::InvalidUrl));
        } else {
            let mut held = lock.ensure_held();
            while held.is_ok() && !end.has_passed() {
                held = lock.ensure_held();
            }
            let error = held.unwrap_err();
            assert_eq!(error.code(), Code::InvalidUrl, "{error}");
            assert_eq!(lock.ensure_held().unwrap_err().code(), Code::Lost);
        }
        let is_free = |member: &Arc<Member>| member.owner.lock().is_none() || end.has_passed();
        until(|| is_free(&second) && is_free(&third));
        assert_eq!((*second.owner.lock(), *third.owner.lock()), (None, None));
        assert_eq!(*late.owner.lock(), Some(of_another_set_up()));
    }
}

/// A member that comes up votes after `max_ttl`, so that nobody holds for longer.
#[cfg(feature = "redis")]
#[test]
fn no_lease_is_longer_than_a_member_waits_to_vote() {
    let store = Store::open("quorum:(redis://a,redis://b,redis://c)?max_ttl=5000").unwrap();
    let lock = store.lock("a").unwrap();
    assert_eq!(lock.ttl(), Some(Duration::from_secs(5)));
    let options = LockOptions {
        lock_delay: Duration::from_secs(1),
        ..LockOptions::default()
    };
    let refused = store.lock_with("a", options).unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[cfg(feature = "redis")]
#[test]
fn what_makes_a_set_up_another_one() {
    let brand = |url: &str| {
        let token = OwnerToken::from_bytes([1; 16]);
        let store = Store::open(url).unwrap();
        store.backend().brand(token).brand().unwrap()
    };
    let one = brand("quorum:(redis://a,redis://b,redis://c)");
    for same in [
        "quorum:(redis://c,redis://b:6379,redis://A)",
        "quorum:?member=redis%3A%2F%2Fme%3Asecret%40a%3Fio_timeout%3D7&member=redis://b/0&member=redis://c",
        "quorum:(redis://a,redis://b,redis://c)?max_ttl=60000&strategy=majority&cold_start=1&fencing=1&ttl=2000",
    ] {
        assert_eq!(brand(same), one, "{same}");
    }
    for other in [
        "quorum:(redis://a,redis://b,redis://d)",
        "quorum:(redis://a,redis://b)",
        "quorum:(redis://a,redis://b,redis://c/1)",
        "quorum:(redis://a,redis://b,redis://c?prefix=x:)",
        "quorum:(redis://a,redis://b,redis://c)?max_ttl=50000",
        "quorum:(redis://a,redis://b,redis://c)?strategy=unanimous",
        "quorum:(redis://a,redis://b,redis://c)?config=x",
    ] {
        assert_ne!(brand(other), one, "{other}");
    }
    assert_eq!(
        brand("quorum:(redis://a,redis://b,redis://c)?config=x"),
        brand("quorum:(redis://1,redis://2,redis://3)?config=x")
    );
}

#[test]
fn a_release_is_over_at_the_first_member_too() {
    let ([first, ..], lock) = three();
    *first.distance.lock() = Duration::from_millis(20);
    // But for one that a busy machine holds up.
    let mut left_behind = 0;
    for _ in 0..20 {
        lock.acquire(Wait::Forever, None).unwrap();
        until(|| first.owner.lock().is_some());
        lock.release().unwrap();
        left_behind += usize::from(first.owner.lock().is_some());
    }
    assert!(left_behind < 5, "{left_behind} of 20");
}

/// A vote that is behind is given back for a moment to be asked for again, and another one has it meanwhile.
#[test]
fn a_token_is_higher_than_that_of_a_hold_that_came_between() {
    let ([first, second, third], store) = store("quorum:?fencing=1");
    first.counter.store(10, Ordering::SeqCst);
    third.counter.store(10, Ordering::SeqCst);
    first.give_to(Some(OwnerToken::from_bytes([2; 16])));
    let answer = third.delay();
    let (lock, other) = (store.lock("a").unwrap(), store.lock("a").unwrap());
    std::thread::scope(|scope| {
        let asks = scope.spawn(|| lock.try_acquire().unwrap().unwrap().fence.unwrap());
        until(|| second.owner.lock().is_some() && third.owner.lock().is_some());
        let (open, door) = channel();
        *second.door.lock() = Some(door);
        answer.send(()).unwrap();
        // It has given the second one's vote back, and stands at the door there.
        until(|| second.attempts() == 2);
        first.give_to(None);
        let between = other.try_acquire().unwrap().unwrap().fence.unwrap();
        other.release().unwrap();
        open.send(()).unwrap();
        let after = asks.join().unwrap();
        assert!(after > between, "{after} after {between}");
    });
    lock.release().unwrap();
    // And so on, for whoever has any two of the three.
    let mut last = 0;
    for absent in [&first, &second, &third, &first, &third] {
        until(|| absent.owner.lock().is_none());
        absent.give_to(Some(OwnerToken::from_bytes([2; 16])));
        let fence = lock.acquire(Wait::Forever, None).unwrap().fence.unwrap();
        assert!(fence > last, "{fence} after {last}");
        last = fence;
        lock.release().unwrap();
        absent.give_to(None);
    }
}

/// A vote that was given back to be asked for again is one of a member that may have forgotten meanwhile.
#[test]
fn a_member_that_begins_anew_while_it_is_levelled_does_not_vote() {
    let ([first, second, third], store) = store("quorum:?fencing=1");
    first.give_to(Some(OwnerToken::from_bytes([2; 16])));
    third.counter.store(10, Ordering::SeqCst);
    second.life.store(1, Ordering::SeqCst);
    second.restarts.store(true, Ordering::SeqCst);
    let lock = store.lock("a").unwrap();
    let answer = lock.try_acquire();
    assert_eq!(second.life.load(Ordering::SeqCst), 2);
    assert!(!matches!(answer, Ok(Some(_))), "{answer:?}");
    until(|| second.owner.lock().is_none() && third.owner.lock().is_none());
}

/// A vote that is there already when two others are enough counts on from its own token, and no majority with it.
#[test]
fn an_heir_has_the_token_of_the_hold_and_not_that_of_a_vote_that_came_late() {
    let ([first, second, late], store) = store("quorum:?fencing=1");
    late.counter.store(100, Ordering::SeqCst);
    let (open, door) = channel();
    *late.door.lock() = Some(door);
    let lock = store.lock("a").unwrap();
    let fence = lock.try_acquire().unwrap().unwrap().fence.unwrap();
    open.send(()).unwrap();
    until(|| late.owner.lock().is_some());
    let exported = lock.export().unwrap();
    let heir = store.adopt(&exported, LockOptions::default()).unwrap();
    let inherited = heir.fencing_token();
    assert_eq!(inherited, Some(fence));
    heir.release().unwrap();
    until(|| [&first, &second, &late].map(|one| one.owner.lock().is_none()) == [true; 3]);
    late.give_to(Some(OwnerToken::from_bytes([2; 16])));
    let next = lock.acquire(Wait::Forever, None).unwrap().fence.unwrap();
    assert!(Some(next) > inherited, "{next} after {inherited:?}");
}
