//! Readers, writers and permits, and changes from one to the other.

use super::{EXCLUSIVE, SHARED, World, check, read, take, want, write};
use crate::store::shm::protocol::{Answer, Protocol};
use crate::store::shm::words::ModeWord;
use loom::sync::Arc;
use loom::thread;

#[test]
fn readers_and_a_writer() {
    check(1, || {
        let world = Arc::new(World::of(3));
        let threads = [(1, SHARED), (2, EXCLUSIVE)].map(|(me, mode)| {
            let world = world.clone();
            thread::spawn(move || {
                let epoch = take(&world, me, mode);
                if mode == SHARED {
                    read(&world);
                } else {
                    write(&world, epoch);
                }
                Protocol(&*world).release(0, me, true);
            })
        });
        take(&world, 0, SHARED);
        read(&world);
        Protocol(&*world).release(0, 0, true);
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn permits_are_never_exceeded() {
    check(2, || {
        let world = Arc::new(World::of(4));
        let inside = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let enter = |world: &World, inside: &std::sync::atomic::AtomicU64, me| {
            let answer = Protocol(world).try_now(0, me, &want(ModeWord::permits(1, 2), 10));
            if matches!(answer, Answer::Granted { .. }) {
                assert!(inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < 2);
                inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                Protocol(world).release(0, me, true);
            }
        };
        // One is held for good, so two more can never both have one.
        assert!(matches!(
            Protocol(&*world).try_now(0, 3, &want(ModeWord::permits(1, 2), 9)),
            Answer::Granted { .. }
        ));
        inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let threads = [1, 2].map(|me| {
            let (world, inside) = (world.clone(), inside.clone());
            thread::spawn(move || enter(&world, &inside, me))
        });
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn promotion_excludes_readers() {
    check(3, || {
        let world = Arc::new(World::of(3));
        take(&world, 0, SHARED);
        let other = world.clone();
        let reader = thread::spawn(move || {
            let answer = Protocol(&*other).try_now(0, 1, &want(SHARED, 11));
            if matches!(answer, Answer::Granted { .. }) {
                read(&other);
                Protocol(&*other).release(0, 1, true);
            }
        });
        let protocol = Protocol(&*world);
        if let Answer::Granted { epoch, .. } = protocol.promote(0, 0) {
            write(&world, epoch);
            assert!(protocol.demote(0, 0));
        }
        read(&world);
        assert!(protocol.release(0, 0, true));
        reader.join().unwrap();
        take(&world, 2, EXCLUSIVE);
    });
}

#[test]
fn a_demoted_writer_lets_a_reader_in() {
    check(2, || {
        let world = Arc::new(World::of(2));
        let epoch = take(&world, 0, EXCLUSIVE);
        write(&world, epoch);
        let other = world.clone();
        let reader = thread::spawn(move || {
            take(&other, 1, SHARED);
            read(&other);
            Protocol(&*other).release(0, 1, true);
        });
        let protocol = Protocol(&*world);
        assert!(protocol.demote(0, 0));
        read(&world);
        assert!(protocol.release(0, 0, true));
        reader.join().unwrap();
    });
}

#[test]
fn a_demoted_writer_keeps_writers_out() {
    check(3, || {
        let world = Arc::new(World::of(2));
        let epoch = take(&world, 0, EXCLUSIVE);
        write(&world, epoch);
        let other = world.clone();
        let writer = thread::spawn(move || {
            let epoch = take(&other, 1, EXCLUSIVE);
            write(&other, epoch);
            Protocol(&*other).release(0, 1, true);
        });
        let protocol = Protocol(&*world);
        assert!(protocol.demote(0, 0));
        read(&world);
        assert!(protocol.release(0, 0, true));
        writer.join().unwrap();
    });
}
