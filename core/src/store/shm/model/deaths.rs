//! The death of a process before each of its steps.

use super::{EXCLUSIVE, SHARED, World, check, want};
use crate::store::segment::mortal::{Death, LEFT};
use crate::store::shm::protocol::{Answer, Protocol};
use crate::store::shm::words::{Life, NOBODY};
use loom::sync::Arc;
use loom::sync::atomic::Ordering::Release;
use loom::thread;

/// A process dies before each of its steps in turn; then another gets the slot, at the latest
/// when it looks again of itself.
fn with_death(preemptions: usize, script: fn(&World, u16)) {
    for steps in 0.. {
        let died = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let seen = died.clone();
        check(preemptions, move || {
            let world = Arc::new(World::of(3));
            let mortal = world.clone();
            let seen = seen.clone();
            let thread = thread::spawn(move || {
                LEFT.with(|left| left.set(Some(steps)));
                let run = std::panic::AssertUnwindSafe(|| script(&mortal, 0));
                let end = std::panic::catch_unwind(run);
                LEFT.with(|left| left.set(None));
                match end {
                    Ok(()) => {}
                    Err(panic) if panic.is::<Death>() => {
                        seen.store(true, std::sync::atomic::Ordering::SeqCst);
                    }
                    Err(panic) => std::panic::resume_unwind(panic),
                }
                // As the kernel does when the process is gone.
                mortal.dead[0].store(1, Release);
                mortal.dead[2].store(1, Release);
            });
            let protocol = Protocol(&*world);
            let want = want(EXCLUSIVE, 11);
            let answer = protocol.try_now(0, 1, &want);
            let mut held = matches!(answer, Answer::Granted { .. });
            if !held {
                assert!(protocol.enqueue(0, 1, EXCLUSIVE, false));
                held = matches!(protocol.look_again(0, 1, &want), Answer::Granted { .. });
            }
            thread.join().unwrap();
            if !held {
                held = matches!(protocol.look_again(0, 1, &want), Answer::Granted { .. });
            }
            assert!(held, "somebody who lives gets what the dead held");
            assert_eq!(protocol.holders(0), [1]);
            protocol.release(0, 1, true);
            assert!(protocol.is_free(0));
            assert!(protocol.seal(0), "nothing is left in the slot");
        });
        if !died.load(std::sync::atomic::Ordering::SeqCst) {
            assert!(steps > 8, "it must have died everywhere: {steps}");
            return;
        }
    }
}

#[test]
fn death_of_an_exclusive_holder() {
    with_death(2, |world, me| {
        let protocol = Protocol(world);
        let answer = protocol.try_now(0, me, &want(EXCLUSIVE, 10));
        if matches!(answer, Answer::Granted { .. }) {
            protocol.release(0, me, true);
        }
    });
}

#[test]
fn death_of_a_reader_that_is_promoted_and_demoted() {
    with_death(1, |world, me| {
        let protocol = Protocol(world);
        let answer = protocol.try_now(0, me, &want(SHARED, 10));
        if matches!(answer, Answer::Granted { .. }) {
            if matches!(protocol.promote(0, me), Answer::Granted { .. }) {
                protocol.demote(0, me);
            }
            protocol.release(0, me, true);
        }
    });
}

#[test]
fn death_of_a_waiter() {
    with_death(2, |world, me| {
        let protocol = Protocol(world);
        if protocol.enqueue(0, me, EXCLUSIVE, false) {
            let answer = protocol.look_again(0, me, &want(EXCLUSIVE, 10));
            if matches!(answer, Answer::Granted { .. }) {
                protocol.release(0, me, true);
            } else {
                protocol.leave(0, me);
            }
        }
    });
}

#[test]
fn death_of_an_heir() {
    with_death(1, |world, me| {
        let protocol = Protocol(world);
        let answer = protocol.try_now(0, 2, &want(EXCLUSIVE, 12));
        if matches!(answer, Answer::Granted { .. }) {
            let heir = protocol.inherit(0, 2, me, (EXCLUSIVE, Life::new(None, 13)), || true);
            // The one that gave it away dies with the model's process too.
            if heir.is_some() {
                protocol.release(0, me, true);
            } else {
                protocol.release(0, 2, true);
            }
        }
    });
}

/// What a dead holder leaves is offered to one that goes without taking it; the next is told all the same.
#[test]
fn a_death_is_told_of_though_an_offer_lapses() {
    for dies in [false, true] {
        check(3, move || {
            let world = Arc::new(World::of(3));
            assert!(matches!(
                Protocol(&*world).try_now(0, 0, &want(EXCLUSIVE, 10)),
                Answer::Granted { .. }
            ));
            assert!(Protocol(&*world).enqueue(0, 2, EXCLUSIVE, false));
            world.dead[0].store(1, Release);
            let other = world.clone();
            let goer = thread::spawn(move || {
                Protocol(&*other).admit(0, NOBODY);
                if dies {
                    other.dead[2].store(1, Release);
                } else {
                    Protocol(&*other).leave(0, 2);
                }
            });
            let protocol = Protocol(&*world);
            let want = want(EXCLUSIVE, 11);
            let mut answer = protocol.try_now(0, 1, &want);
            goer.join().unwrap();
            if matches!(answer, Answer::Busy(_)) {
                answer = protocol.try_now(0, 1, &want);
            }
            assert!(
                matches!(
                    answer,
                    Answer::Granted {
                        recovered: true,
                        ..
                    }
                ),
                "{answer:?}"
            );
        });
    }
}
