//! The state machine of `protocol.rs` in the model checker: every order of steps of two or three
//! processes, weak memory included, and the death of one of them before any of its steps.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p synlock-core --lib shm::model`; `LOOM_MAX_PREEMPTIONS=4`
//! and more for a longer look.

#[cfg(test)]
mod tests {
    use super::super::protocol::{Answer, Protocol, Table, Want};
    use super::super::words::{Grant, Life, ModeWord};
    use crate::store::segment::mortal::{AtomicU64, Death, LEFT};
    use loom::cell::UnsafeCell;
    use loom::sync::atomic::Ordering::{Acquire, Release};
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    const RECORDS: usize = 4;
    const NAME: u64 = 7;

    /// One slot, and a process for each record.
    struct World {
        grant: AtomicU64,
        /// Of a second slot, for which nobody waits.
        second: AtomicU64,
        tail: AtomicU64,
        recovered: AtomicU64,
        offered: AtomicU64,
        seen_head: AtomicU64,
        places: [AtomicU64; RECORDS],
        lives: [AtomicU64; RECORDS],
        modes: [AtomicU64; RECORDS],
        lates: [AtomicU64; RECORDS],
        dead: [loom::sync::atomic::AtomicU64; RECORDS],
        name: AtomicU64,
        clock: AtomicU64,
        rung: [(Mutex<bool>, Condvar); RECORDS],
        /// How many records there are: fewer make the model smaller.
        records: u16,
        /// For how long newcomers may pass those who wait; nobody may, or everybody, since the clock
        /// stands still.
        barge: u64,
        /// What the lock protects: the checker complains about every access that it does not order.
        guarded: UnsafeCell<u64>,
    }

    impl World {
        fn of(records: u16) -> Self {
            World {
                records,
                barge: BARGE.get(),
                grant: AtomicU64::new(Grant::free().0),
                second: AtomicU64::new(Grant::free().0),
                tail: AtomicU64::default(),
                recovered: AtomicU64::default(),
                offered: AtomicU64::default(),
                seen_head: AtomicU64::default(),
                places: Default::default(),
                lives: Default::default(),
                modes: Default::default(),
                lates: Default::default(),
                dead: Default::default(),
                name: AtomicU64::new(NAME),
                clock: AtomicU64::new(1_000_000),
                rung: Default::default(),
                guarded: UnsafeCell::new(0),
            }
        }
    }

    impl World {
        /// In place of the time after which unheard word is rung for again.
        fn dead_now(&self, record: u16) -> bool {
            self.dead[record as usize].load(Acquire) != 0
        }
    }

    impl Table for World {
        fn grant(&self, slot: u16) -> &AtomicU64 {
            [&self.grant, &self.second][usize::from(slot)]
        }
        fn tail(&self, _: u16) -> &AtomicU64 {
            &self.tail
        }
        fn recovered(&self, _: u16) -> &AtomicU64 {
            &self.recovered
        }
        fn offered(&self, _: u16) -> &AtomicU64 {
            &self.offered
        }
        fn seen_head(&self, _: u16) -> &AtomicU64 {
            &self.seen_head
        }
        fn place(&self, record: u16) -> &AtomicU64 {
            &self.places[record as usize]
        }
        fn life(&self, record: u16) -> &AtomicU64 {
            &self.lives[record as usize]
        }
        fn mode(&self, record: u16) -> &AtomicU64 {
            &self.modes[record as usize]
        }
        fn late(&self, record: u16) -> &AtomicU64 {
            &self.lates[record as usize]
        }
        fn records(&self) -> u16 {
            self.records
        }
        fn is_alive(&self, record: u16) -> bool {
            self.dead[record as usize].load(Acquire) == 0
        }
        fn now(&self) -> u64 {
            self.clock.0.load(Acquire)
        }
        fn barge(&self) -> u64 {
            self.barge
        }
        fn wake(&self, record: u16) {
            let (rung, bell) = &self.rung[record as usize];
            *rung.lock().unwrap() = true;
            bell.notify_one();
        }
        fn is_woken(&self, record: u16) -> bool {
            *self.rung[record as usize].0.lock().unwrap() && !self.dead_now(record)
        }
        fn is_named(&self, _: u16) -> bool {
            self.name.load(Acquire) == NAME
        }
    }

    fn want(mode: ModeWord, use_number: u64) -> Want {
        Want {
            mode,
            life: Life::new(None, use_number),
            fair: true,
            step: 1,
        }
    }

    const EXCLUSIVE: ModeWord = ModeWord::EXCLUSIVE;
    const SHARED: ModeWord = ModeWord::SHARED;

    /// Sleeps until word is left.
    fn sleep(world: &World, me: u16) {
        let (rung, bell) = &world.rung[me as usize];
        let mut rung = rung.lock().unwrap();
        while !*rung {
            rung = bell.wait(rung).unwrap();
        }
        *rung = false;
    }

    /// Takes the slot, waiting for it without ever looking unless told.
    fn take(world: &World, me: u16, mode: ModeWord) -> u64 {
        let protocol = Protocol(world);
        let want = want(mode, u64::from(me) + 10);
        let mut answer = protocol.try_now(0, me, &want);
        if matches!(answer, Answer::Busy(_)) {
            assert!(protocol.enqueue(0, me, mode, false));
            answer = protocol.look_again(0, me, &want);
            while matches!(answer, Answer::Busy(_)) {
                sleep(world, me);
                answer = protocol.look_again(0, me, &want);
            }
        }
        match answer {
            Answer::Granted { epoch, .. } => epoch,
            other => panic!("{other:?}"),
        }
    }

    fn write(world: &World, epoch: u64) {
        world.guarded.with_mut(|guarded| {
            // SAFETY: the checker fails if anybody else is here.
            unsafe {
                assert!(
                    *guarded < epoch,
                    "fencing tokens grow: {} {epoch}",
                    *guarded
                );
                *guarded = epoch;
            }
        });
    }

    fn read(world: &World) {
        world.guarded.with(|guarded| {
            // SAFETY: the checker fails if a writer is here.
            unsafe { std::ptr::read(guarded) }
        });
    }

    std::thread_local! {
        static BARGE: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }

    /// Checks the model twice: releases offer the slot to the head of the queue, and only wake it.
    fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
        let model = std::sync::Arc::new(model);
        for barge in [0, 1_000_000] {
            BARGE.set(barge);
            let model = model.clone();
            let mut builder = loom::model::Builder::new();
            builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
            builder.max_branches = 20_000;
            builder.check(move || model());
        }
    }

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
}
