//! A server that is late: callers have gone by the time it answers.

use crate::{code, ms, until};
use std::time::Duration;
use synlock_core::{Code, Lock, LockOptions, Store, Wait};
use synlock_tests::load::patient;
use synlock_tests::names::unique;
use synlock_tests::redis::RedisServer;
use synlock_tests::services::redis_fake::{Late, Proxy};

const THREADS: usize = 8;
const HOUR: Duration = Duration::from_secs(3600);

/// A hold that nothing but a release ends.
fn long(store: &Store, name: &str) -> Lock {
    let mut options = LockOptions::default();
    (options.ttl, options.renew) = (Some(HOUR), Some(false));
    store.lock_with(name, options).unwrap()
}

/// Everybody has a connection, and the server its scripts.
fn warm(locks: &[Lock]) {
    std::thread::scope(|scope| {
        for lock in locks {
            scope.spawn(|| {
                until(|| lock.acquire(Wait::For(ms(20_000)), None).is_ok());
                lock.release().unwrap();
            });
        }
    });
}

/// They all ask a server that stands still, and none has time for the answer.
fn ask_in_vain(server: &RedisServer, locks: &[Lock], how: impl Fn(&Lock) -> Code + Sync) {
    server.pause();
    std::thread::scope(|scope| {
        for lock in locks {
            let how = &how;
            scope.spawn(move || {
                let code = how(lock);
                assert!(
                    matches!(code, Code::Uncertain | Code::Unavailable | Code::Timeout),
                    "{code:?}"
                );
            });
        }
    });
    server.resume();
}

/// How many connections were made, and ended by others.
fn churn(server: &RedisServer) -> (u64, u64) {
    (server.calls("client|setname"), server.calls("client|kill"))
}

fn nobody_holds(server: &RedisServer, names: &[String]) -> bool {
    let all = server.command(&["KEYS", "*"]);
    !names.iter().any(|name| all.contains(&format!("}}:{name}")))
}

#[test]
fn who_has_no_time_left_leaves_the_connection_standing() {
    let server = RedisServer::start();
    let store = Store::open(&patient(&server.url())).unwrap();
    let names: Vec<String> = (0..THREADS).map(|_| unique("late")).collect();
    let locks: Vec<Lock> = names.iter().map(|name| long(&store, name)).collect();
    warm(&locks);
    // More than once: the machine may stand still for as long as a connection is given.
    let stands = |_| {
        let before = churn(&server);
        ask_in_vain(&server, &locks, |lock| {
            code(lock.acquire(Wait::For(ms(30)), None))
        });
        // What the server granted to nobody was released behind it, long before the lease ends.
        until(|| nobody_holds(&server, &names));
        warm(&locks);
        let after = churn(&server);
        after == before
    };
    assert!((0..10).any(stands));
}

#[test]
fn a_queue_is_left_though_the_answer_is_late() {
    let server = RedisServer::start();
    let store = Store::open(&patient(&server.url())).unwrap();
    let name = unique("queue");
    let holder = long(&store, &name);
    holder.acquire(Wait::No, None).unwrap();
    let waiters: Vec<Lock> = (0..THREADS).map(|_| long(&store, &name)).collect();
    std::thread::scope(|scope| {
        for waiter in &waiters {
            scope.spawn(|| code(waiter.acquire(Wait::For(ms(400)), None)));
        }
        // They stand in line, and are deaf to the server when their time is over.
        std::thread::sleep(ms(200));
        server.pause();
        std::thread::sleep(ms(500));
        server.resume();
    });
    holder.release().unwrap();
    // Whoever comes next has nobody before it, though each of those had fifteen seconds in line.
    until(|| server.command(&["KEYS", "synlock:*}q:*"]).is_empty());
    until(|| nobody_holds(&server, std::slice::from_ref(&name)));
    holder.acquire(Wait::For(ms(60_000)), None).unwrap();
}

/// A route that swallows what it is given looks the same at first.
#[test]
fn a_connection_that_stays_silent_is_given_up() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port());
    let store = Store::open(&patient(&proxy.url())).unwrap();
    let name = unique("silent");
    let lock = long(&store, &name);
    warm(std::slice::from_ref(&lock));
    proxy.keep_next();
    assert_eq!(code(lock.acquire(Wait::For(ms(30)), None)), Code::Uncertain);
    assert_eq!(proxy.late(), Late::Kept);
    // With no more time than before, and long before a reply is late for the store.
    until(|| lock.acquire(Wait::For(ms(300)), None).is_ok());
    lock.release().unwrap();
    proxy.send_late();
    until(|| proxy.late() == Late::Refused);
    assert!(nobody_holds(&server, &[name]));
}

/// A lease may run out behind it.
#[test]
fn a_renewal_goes_past_a_reply_that_is_late() {
    let server = RedisServer::start();
    // More than once: the machine may stand still for as long as a connection is given.
    let goes_past = |_| {
        let proxy = Proxy::start(server.port());
        let store = Store::open(&patient(&proxy.url())).unwrap();
        let [held, other] = [(); 2].map(|()| long(&store, &unique("past")));
        warm(std::slice::from_ref(&other));
        held.acquire(Wait::For(ms(60_000)), None).unwrap();
        proxy.keep_next();
        let late = code(other.acquire(Wait::For(ms(30)), None));
        held.refresh(None).unwrap();
        // Nor has the connection been ended, so that it could.
        let went_past = proxy.late() == Late::Kept;
        proxy.send_late();
        held.release().unwrap();
        late == Code::Uncertain && went_past
    };
    assert!((0..10).any(goes_past));
}

#[test]
fn a_server_that_begins_anew_owes_nothing() {
    let mut server = RedisServer::start();
    let store = Store::open(&patient(&server.url())).unwrap();
    let names: Vec<String> = (0..THREADS).map(|_| unique("anew")).collect();
    let locks: Vec<Lock> = names.iter().map(|name| long(&store, name)).collect();
    warm(&locks);
    server.pause();
    std::thread::scope(|scope| {
        for lock in &locks {
            scope.spawn(|| assert_ne!(code(lock.acquire(Wait::For(ms(30)), None)), Code::Ok));
        }
    });
    server.restart();
    warm(&locks);
    assert!(nobody_holds(&server, &names));
}
