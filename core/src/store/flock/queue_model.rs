//! The queue of `queue.rs` in the model checker: every order of steps of a holder and its waiters, weak
//! memory included. Nobody polls here, so a lost wake-up is a deadlock, which loom reports.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p synlock-core --no-default-features --features flock --lib
//! flock::queue_model`

#[cfg(test)]
mod tests {
    use super::super::queue::{AtomicU64, Line, Queue, Table, Turn};
    use crate::store::segment::mortal::{Death, LEFT};
    use loom::cell::UnsafeCell;
    use loom::sync::atomic::Ordering::{Acquire, Release};
    use loom::sync::{Arc, Condvar, Mutex};
    use loom::thread;

    const RECORDS: usize = 3;
    const LINE: Line = Line { slot: 0, key: 1 };

    #[derive(Default)]
    struct World {
        flag: AtomicU64,
        tail: AtomicU64,
        places: [AtomicU64; RECORDS],
        keys: [AtomicU64; RECORDS],
        seens: [AtomicU64; RECORDS],
        dead: [loom::sync::atomic::AtomicU64; RECORDS],
        rung: [(Mutex<bool>, Condvar); RECORDS],
        records: u16,
        /// The kernel's lock: its holder, who lets go by dying too.
        kernel: Mutex<Option<u16>>,
        /// What it protects.
        guarded: UnsafeCell<u64>,
    }

    impl Table for World {
        fn flag(&self, _: u16) -> &AtomicU64 {
            &self.flag
        }
        fn tail(&self, _: u16) -> &AtomicU64 {
            &self.tail
        }
        fn place(&self, record: u16) -> &AtomicU64 {
            &self.places[record as usize]
        }
        fn key(&self, record: u16) -> &AtomicU64 {
            &self.keys[record as usize]
        }
        fn seen(&self, record: u16) -> &AtomicU64 {
            &self.seens[record as usize]
        }
        fn records(&self) -> u16 {
            self.records
        }
        fn is_alive(&self, record: u16) -> bool {
            self.dead[record as usize].load(Acquire) == 0
        }
        fn now(&self) -> u64 {
            1
        }
        fn wake(&self, record: u16) {
            let (rung, bell) = &self.rung[record as usize];
            *rung.lock().unwrap() = true;
            bell.notify_one();
        }
    }

    impl World {
        fn of(records: u16) -> Arc<Self> {
            Arc::new(World {
                records,
                ..World::default()
            })
        }

        fn try_lock(&self, me: u16) -> bool {
            let mut holder = self.kernel.lock().unwrap();
            if holder.is_some() {
                return false;
            }
            *holder = Some(me);
            true
        }

        fn inside(&self) {
            self.guarded.with_mut(|count| {
                // SAFETY: the lock is ours; loom complains of everybody else.
                unsafe { *count += 1 };
            });
        }

        fn let_go(&self) {
            *self.kernel.lock().unwrap() = None;
            Queue(self, LINE).pass_on(true);
        }

        fn sleep(&self, me: u16) {
            let (rung, bell) = &self.rung[me as usize];
            let mut rung = rung.lock().unwrap();
            while !*rung {
                rung = bell.wait(rung).unwrap();
            }
            *rung = false;
        }

        /// As `attempt` and `wait` of the store.
        fn acquire(&self, me: u16) {
            let queue = Queue(self, LINE);
            if !queue.is_waited_for() && self.try_lock(me) {
                return;
            }
            queue.join(me);
            loop {
                if queue.look(me) == Turn::First && self.try_lock(me) {
                    queue.leave(me);
                    return;
                }
                self.sleep(me);
            }
        }

        /// As `wait_until_free` of the store.
        fn watch(&self, me: u16) {
            let queue = Queue(self, LINE);
            queue.watch(me);
            while self.kernel.lock().unwrap().is_some() {
                self.sleep(me);
            }
            queue.leave(me);
        }

        /// Waits, and gives up after one look.
        fn give_up(&self, me: u16) {
            let queue = Queue(self, LINE);
            queue.join(me);
            if queue.look(me) == Turn::First && self.try_lock(me) {
                queue.leave(me);
                self.inside();
                self.let_go();
            } else {
                queue.leave(me);
                queue.pass_on(true);
            }
        }
    }

    /// Three processes with three preemptions take loom longer than a minute: ask for them with
    /// `LOOM_MAX_PREEMPTIONS=3`. More do not end.
    fn check(records: u16, run: impl Fn(Arc<World>) + Sync + Send + 'static) {
        let mut builder = loom::model::Builder::new();
        let (bound, most) = if records > 2 { (2, 3) } else { (4, 8) };
        builder.preemption_bound = Some(builder.preemption_bound.unwrap_or(bound).min(most));
        builder.check(move || run(World::of(records)));
    }

    fn go(world: &Arc<World>, act: impl Fn(&World) + 'static) -> thread::JoinHandle<()> {
        let world = world.clone();
        thread::spawn(move || act(&world))
    }

    fn count(world: &World) -> u64 {
        // SAFETY: all threads have ended.
        world.guarded.with(|count| unsafe { *count })
    }

    #[test]
    fn two_take_turns() {
        check(2, |world| {
            let take = |me: u16| {
                move |world: &World| {
                    world.acquire(me);
                    world.inside();
                    world.let_go();
                }
            };
            let other = go(&world, take(0));
            take(1)(&world);
            other.join().unwrap();
            assert_eq!(count(&world), 2);
            assert!(!Queue(&*world, LINE).is_waited_for());
        });
    }

    #[test]
    fn two_wait_for_one() {
        check(3, |world| {
            assert!(world.try_lock(2));
            let take = |me: u16| {
                move |world: &World| {
                    world.acquire(me);
                    world.inside();
                    world.let_go();
                }
            };
            let (a, b) = (go(&world, take(0)), go(&world, take(1)));
            world.inside();
            world.let_go();
            a.join().unwrap();
            b.join().unwrap();
            assert_eq!(count(&world), 3);
        });
    }

    #[test]
    fn a_watcher_is_told() {
        check(2, |world| {
            assert!(world.try_lock(1));
            let watches = go(&world, |world| world.watch(0));
            world.let_go();
            watches.join().unwrap();
            assert!(!Queue(&*world, LINE).is_waited_for());
        });
    }

    #[test]
    fn a_watcher_is_told_beside_one_who_waits() {
        check(3, |world| {
            assert!(world.try_lock(2));
            let watches = go(&world, |world| world.watch(0));
            let waits = go(&world, |world| {
                world.acquire(1);
                world.inside();
                world.let_go();
            });
            world.let_go();
            waits.join().unwrap();
            watches.join().unwrap();
        });
    }

    #[test]
    fn one_gives_up_before_another() {
        check(3, |world| {
            assert!(world.try_lock(2));
            let waits = go(&world, |world| {
                world.acquire(0);
                world.inside();
                world.let_go();
            });
            let leaves = go(&world, |world| world.give_up(1));
            world.let_go();
            waits.join().unwrap();
            leaves.join().unwrap();
        });
    }

    #[test]
    fn a_waiter_may_die_at_any_step() {
        for steps in 0..24 {
            check(3, move |world| {
                assert!(world.try_lock(2));
                let dies = go(&world, move |world| {
                    LEFT.with(|left| left.set(Some(steps)));
                    let act = || world.give_up(1);
                    let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act)).is_err();
                    LEFT.with(|left| left.set(None));
                    if died {
                        world.dead[1].store(1, Release);
                        let mut holder = world.kernel.lock().unwrap();
                        if *holder == Some(1) {
                            *holder = None;
                        }
                    }
                });
                world.let_go();
                dies.join().unwrap();
                // Whatever is left of it keeps nobody out.
                let queue = Queue(&*world, LINE);
                assert!(!queue.is_waited_for());
                assert!(world.try_lock(0));
                world.inside();
                world.let_go();
                let _ = Death;
            });
        }
    }
}
