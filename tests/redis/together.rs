//! Sets of locks: one round trip for each server, whatever becomes of its answers.

use crate::{code, ms, reap, until};
use std::sync::Arc;
use synlock_core::{Code, Dispatch, Lock, LockSet, Op, Store, Wait};
use synlock_tests::names::unique;
use synlock_tests::redis::RedisServer;
use synlock_tests::services::redis_fake::Proxy;

const COUNT: usize = 5;

fn made(store: &Store, stem: &str) -> Vec<Lock> {
    let name = |number| format!("{stem}/{number}");
    (0..COUNT)
        .map(|number| store.lock(name(number)).unwrap())
        .collect()
}

fn set_of(locks: &[Lock]) -> LockSet {
    LockSet::new(&locks.iter().collect::<Vec<_>>()).unwrap()
}

/// How many of the locks are held, by the server's word.
fn held(store: &Store, stem: &str) -> usize {
    (0..COUNT)
        .filter(|number| store.is_locked(format!("{stem}/{number}")).unwrap())
        .count()
}

#[test]
fn a_set_is_taken_and_given_back_in_one_round_trip() {
    let server = RedisServer::start();
    for dialect in ["native", "symfony", "plain"] {
        let proxy = Proxy::start(server.port());
        let store = Store::open(&format!(
            "{}?dialect={dialect}&io_timeout=20000",
            proxy.url()
        ))
        .unwrap();
        let stem = unique("together");
        let locks = made(&store, &stem);
        let set = set_of(&locks);
        // The server need not know the scripts.
        server.command(&["SCRIPT", "FLUSH"]);
        set.acquire(Wait::No, None).unwrap();
        set.release().unwrap();
        // No reply comes before all have been asked for.
        proxy.dam(COUNT);
        set.acquire(Wait::No, None).unwrap();
        assert!(proxy.has_dam_broken());
        proxy.dam(COUNT);
        set.release().unwrap();
        assert!(proxy.has_dam_broken());
        assert_eq!(held(&store, &stem), 0);
        // Nor by an event loop.
        let set = Arc::new(set);
        let dispatch = Dispatch::new().unwrap();
        let done = |op| {
            dispatch.submit_set(&set, op, 0).unwrap();
            assert_eq!(reap(&dispatch, 1)[0].1, Code::Ok);
        };
        done(Op::Acquire(Wait::No));
        done(Op::Release);
        proxy.dam(COUNT);
        done(Op::Acquire(Wait::No));
        assert!(proxy.has_dam_broken());
        assert_eq!(held(&store, &stem), COUNT);
        done(Op::Release);
        assert_eq!(held(&store, &stem), 0);
    }
}

/// Whatever reply is lost: all are held, or none is, at the latest when the background has seen to it.
#[test]
fn a_lost_reply_leaves_all_of_a_set_or_none() {
    let server = RedisServer::start();
    let direct = Store::open(&server.url()).unwrap();
    // The scripts are known to the server.
    let known = direct.lock("known").unwrap();
    known.try_acquire().unwrap();
    known.release().unwrap();
    let mut lost = 0;
    for busy in [None, Some(1), Some(4)] {
        for k in 1..=7 {
            let proxy = Proxy::start(server.port());
            let store = Store::open(&proxy.url()).unwrap();
            let stem = unique("lost");
            let taken = busy.map(|number| direct.lock(format!("{stem}/{number}")).unwrap());
            if let Some(taken) = &taken {
                taken.acquire(Wait::No, None).unwrap();
            }
            let locks = made(&store, &stem);
            let set = set_of(&locks);
            proxy.lose(k);
            let acquired = code(set.acquire(Wait::No, None));
            lost += u32::from(proxy.has_lost());
            let others = usize::from(busy.is_some());
            match acquired {
                Code::Ok => {
                    assert_eq!((busy, held(&direct, &stem)), (None, COUNT));
                    let released = code(set.release());
                    assert!(
                        matches!(released, Code::Ok | Code::Uncertain),
                        "{released:?}"
                    );
                }
                Code::Busy => assert!(busy.is_some()),
                other => assert!(
                    matches!(other, Code::Uncertain | Code::Unavailable),
                    "{other:?}"
                ),
            }
            until(|| held(&direct, &stem) == others);
        }
    }
    assert!(lost >= 6, "{lost} replies lost");
}

/// The lock that is taken is waited for, and what comes before it is kept; what comes behind is not.
#[test]
fn a_set_that_waits_keeps_no_name_behind_the_one_it_waits_for() {
    let server = RedisServer::start();
    let store = Store::open(&server.url()).unwrap();
    let stem = unique("order");
    let taken = store.lock(format!("{stem}/2")).unwrap();
    taken.acquire(Wait::No, None).unwrap();
    let locks = made(&store, &stem);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let set = set_of(&locks);
            let acquired = set.acquire(Wait::For(ms(60_000)), None).unwrap();
            (acquired, held(&store, &stem))
        });
        until(|| store.inspect(format!("{stem}/2")).unwrap().waiters == Some(1));
        let free = |number: usize| !store.is_locked(format!("{stem}/{number}")).unwrap();
        assert_eq!(
            (0..COUNT).map(free).collect::<Vec<_>>(),
            [false, false, false, true, true]
        );
        taken.release().unwrap();
        let (acquired, held) = waiter.join().unwrap();
        assert!(acquired.contended);
        assert_eq!(held, COUNT);
    });
}
