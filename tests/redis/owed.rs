//! Releases that do not wait for their answers (`release=async`).

use crate::{code, leased, lock, ms, until};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use synlock_core::event::{Event, EventKind};
use synlock_core::{Code, Lock, LockOptions, State, Store, Wait};
use synlock_tests::load::{SOON, patient};
use synlock_tests::names::unique;
use synlock_tests::process::is_full_load;
use synlock_tests::redis::{Options, RedisServer};
use synlock_tests::services::redis_fake::{Fault, Proxy};

const HOUR: Duration = Duration::from_secs(3600);

/// A URL of a store of its own, with time enough.
fn url(base: &str) -> String {
    patient(&format!("{base}?release=async&prefix=synlock:"))
}

fn store(base: &str) -> Store {
    Store::open(&url(base)).unwrap()
}

/// A hold that nothing but a release ends.
fn long(store: &Store, name: &str) -> Lock {
    let mut options = LockOptions::default();
    (options.ttl, options.renew) = (Some(HOUR), Some(false));
    store.lock_with(name, options).unwrap()
}

fn is_free(server: &RedisServer, name: &str) -> bool {
    let store = Store::open(&patient(&server.url())).unwrap();
    !store.is_locked(name).unwrap()
}

fn events(store: &Store) -> Receiver<Event> {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    store.observe(Arc::new(move |event| {
        let _ = sender.lock().unwrap().send(event.clone());
    }));
    receiver
}

/// The scripts are known to the server, and the store has a connection.
fn warm(store: &Store) {
    let warm = long(store, "warm");
    warm.try_acquire().unwrap().unwrap();
    warm.refresh(None).unwrap();
    warm.release().unwrap();
    store.inspect("warm").unwrap();
}

#[test]
fn a_release_and_what_follows_are_one_round_trip() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port());
    let store = store(&proxy.url());
    warm(&store);
    let (one, two) = (long(&store, "one"), long(&store, "two"));
    for (held, next) in [(&one, &one), (&one, &two), (&two, &one)] {
        held.try_acquire().unwrap().unwrap();
        let before = server.calls("evalsha");
        // No reply passes before both are on their way.
        proxy.dam(2);
        held.release().unwrap();
        assert!(!proxy.has_dam_broken(), "it waited for its answer");
        assert_eq!(held.state(), State::Idle);
        assert_eq!(code(held.release()), Code::NotHeld);
        next.try_acquire().unwrap().unwrap();
        assert!(proxy.has_dam_broken());
        assert_eq!(server.calls("evalsha") - before, 2);
        next.release().unwrap();
    }
    // As many as one connection owes, and all of it read together.
    let held: Vec<_> = (0..8).map(|n| long(&store, &format!("n{n}"))).collect();
    for lock in &held {
        lock.try_acquire().unwrap().unwrap();
    }
    proxy.dam(9);
    for lock in &held {
        lock.release().unwrap();
    }
    one.try_acquire().unwrap().unwrap();
    assert!(proxy.has_dam_broken());
    assert!((0..8).all(|n| is_free(&server, &format!("n{n}"))));
}

#[test]
fn a_release_that_the_server_may_not_understand_waits() {
    let mut server = RedisServer::start();
    for round in 0..3 {
        let store = store(&server.url());
        let held = long(&store, "n");
        held.try_acquire().unwrap().unwrap();
        held.release().unwrap();
        // Nobody would be left to send the script after it.
        assert_eq!(server.command(&["KEYS", "*:n"]), "", "round {round}");
        drop((held, store));
        server.restart();
    }
}

#[test]
fn nobody_waits_for_the_next_command() {
    let server = RedisServer::start();
    let store = store(&server.url());
    warm(&store);
    let told = events(&store);
    let held = long(&store, "n");
    held.try_acquire().unwrap().unwrap();
    held.release().unwrap();
    until(|| is_free(&server, "n"));
    // Nor is one for whom the lock is waiting left alone.
    held.try_acquire().unwrap().unwrap();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let other = lock(&patient(&server.url()), "n");
            other.acquire(Wait::For(SOON), None).map(drop)
        });
        until(|| store.inspect("n").unwrap().waiters == Some(1));
        held.release().unwrap();
        waiter.join().unwrap().unwrap();
    });
    drop((held, store));
    let kinds: Vec<_> = told.try_iter().map(|event| event.kind).collect();
    let pair = [EventKind::Acquired, EventKind::Released];
    assert_eq!(kinds, [pair, pair].concat());
}

#[test]
fn what_a_process_released_is_free_to_its_next_look() {
    let server = RedisServer::start();
    let store = store(&server.url());
    let turn = Mutex::new(());
    let rounds = if is_full_load() { 5000 } else { 200 };
    let pairs = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (store, turn, pairs) = (&store, &turn, &pairs);
            scope.spawn(move || {
                // Somebody else's commands go over the connections in between.
                let own = long(store, &format!("own{thread}"));
                for _ in 0..rounds {
                    let turn = turn.lock().unwrap();
                    let shared = long(store, "shared");
                    assert!(shared.try_acquire().unwrap().is_some());
                    shared.release().unwrap();
                    if pairs.fetch_add(1, SeqCst) % 8 == 0 {
                        assert!(!store.is_locked("shared").unwrap());
                    }
                    drop(turn);
                    own.try_acquire().unwrap().unwrap();
                    own.release().unwrap();
                }
            });
        }
    });
    assert!(store.list(b"", None, 100).unwrap().locks.is_empty());
}

#[test]
fn a_script_that_was_forgotten_is_sent_whole() {
    let server = RedisServer::start();
    let store = store(&server.url());
    warm(&store);
    let told = events(&store);
    let held = long(&store, "n");
    for round in 0..3 {
        held.try_acquire().unwrap().unwrap();
        server.command(&["SCRIPT", "FLUSH"]);
        if round > 0 {
            // Others bring back the script of the next command, which must not be refused.
            let other = lock(&patient(&server.url()), "other");
            other.try_acquire().unwrap().unwrap();
        }
        held.release().unwrap();
        if round == 2 {
            until(|| is_free(&server, "n"));
        }
        held.try_acquire().unwrap().expect("it is free");
        held.release().unwrap();
        until(|| is_free(&server, "n"));
    }
    drop((held, store));
    assert!(told.try_iter().all(|event| event.kind != EventKind::Lost));
}

#[test]
fn a_release_that_never_arrived_is_sent_again() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port());
    let store = store(&proxy.url());
    warm(&store);
    let other = Store::open(&format!("{}?io_timeout=300", proxy.url())).unwrap();
    until(|| other.ping(Wait::Forever).is_ok());
    let told = events(&store);
    let held = long(&store, "n");
    for tries_next in [false, true] {
        held.try_acquire().unwrap().unwrap();
        // Nothing passes any more.
        proxy.fail(1, Fault::Silence);
        assert!(other.ping(Wait::For(ms(500))).is_err());
        held.release().unwrap();
        assert!(!is_free(&server, "n"));
        proxy.heal();
        if tries_next {
            held.try_acquire().unwrap().expect("it is free");
            held.release().unwrap();
        }
        until(|| is_free(&server, "n"));
    }
    drop((held, store));
    assert!(told.try_iter().all(|event| event.kind != EventKind::Lost));
}

#[test]
fn a_reply_that_was_lost_is_no_loss() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port());
    let store = store(&proxy.url());
    warm(&store);
    let told = events(&store);
    let held = long(&store, "n");
    held.try_acquire().unwrap().unwrap();
    proxy.lose(1);
    held.release().unwrap();
    until(|| is_free(&server, "n"));
    // What came of it cannot be known, and that is said.
    let unknown = loop {
        let event = told.recv_timeout(SOON).unwrap();
        if !matches!(event.kind, EventKind::Acquired | EventKind::Released) {
            break event;
        }
    };
    assert_eq!(unknown.kind, EventKind::Warning);
    assert_eq!(unknown.code, Code::Uncertain);
    assert_eq!(unknown.resource, b"n");
}

#[test]
fn a_reply_that_does_not_come_in_time_is_lost() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port());
    let brief = |ms: u32| Store::open(&format!("{}?release=async&io_timeout={ms}", proxy.url()));
    // A machine that stands still may be the one that is late.
    let tries = (0..20).find(|round| {
        let store = brief(1000 + round).unwrap();
        let held = long(&store, "n");
        let pair = || held.try_acquire().is_ok_and(|held| held.is_some()) && held.release().is_ok();
        if !pair() || !held.try_acquire().is_ok_and(|held| held.is_some()) {
            until(|| is_free(&server, "n"));
            return false;
        }
        // Requests arrive, replies do not.
        proxy.fail(1, Fault::OneWay);
        assert!(brief(300).unwrap().ping(Wait::For(ms(500))).is_err());
        let released = held.release().is_ok();
        until(|| is_free(&server, "n"));
        if released {
            std::thread::sleep(ms(1500));
        }
        proxy.heal();
        released
    });
    assert!(tries.is_some(), "it waited for its answer");
    let other = store(&proxy.url());
    long(&other, "n").acquire(Wait::For(SOON), None).unwrap();
}

#[test]
fn a_hold_that_was_lost_is_told() {
    let server = RedisServer::start();
    for is_observed in [true, false] {
        let store = Store::open(&format!("{}&label={is_observed}", url(&server.url()))).unwrap();
        warm(&store);
        let (sender, told) = channel();
        let sender = Mutex::new(sender);
        let tell = Arc::new(move |event: &Event| {
            if event.kind == EventKind::Lost {
                let _ = sender.lock().unwrap().send(event.clone());
            }
        });
        if is_observed {
            store.observe(tell);
        } else {
            store.observe_warnings(tell);
        }
        let held = long(&store, "n");
        held.try_acquire().unwrap().unwrap();
        let owner = held.owner_token().unwrap().to_hex();
        server.command(&["FLUSHALL"]);
        held.release().unwrap();
        // The handle need not be there any more.
        drop(held);
        let event = told.recv_timeout(SOON).unwrap();
        assert_eq!((event.code, event.level), (Code::Lost, "warning"));
        assert_eq!((&*event.resource, &*event.owner), (&b"n"[..], &owner[..8]));
        assert_eq!(event.message, "the lock was lost before its release");
    }
    // After its lease the answer is waited for.
    let store = store(&server.url());
    let held = leased(&url(&server.url()), "brief", ms(50));
    held.acquire(Wait::For(SOON), None).unwrap();
    std::thread::sleep(ms(200));
    assert_eq!(code(held.release()), Code::Lost);
    drop(store);
}

#[test]
fn the_end_of_a_store_reads_what_is_owed() {
    let server = RedisServer::start();
    let store = store(&server.url());
    warm(&store);
    let held = long(&store, "n");
    held.try_acquire().unwrap().unwrap();
    server.pause();
    held.release().unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            drop((held, store));
            is_over.store(true, SeqCst);
        });
        std::thread::sleep(ms(100));
        let was_over = is_over.load(SeqCst);
        server.resume();
        assert!(!was_over, "it did not wait");
    });
    // It was released, and not only written.
    assert_eq!(server.command(&["KEYS", "*:n"]), "");
}

#[test]
fn all_other_formats_and_modes_can() {
    let server = RedisServer::start();
    for dialect in [
        "plain",
        "symfony",
        "python-redis-lock",
        "redis-semaphore",
        "redisson",
    ] {
        let proxy = Proxy::start(server.port());
        let base = format!("{}?release=async&dialect={dialect}", proxy.url());
        let store = Store::open(&patient(&base)).unwrap();
        let name = unique("dialect");
        let held = long(&store, &name);
        held.try_acquire().unwrap().unwrap();
        held.release().unwrap();
        held.try_acquire().unwrap().unwrap();
        proxy.dam(2);
        held.release().unwrap();
        held.try_acquire().unwrap().expect("it is free");
        assert!(proxy.has_dam_broken(), "{dialect}");
        held.release().unwrap();
    }
}

#[test]
fn the_end_of_a_host_sees_through_what_came_to_nothing() {
    let server = RedisServer::start();
    let store = store(&server.url());
    warm(&store);
    let held = long(&store, "n");
    held.try_acquire().unwrap().unwrap();
    server.command(&["SCRIPT", "FLUSH"]);
    held.release().unwrap();
    synlock_core::collect_releases();
    assert_eq!(server.command(&["KEYS", "*:n"]), "");
}

#[test]
fn of_many_who_end_one_waits_for_a_server_that_is_gone() {
    let mut server = RedisServer::start();
    let base = format!("{}?release=async&io_timeout=2000", server.url());
    let stores: Vec<_> = (0..50).map(|_| Store::open(&base).unwrap()).collect();
    let held = long(&stores[0], "n");
    // A machine that stands still may make the first of them wait, or fail.
    until(|| {
        let pair = held.try_acquire().is_ok_and(|held| held.is_some()) && held.release().is_ok();
        pair && held.try_acquire().is_ok_and(|held| held.is_some())
    });
    server.pause();
    held.release().unwrap();
    server.kill();
    let begun = Instant::now();
    drop((held, stores));
    // Not 50 times as long as one exchange may take.
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[test]
fn sockets_and_tls_can() {
    let server = RedisServer::start_with(Options {
        tls: cfg!(feature = "redis-tls"),
        ..Options::default()
    });
    let mut urls = vec![format!("{}?release=async", server.socket_url())];
    if cfg!(feature = "redis-tls") {
        urls.push(format!("{}&release=async", server.tls_url()));
    }
    for url in urls {
        let store = Store::open(&patient(&url)).unwrap();
        warm(&store);
        let held = long(&store, "n");
        held.try_acquire().unwrap().unwrap();
        // Nothing can be answered.
        server.pause();
        held.release().unwrap();
        server.resume();
        held.try_acquire().unwrap().expect("it is free");
        held.release().unwrap();
        until(|| is_free(&server, "n"));
    }
}

#[test]
fn the_option_is_refused_where_it_makes_no_sense() {
    let refused = |url: &str| {
        let error = Store::open(url).unwrap_err();
        (error.code(), error.message().to_owned())
    };
    for url in [
        "redis+sentinel://h:1/m?release=async",
        "redis+cluster://h:1?release=async",
        "quorum:(redis://h:1?release=async,redis://h:2,redis://h:3)",
        "tiered:(shm:owed,redis://h:1?release=async)",
    ] {
        let (code, words) = refused(url);
        assert_eq!(code, Code::InvalidUrl, "{url}");
        assert!(words.contains("release=async"), "{url}: {words}");
    }
    assert_eq!(refused("redis://h?release=later").0, Code::InvalidArgument);
    for url in [
        "redis://h?release=sync",
        "redis+cluster://h:1?release=sync",
        "unix:/tmp/s?release=async",
        "valkey://h?release=async",
    ] {
        Store::open(url).unwrap();
    }
}
