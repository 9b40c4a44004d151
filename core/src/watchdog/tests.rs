//! A store that looks at who renews, and when.

use crate::cancel::Cancel;
use crate::capability::Capabilities;
use crate::lease::{BootTime, Wait};
use crate::lock::Lock;
use crate::options::LockOptions;
use crate::owner::OwnerToken;
use crate::registry::Store;
use crate::signal::Signal;
use crate::state::State;
use crate::store::{Answer, Attempt, Backend, Cancelled, Claim, Grant};
use crate::sync::Mutex;
use crate::{Code, Error, Result};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

#[derive(Debug, Default)]
struct Book {
    together: bool,
    /// The leases of all who hold, whatever their names.
    held: Mutex<HashMap<OwnerToken, BootTime>>,
    /// Holds that it knows no more.
    forgotten: Mutex<HashSet<OwnerToken>>,
    /// Answers to renewals are lost.
    mute: AtomicBool,
    exchanges: AtomicUsize,
    renewed: AtomicUsize,
    /// How many were renewed at once, at most.
    most: AtomicUsize,
    /// Renewals of what was released, or whose lease had ended.
    wrong: AtomicUsize,
}

impl Book {
    fn renew(&self, claims: &[(&Claim, Duration)]) -> Vec<Result<Answer>> {
        self.exchanges.fetch_add(1, Ordering::SeqCst);
        self.most.fetch_max(claims.len(), Ordering::SeqCst);
        let begun = self.wrongs(claims);
        // Time for a release that does not wait.
        std::thread::yield_now();
        if begun == 0 && self.wrongs(claims) > 0 {
            self.wrong.fetch_add(1, Ordering::SeqCst);
        }
        self.wrong.fetch_add(begun, Ordering::SeqCst);
        let forgotten = self.forgotten.lock();
        let mut held = self.held.lock();
        let answer = |(claim, ttl): &(&Claim, Duration)| {
            self.renewed.fetch_add(1, Ordering::SeqCst);
            if forgotten.contains(&claim.token) {
                return Ok(Answer::NotOurs);
            }
            let lease = claim.asked.after(*ttl);
            held.insert(claim.token, lease);
            if self.mute.load(Ordering::SeqCst) {
                return Err(Error::new(Code::Uncertain, "no answer"));
            }
            Ok(Answer::Done(Some(lease)))
        };
        claims.iter().map(answer).collect()
    }

    fn wrongs(&self, claims: &[(&Claim, Duration)]) -> usize {
        let held = self.held.lock();
        let is_wrong = |claim: &Claim| match held.get(&claim.token) {
            None => true,
            Some(_) => claim.deadline.is_none_or(|lease| claim.asked > lease),
        };
        claims.iter().filter(|(claim, _)| is_wrong(claim)).count()
    }
}

impl Backend for Book {
    fn capabilities(&self) -> Capabilities {
        Capabilities::of_a_plain_server("book")
    }

    fn url(&self) -> &str {
        "book:"
    }

    fn ping(&self, _: Option<BootTime>) -> Result<()> {
        Ok(())
    }

    fn attempt(&self, claim: &Claim, _: Option<&Arc<Signal>>) -> Result<Attempt> {
        let lease = claim.asked.after(claim.ttl.unwrap_or_default());
        self.held.lock().insert(claim.token, lease);
        Ok(Attempt::Granted(Grant {
            lease: Some(lease),
            ..Grant::default()
        }))
    }

    fn cancel(&self, _: &Claim) -> Result<Cancelled> {
        Ok(Cancelled::Gone)
    }

    fn extend(&self, claim: &Claim, ttl: Duration) -> Result<Answer> {
        self.renew(&[(claim, ttl)]).remove(0)
    }

    fn extends_together(&self) -> bool {
        self.together
    }

    fn extend_many(&self, claims: &[(&Claim, Duration)]) -> Vec<Result<Answer>> {
        assert!(self.together, "each by itself");
        self.renew(claims)
    }

    fn release(&self, claim: &Claim) -> Result<Answer> {
        let held = self.held.lock().remove(&claim.token).is_some();
        Ok(if held && !self.forgotten.lock().contains(&claim.token) {
            Answer::Done(None)
        } else {
            Answer::NotOurs
        })
    }

    fn is_held(&self, claim: &Claim) -> Result<bool> {
        Ok(self.held.lock().contains_key(&claim.token))
    }
}

fn book(together: bool) -> (Arc<Book>, Store) {
    let book = Arc::new(Book {
        together,
        ..Book::default()
    });
    (book.clone(), Store::over(book, LockOptions::default()))
}

fn renewed(ttl: u64) -> LockOptions {
    LockOptions {
        ttl: Some(Duration::from_millis(ttl)),
        renew: Some(true),
        ..LockOptions::default()
    }
}

fn held(store: &Store, ttl: u64) -> Lock {
    let lock = store.lock_with("a", renewed(ttl)).unwrap();
    lock.acquire(Wait::No, None::<&Cancel>).unwrap();
    lock
}

/// Waits for something that must come, or panics.
fn until(mut is_so: impl FnMut() -> bool) {
    let end = BootTime::now().after(Duration::from_secs(120));
    while !is_so() {
        assert!(!end.has_passed(), "it never came to this");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Leases of different ages, too, are renewed in one exchange before long.
#[test]
fn leases_of_one_store_are_renewed_in_one_exchange() {
    let (book, store) = book(true);
    let mut locks = Vec::new();
    for _ in 0..5 {
        locks.extend((0..100).map(|_| held(&store, 900)));
        std::thread::sleep(Duration::from_millis(70));
    }
    until(|| book.most.load(Ordering::SeqCst) == 500);
    let seen = |number: &AtomicUsize| number.load(Ordering::SeqCst);
    let before = (seen(&book.exchanges), seen(&book.renewed));
    until(|| seen(&book.exchanges) >= before.0 + 3);
    // One may be under way.
    let (exchanges, renewed) = (seen(&book.exchanges), seen(&book.renewed));
    assert!(
        renewed - before.1 >= (exchanges - before.0 - 1) * 500,
        "{renewed} renewals in {exchanges} exchanges"
    );
    for lock in &locks {
        lock.release().unwrap();
    }
    assert_eq!(seen(&book.wrong), 0);
}

#[test]
fn a_lost_lease_among_others_is_told_to_its_holder_alone() {
    let (book, store) = book(true);
    let locks: Vec<_> = (0..20).map(|_| held(&store, 600)).collect();
    let victim = locks[7].owner_token().unwrap();
    book.forgotten.lock().insert(victim);
    until(|| locks[7].state() == State::Lost);
    let renewed = book.renewed.load(Ordering::SeqCst);
    until(|| book.renewed.load(Ordering::SeqCst) >= renewed + 40);
    for (number, lock) in locks.iter().enumerate() {
        let code = lock
            .release()
            .map_or_else(|error| error.code(), |_| Code::Ok);
        let wanted = if number == 7 { Code::Lost } else { Code::Ok };
        assert_eq!(code, wanted, "lock {number}");
    }
}

/// What is not known to be renewed ends when it would have ended, for each of them, and is not revived.
#[test]
fn renewals_without_an_answer_lengthen_nothing() {
    for together in [true, false] {
        let (book, store) = book(together);
        book.mute.store(true, Ordering::SeqCst);
        let locks: Vec<_> = (0..20).map(|_| held(&store, 300)).collect();
        until(|| book.renewed.load(Ordering::SeqCst) >= 20);
        until(|| locks.iter().all(|lock| lock.state() == State::Lost));
        book.mute.store(false, Ordering::SeqCst);
        let leases = book.held.lock().clone();
        let other = held(&store, 60);
        let renewed = book.renewed.load(Ordering::SeqCst);
        until(|| book.renewed.load(Ordering::SeqCst) >= renewed + 3);
        other.release().unwrap();
        assert_eq!(*book.held.lock(), leases);
        assert_eq!(book.wrong.load(Ordering::SeqCst), 0);
    }
}

/// A watchdog that looks every millisecond, and holds that last from nothing to several looks.
#[test]
fn no_renewal_follows_a_release() {
    const PAIRS: u32 = 25_000;
    for together in [true, false] {
        let (book, store) = book(together);
        std::thread::scope(|scope| {
            for part in 0..4 {
                let store = &store;
                scope.spawn(move || {
                    // Less than 2 ms and 1 % of it is no lease, by clocks of two machines.
                    let lock = store.lock_with("a", renewed(6)).unwrap();
                    for number in 0..PAIRS / 2 {
                        // A busy machine may keep it off for longer than its lease.
                        let Ok(_) = lock.acquire(Wait::No, None) else {
                            continue;
                        };
                        if number % 200 == part * 50 {
                            std::thread::sleep(Duration::from_millis(u64::from(number / 200 % 5)));
                        }
                        let _ = lock.release();
                    }
                });
            }
        });
        assert!(book.renewed.load(Ordering::SeqCst) > 0);
        assert_eq!(book.wrong.load(Ordering::SeqCst), 0);
    }
}
