//! Many requests of one event loop under way on one connection.

use super::{ms, reap};
use synlock_core::{Code, Dispatch, Lock, LockOptions, Op, Reentry, State, Store, Wait};
use synlock_tests::load::SOON;
use synlock_tests::names::unique;
use synlock_tests::redis::RedisServer;
use synlock_tests::services::redis_fake::Proxy;

const COUNT: usize = 200;

fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        std::thread::sleep(ms(5));
    }
}

struct Setting {
    server: RedisServer,
    proxy: Proxy,
    store: Store,
    stem: String,
    locks: Vec<Lock>,
    dispatch: Dispatch,
}

impl Setting {
    /// A store behind a proxy, with its connection and scripts in place.
    fn new() -> Self {
        Setting::with_timeout(20_000)
    }

    fn with_timeout(io: u32) -> Self {
        let server = RedisServer::start();
        let proxy = Proxy::start(server.port());
        let store = Store::open(&format!("{}?io_timeout={io}", proxy.url())).unwrap();
        let stem = unique("pipe");
        let made = |number| store.lock(format!("{stem}/{number}")).unwrap();
        let setting = Setting {
            locks: (0..COUNT).map(made).collect(),
            dispatch: Dispatch::new().unwrap(),
            server,
            proxy,
            store,
            stem,
        };
        for op in [Op::Acquire(Wait::Forever), Op::Release] {
            setting.submit(0, op);
            assert_eq!(reap(&setting.dispatch, 1)[0].1, Code::Ok);
        }
        setting
    }

    fn submit(&self, number: usize, op: Op) {
        let lock = &self.locks[number];
        self.dispatch.submit(lock, op, number as u64).unwrap();
    }

    /// Submits it for each lock; how they ended.
    fn all(&self, op: Op) -> Vec<Code> {
        (0..COUNT).for_each(|number| self.submit(number, op));
        let mut ended = reap(&self.dispatch, COUNT);
        ended.sort_by_key(|(number, _)| *number);
        ended.into_iter().map(|(_, code)| code).collect()
    }

    /// No hold stays behind, not even for its TTL.
    fn assert_free(&self) {
        let direct = Store::open(&self.server.url()).unwrap();
        for number in 0..COUNT {
            let other = direct.lock(format!("{}/{number}", self.stem)).unwrap();
            other.acquire(Wait::For(SOON), None).unwrap();
            other.release().unwrap();
        }
    }
}

#[test]
fn requests_of_event_loops_do_not_wait_for_one_another() {
    let setting = Setting::new();
    for op in [
        Op::Acquire(Wait::Forever),
        Op::Release,
        Op::Acquire(Wait::No),
        Op::Release,
    ] {
        // No reply passes before all have been asked for, on one connection.
        setting.proxy.dam(COUNT);
        assert_eq!(setting.all(op), [Code::Ok; COUNT]);
        assert!(setting.proxy.has_dam_broken());
    }
    setting.assert_free();
}

#[test]
fn each_request_that_was_under_way_on_a_lost_connection_is_uncertain_or_asked_again() {
    for wait in [Wait::Forever, Wait::No] {
        // Of its own: a dam would hold back what is released in the background after the first.
        let setting = Setting::new();
        let Setting { proxy, locks, .. } = &setting;
        proxy.dam(COUNT);
        proxy.lose(1);
        let acquired = setting.all(Op::Acquire(wait));
        assert!(proxy.has_dam_broken() && proxy.has_lost());
        // What had been carried out is found, and granted once.
        assert_eq!(acquired, [Code::Ok; COUNT]);
        for lock in locks {
            lock.ensure_held().unwrap();
        }
        // The releases were carried out; that it was they who did it cannot be known any more.
        proxy.dam(COUNT);
        proxy.lose(1);
        let released = setting.all(Op::Release);
        assert!(proxy.has_dam_broken() && proxy.has_lost());
        assert_eq!(released, [Code::Uncertain; COUNT]);
        setting.assert_free();
        for lock in locks {
            // Until it is known.
            let again = lock.release();
            assert!(again.is_err());
        }
    }
}

#[test]
fn a_request_that_is_not_answered_ends_with_its_own_time() {
    let setting = Setting::with_timeout(1000);
    // Nothing passes.
    setting.proxy.dam(usize::MAX);
    setting.submit(1, Op::Acquire(Wait::For(ms(200))));
    let (_, code) = reap(&setting.dispatch, 1)[0];
    assert_eq!(code, Code::Uncertain);
    setting.proxy.dam(0);
    // What was granted there unseen is given back.
    setting.assert_free();
    assert_eq!(setting.all(Op::Acquire(Wait::Forever)), [Code::Ok; COUNT]);
    assert_eq!(
        setting.store.list(b"", None, 1000).unwrap().locks.len(),
        COUNT
    );
    // Dropped, each would ask a server that is gone.
    assert_eq!(setting.all(Op::Release), [Code::Ok; COUNT]);
}

/// A loop that never reaps: what it was granted is kept all the same, and whoever waits behind it is served.
/// Whoever shares a hold asks the store whether it stands, and no loop of the host waits for that.
#[test]
fn a_request_for_a_hold_of_this_process_does_not_stop_the_loop() {
    let setting = Setting::with_timeout(5_000);
    for (reentry, code) in [
        (Reentry::Extend, Code::Ok),
        (Reentry::Error, Code::Reentered),
    ] {
        let mut options = LockOptions::default();
        options.reentry = reentry;
        let made = || setting.store.lock_with("mine", options.clone()).unwrap();
        let (mine, again) = (made(), made());
        mine.try_acquire().unwrap().unwrap();
        setting.server.pause();
        let acquire = Op::Acquire(Wait::Forever);
        setting.dispatch.submit(&again, acquire, 7).unwrap();
        setting.server.resume();
        assert_eq!(reap(&setting.dispatch, 1), [(7, code)]);
        mine.release().unwrap();
    }
}

#[test]
fn a_loop_that_does_not_come_loses_nothing() {
    let setting = Setting::new();
    let short = |name: &str| {
        let mut options = LockOptions::default();
        (options.ttl, options.renew) = (Some(ms(1500)), Some(true));
        let name = format!("{}/{name}", setting.stem);
        setting.store.lock_with(name, options).unwrap()
    };
    let (first, second) = (short("a"), short("a"));
    // It sits where answers are read, and stays away from now on.
    let deaf = Dispatch::new().unwrap();
    deaf.submit(&first, Op::Acquire(Wait::Forever), 0).unwrap();
    until(|| first.state() == State::Held);
    // Renewed, or it would be over.
    std::thread::sleep(ms(2000));
    assert_eq!(first.state(), State::Held);
    deaf.submit(&second, Op::Acquire(Wait::Forever), 1).unwrap();
    until(|| {
        setting
            .store
            .inspect(first.name().as_bytes())
            .unwrap()
            .waiters
            == Some(1)
    });
    deaf.submit(&first, Op::Release, 2).unwrap();
    until(|| second.state() == State::Held);
    // Another loop takes its seat.
    assert_eq!(setting.all(Op::Acquire(Wait::No)), [Code::Ok; COUNT]);
    assert_eq!(setting.all(Op::Release), [Code::Ok; COUNT]);
    let ended = reap(&deaf, 3);
    assert!(ended.iter().all(|(_, code)| *code == Code::Ok), "{ended:?}");
    second.release().unwrap();
}

/// Of two loops on one connection each is told of its own.
#[test]
fn loops_that_share_a_connection_are_told_of_their_own() {
    let setting = Setting::new();
    let loops: Vec<Dispatch> = (0..3).map(|_| Dispatch::gathering().unwrap()).collect();
    for op in [Op::Acquire(Wait::No), Op::Release].repeat(20) {
        for (number, lock) in setting.locks.iter().enumerate() {
            let own = &loops[number % loops.len()];
            own.submit(lock, op, number as u64).unwrap();
        }
        for (which, own) in loops.iter().enumerate() {
            // The second forgets to, and is waited for by nobody.
            if which != 1 {
                own.flush();
            }
            let count = (COUNT - which).div_ceil(loops.len());
            let ended = reap(own, count);
            let is_own = |(number, code): &(u64, Code)| {
                *number as usize % loops.len() == which && *code == Code::Ok
            };
            assert!(ended.iter().all(is_own), "{ended:?}");
        }
    }
}

/// Nobody reads for a loop that is gone, but the service thread.
#[test]
fn a_loop_that_ends_leaves_its_seat() {
    let setting = Setting::new();
    for _ in 0..5 {
        let gone = Dispatch::new().unwrap();
        gone.submit(&setting.locks[0], Op::Acquire(Wait::No), 0)
            .unwrap();
        assert_eq!(reap(&gone, 1)[0].1, Code::Ok);
        gone.submit(&setting.locks[0], Op::Release, 0).unwrap();
        drop(gone);
        until(|| setting.locks[0].state() == State::Idle);
        assert_eq!(setting.all(Op::Acquire(Wait::Forever)), [Code::Ok; COUNT]);
        assert_eq!(setting.all(Op::Release), [Code::Ok; COUNT]);
    }
}

#[test]
fn a_server_that_restarts_is_found_again() {
    let mut setting = Setting::new();
    assert_eq!(setting.all(Op::Acquire(Wait::Forever)), [Code::Ok; COUNT]);
    setting.server.restart();
    // The holds are gone with it.
    let lost = setting.all(Op::Release);
    assert!(
        lost.iter()
            .all(|code| matches!(code, Code::Lost | Code::Uncertain)),
        "{lost:?}"
    );
    setting.assert_free();
}
