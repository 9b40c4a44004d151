//! Holds that are broken, inherited or run out, and slots that get another name.

use super::{EXCLUSIVE, NAME, SHARED, World, check, take, want, write};
use crate::store::shm::protocol::{Answer, Protocol, Want};
use crate::store::shm::words::Life;
use loom::sync::Arc;
use loom::sync::atomic::Ordering::{Acquire, Release};
use loom::thread;

#[test]
fn a_broken_hold_wakes_the_next() {
    check(3, || {
        let world = Arc::new(World::of(2));
        take(&world, 0, EXCLUSIVE);
        let other = world.clone();
        let waiter = thread::spawn(move || {
            take(&other, 1, EXCLUSIVE);
            Protocol(&*other).release(0, 1, true);
        });
        let protocol = Protocol(&*world);
        assert!(protocol.break_holds(0));
        waiter.join().unwrap();
        assert!(!protocol.release(0, 0, true), "it was broken");
    });
}

/// What holds the slot is let go, and holds another slot, while the first is broken.
#[test]
fn a_break_ends_no_hold_of_another_slot() {
    check(3, || {
        let world = Arc::new(World::of(2));
        take(&world, 0, EXCLUSIVE);
        let other = world.clone();
        let breaker = thread::spawn(move || Protocol(&*other).break_holds(0));
        let protocol = Protocol(&*world);
        let was_ours = protocol.release(0, 0, true);
        let again = protocol.try_now(1, 0, &want(EXCLUSIVE, 20));
        assert!(matches!(again, Answer::Granted { .. }));
        assert!(protocol.holds(0), "of the second slot");
        assert!(!(breaker.join().unwrap() && was_ours));
        assert!(protocol.release(1, 0, true));
    });
}

/// The slot gets another name, and is held by that, while the first is broken.
#[test]
fn a_break_ends_no_hold_of_another_name() {
    check(3, || {
        let world = Arc::new(World::of(2));
        take(&world, 0, EXCLUSIVE);
        let other = world.clone();
        let breaker = thread::spawn(move || Protocol(&*other).break_holds(0));
        let protocol = Protocol(&*world);
        let was_ours = protocol.release(0, 0, true);
        assert!(protocol.seal(0));
        world.name.store(NAME + 1, Release);
        protocol.unseal(0);
        // As `try_now` of the new name.
        let grant = protocol.load(0);
        assert!(protocol.join(0, grant, 0, &want(EXCLUSIVE, 20)));
        assert!(protocol.holds(0), "under the new name");
        assert!(!(breaker.join().unwrap() && was_ours));
        assert!(protocol.release(0, 0, true));
    });
}

/// What is to be adopted is renewed meanwhile.
#[test]
fn a_renewal_keeps_no_heir_from_a_hold() {
    check(3, || {
        for mode in [EXCLUSIVE, SHARED] {
            let world = Arc::new(World::of(2));
            let leased = Want {
                life: Life::new(Some(8_000_000), 10),
                ..want(mode, 10)
            };
            let first = Protocol(&*world).try_now(0, 0, &leased);
            assert!(matches!(first, Answer::Granted { .. }));
            let other = world.clone();
            let owner = thread::spawn(move || Protocol(&*other).extend(0, 9_000_000, 11));
            let protocol = Protocol(&*world);
            let heir = protocol.inherit(0, 0, 1, (mode, Life::new(None, 30)), || true);
            owner.join().unwrap();
            assert!(heir.is_some() && protocol.holders(0) == [1]);
            assert!(!protocol.holds(0), "it is the heir's");
        }
    });
}

/// What is to be adopted is let go, and taken again by the same process.
#[test]
fn an_heir_gets_no_later_hold() {
    check(3, || {
        let world = Arc::new(World::of(3));
        take(&world, 0, EXCLUSIVE);
        // Stands for the owner token, which changes before the record holds again.
        let token = Arc::new(loom::sync::atomic::AtomicU64::new(1));
        let (other, meant) = (world.clone(), token.clone());
        let heir = thread::spawn(move || {
            let begins = (EXCLUSIVE, Life::new(None, 30));
            Protocol(&*other).inherit(0, 0, 1, begins, || meant.load(Acquire) == 1)
        });
        let protocol = Protocol(&*world);
        protocol.release(0, 0, true);
        token.store(2, Release);
        let again = protocol.try_now(0, 0, &want(EXCLUSIVE, 20));
        if matches!(again, Answer::Granted { .. }) {
            assert!(protocol.holds(0) && protocol.holders(0) == [0]);
            assert!(protocol.release(0, 0, true));
        }
        heir.join().unwrap();
    });
}

/// A lease that has run out is extended, and taken, at the same time: one of both.
#[test]
fn an_expired_hold_is_extended_or_taken() {
    check(3, || {
        let world = Arc::new(World::of(3));
        let leased = Want {
            life: Life::new(Some(500_000), 1),
            ..want(EXCLUSIVE, 0)
        };
        let protocol = Protocol(&*world);
        assert!(matches!(
            protocol.try_now(0, 0, &leased),
            Answer::Granted { .. }
        ));
        let other = world.clone();
        let taker = thread::spawn(move || {
            let answer = Protocol(&*other).try_now(0, 1, &want(EXCLUSIVE, 11));
            if let Answer::Granted { epoch, .. } = answer {
                write(&other, epoch);
            }
            answer
        });
        let extended = protocol.extend(0, 2_000_000, 2).is_some();
        if extended {
            write(&world, 1);
            assert!(protocol.release(0, 0, true));
        }
        match taker.join().unwrap() {
            Answer::Granted { recovered, .. } => assert_ne!(recovered, extended),
            _ => assert!(extended, "one of both has it"),
        }
    });
}

#[test]
fn one_heir_inherits() {
    for mode in [EXCLUSIVE, SHARED] {
        check(3, move || {
            let world = Arc::new(World::of(3));
            take(&world, 0, mode);
            let inherit = move |world: &World, me: u16| {
                let life = Life::new(None, u64::from(me) + 20);
                Protocol(world)
                    .inherit(0, 0, me, (mode, life), || true)
                    .is_some()
            };
            let other = world.clone();
            let heir = thread::spawn(move || inherit(&other, 1));
            let mine = inherit(&world, 2);
            let theirs = heir.join().unwrap();
            assert!(mine != theirs, "exactly one");
            assert_eq!(Protocol(&*world).holders(0), [if mine { 2 } else { 1 }]);
        });
    }
}

#[test]
fn a_slot_that_gets_another_name_is_not_taken_for_the_old_one() {
    check(3, || {
        let world = Arc::new(World::of(3));
        let other = world.clone();
        let taker = thread::spawn(move || {
            match Protocol(&*other).try_now(0, 1, &want(EXCLUSIVE, 11)) {
                Answer::Granted { .. } => {
                    assert_eq!(other.name.load(Acquire), NAME, "held under the name");
                    Protocol(&*other).release(0, 1, true);
                }
                Answer::Moved | Answer::Busy(_) => {}
                Answer::Mismatch(_) => unreachable!(),
            }
            if Protocol(&*other).enqueue(0, 1, EXCLUSIVE, false) {
                assert_eq!(
                    other.name.load(Acquire),
                    NAME,
                    "nobody renames under a waiter"
                );
                Protocol(&*other).leave(0, 1);
            }
        });
        let protocol = Protocol(&*world);
        if protocol.seal(0) {
            world.name.store(NAME + 1, Release);
            protocol.unseal(0);
        }
        taker.join().unwrap();
    });
}
