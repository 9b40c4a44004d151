//! Who waits, passes, leaves and is woken.

use super::{EXCLUSIVE, World, check, sleep, take, want, write};
use crate::store::shm::protocol::{Answer, Protocol};
use loom::sync::Arc;
use loom::sync::atomic::Ordering::Release;
use loom::thread;

/// Newcomers pass those who wait, but not for long.
#[test]
fn nobody_passes_a_waiter_whose_turn_it_is() {
    check(3, || {
        let world = Arc::new(World::of(3));
        let protocol = Protocol(&*world);
        take(&world, 0, EXCLUSIVE);
        assert!(protocol.enqueue(0, 1, EXCLUSIVE, false));
        let other = world.clone();
        let newcomer = thread::spawn(move || {
            let answer = Protocol(&*other).try_now(0, 2, &want(EXCLUSIVE, 12));
            let passed = matches!(answer, Answer::Granted { .. });
            assert!(!passed || other.barge > 0, "it was the other's turn");
            if passed {
                Protocol(&*other).release(0, 2, true);
            }
        });
        protocol.release(0, 0, true);
        let mut answer = protocol.look_again(0, 1, &want(EXCLUSIVE, 11));
        newcomer.join().unwrap();
        if matches!(answer, Answer::Busy(_)) {
            answer = protocol.look_again(0, 1, &want(EXCLUSIVE, 11));
        }
        assert!(matches!(answer, Answer::Granted { .. }));
    });
}

#[test]
fn two_take_it_in_turn_and_no_word_is_lost() {
    check(3, || {
        let world = Arc::new(World::of(3));
        let other = world.clone();
        let thread = thread::spawn(move || {
            let epoch = take(&other, 1, EXCLUSIVE);
            write(&other, epoch);
            assert!(Protocol(&*other).release(0, 1, true));
        });
        let epoch = take(&world, 0, EXCLUSIVE);
        write(&world, epoch);
        assert!(Protocol(&*world).release(0, 0, true));
        thread.join().unwrap();
        assert_eq!(Protocol(&*world).waiters(0), 0);
        take(&world, 2, EXCLUSIVE);
    });
}

#[test]
fn two_waiters_are_both_woken() {
    check(1, || {
        let world = Arc::new(World::of(3));
        take(&world, 0, EXCLUSIVE);
        let threads = [1, 2].map(|me| {
            let world = world.clone();
            thread::spawn(move || {
                let epoch = take(&world, me, EXCLUSIVE);
                write(&world, epoch);
                Protocol(&*world).release(0, me, me == 1);
            })
        });
        assert!(Protocol(&*world).release(0, 0, true));
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

/// The flag of a waiter that died is taken away just when another one comes.
#[test]
fn a_waiter_that_comes_while_the_flag_goes() {
    check(3, || {
        let world = Arc::new(World::of(3));
        take(&world, 0, EXCLUSIVE);
        assert!(Protocol(&*world).enqueue(0, 2, EXCLUSIVE, false));
        world.dead[2].store(1, Release);
        let other = world.clone();
        let waiter = thread::spawn(move || {
            let protocol = Protocol(&*other);
            let want = want(EXCLUSIVE, 11);
            assert!(protocol.enqueue(0, 1, EXCLUSIVE, false));
            while matches!(protocol.look_again(0, 1, &want), Answer::Busy(_)) {
                sleep(&other, 1);
            }
            protocol.release(0, 1, true);
        });
        assert!(Protocol(&*world).release(0, 0, true));
        waiter.join().unwrap();
    });
}

#[test]
fn a_waiter_that_leaves_hands_on() {
    check(1, || {
        let world = Arc::new(World::of(3));
        take(&world, 0, EXCLUSIVE);
        let leaver = world.clone();
        let leaver = thread::spawn(move || {
            let protocol = Protocol(&*leaver);
            assert!(protocol.enqueue(0, 1, EXCLUSIVE, false));
            let answer = protocol.look_again(0, 1, &want(EXCLUSIVE, 11));
            match answer {
                Answer::Granted { epoch, .. } => {
                    write(&leaver, epoch);
                    protocol.release(0, 1, true);
                }
                _ => protocol.leave(0, 1),
            }
        });
        let waiter = world.clone();
        let waiter = thread::spawn(move || {
            let epoch = take(&waiter, 2, EXCLUSIVE);
            write(&waiter, epoch);
            Protocol(&*waiter).release(0, 2, true);
        });
        Protocol(&*world).release(0, 0, true);
        leaver.join().unwrap();
        waiter.join().unwrap();
    });
}
