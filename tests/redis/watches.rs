//! Those who wait until a lock is free and do not take it.

use crate::{code, leased, lock, ms, until};
use synlock_core::{Code, Store, Wait};
use synlock_tests::redis::RedisServer;

#[test]
fn waiting_for_a_free_lock_asks_seldom_and_hears_at_once() {
    let server = RedisServer::start();
    let store = Store::open(&server.url()).unwrap();
    let (one, two) = (store.lock("n").unwrap(), store.lock("n").unwrap());
    assert!(store.wait_free("n", Wait::No).unwrap());
    one.try_acquire().unwrap().unwrap();
    assert!(!store.wait_free("n", Wait::No).unwrap());
    let before = server.calls("evalsha") + server.calls("eval");
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            // In slices, as hosts wait that must look at signals in between.
            for _ in 0..200 {
                if store.wait_free("n", Wait::For(ms(20))).unwrap() {
                    return true;
                }
            }
            false
        });
        std::thread::sleep(ms(1500));
        // A first look, one that registers, and what a script costs that the server does not know.
        let asked = server.calls("evalsha") + server.calls("eval") - before;
        assert!((2..=3).contains(&asked), "{asked} requests");
        // Handed on to a waiter the lock is not free.
        let waiter = scope.spawn(|| two.acquire(Wait::For(ms(4000)), None).map(drop));
        while store.inspect("n").unwrap().waiters != Some(1) {
            std::thread::sleep(ms(1));
        }
        one.release().unwrap();
        waiter.join().unwrap().unwrap();
        std::thread::sleep(ms(100));
        assert!(!watcher.is_finished());
        let published = server.calls("publish");
        two.release().unwrap();
        assert!(watcher.join().unwrap());
        assert_eq!(server.calls("publish") - published, 1);
    });
    // Nothing is left behind.
    assert_eq!(server.command(&["KEYS", "*}w:*"]), "");
    // A look goes on with no watch that was given up: its word may not have been read.
    one.try_acquire().unwrap().unwrap();
    assert!(!store.wait_free("n", Wait::For(ms(20))).unwrap());
    one.release().unwrap();
    assert!(store.wait_free("n", Wait::No).unwrap());
}

#[test]
fn a_watch_hears_of_a_lease_that_ends() {
    let server = RedisServer::start();
    let store = Store::open(&server.url()).unwrap();
    let held = leased(&server.url(), "n", ms(300));
    held.try_acquire().unwrap().unwrap();
    let before = server.calls("evalsha");
    assert!(store.wait_free("n", Wait::For(ms(4000))).unwrap());
    // Neither a waiter nor a poll was needed: it was known when the lease would end.
    assert!(server.calls("evalsha") - before <= 4);
    assert_eq!(code(held.release()), Code::Lost);
}

#[test]
fn watches_of_the_dead_are_forgotten() {
    let server = RedisServer::start();
    let held = lock(&server.url(), "n");
    held.try_acquire().unwrap().unwrap();
    let dead = "0123456789abcdef0123456789abcdef";
    let key = || server.command(&["KEYS", "*}w:n"]);
    let living = || {
        let known = server.command(&["HKEYS", &key()]);
        known
            .lines()
            .filter(|token| token.len() == 32 && *token != dead)
            .count()
    };
    // Each with a store of its own, until the server knows so many.
    let watch = |count: usize| {
        let store =
            Store::open(&format!("{}?io_timeout={}", server.url(), 20_000 + count)).unwrap();
        until(|| !store.wait_free("n", Wait::For(ms(20))).unwrap() && living() == count);
        store
    };
    let _one = watch(1);
    let key = key();
    let clock = || {
        let now = server.command(&["TIME"]);
        now.lines().next().unwrap().parse::<u64>().unwrap() * 1000
    };
    let order = server.command(&["HVALS", &key]);
    let end: u64 = order.split('|').next().unwrap().parse().unwrap();
    assert!(end > clock(), "{order} at {}", clock());
    // Of one that has not come back for a minute.
    let order = format!("{}|synlock:wake:dead|0|w|0|0|0|0|", clock() - 60_000);
    server.command(&["HSET", &key, dead, &order]);
    let _two = watch(2);
    assert_eq!(server.command(&["HEXISTS", &key, dead]), "0");
    held.release().unwrap();
    assert_eq!(server.command(&["KEYS", "*}w:*"]), "");
}
