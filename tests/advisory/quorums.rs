//! A quorum of session locks: its holds end when too many of their sessions have.

use crate::{PATIENCE, code, ms, open, until};
use std::os::fd::RawFd;
use std::time::{Duration, Instant};
use synlock_core::{Code, Lock, State, Store, Wait};
use synlock_tests::services::mariadb::MariadbServer;
use synlock_tests::services::postgres::PostgresServer;
use synlock_tests::services::redis_fake::{Fault, Proxy};

const MAX_TTL: Duration = Duration::from_secs(6);
const MEMBERS: [&str; 3] = ["one", "two", "three"];

fn member(server: &PostgresServer, name: &str) -> String {
    let place = server.place();
    let (server, _) = place.rsplit_once('/').unwrap();
    format!("postgres+advisory://{server}/{name}?io_timeout=20000")
}

/// One server's three databases: each has advisory locks of its own.
fn members() -> (PostgresServer, [String; 3]) {
    let server = PostgresServer::start();
    for name in MEMBERS {
        server.sql(&format!("CREATE DATABASE {name}"));
    }
    let urls = MEMBERS.map(|name| member(&server, name));
    (server, urls)
}

fn quorum(urls: &[String; 3], options: &str) -> Store {
    let store = Store::open(&format!("quorum:({})?{options}", urls.join(","))).unwrap();
    store.ping(PATIENCE).unwrap();
    store
}

/// Held on all three. The last vote is not waited for, and comes to nothing where an earlier hold is still being given
/// back: then it is asked for anew.
fn held_on_all(store: &Store, urls: &[String; 3]) -> Lock {
    let lock = store.lock("n").unwrap();
    let members: Vec<Store> = (0u32..)
        .zip(urls)
        .map(|(number, url)| open(url.split('?').next().unwrap(), number))
        .collect();
    let mut looks = 0;
    until(|| {
        if looks % 500 == 0 {
            let _ = lock.release();
            lock.acquire(PATIENCE, None).unwrap();
        }
        looks += 1;
        members.iter().all(|member| member.is_locked("n").unwrap())
    });
    lock
}

fn end_sessions(server: &PostgresServer, database: &str) {
    server.sql(&format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
         WHERE datname = '{database}' AND application_name LIKE 'synlock-%'"
    ));
}

fn readable(fd: RawFd) -> bool {
    let mut polled = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid pollfd; does not wait.
    unsafe { libc::poll(&raw mut polled, 1, 0) == 1 }
}

#[test]
fn the_end_of_a_majoritys_sessions_is_told_without_asking() {
    let (server, urls) = members();
    for (first, second) in [("one", "two"), ("three", "one"), ("two", "three")] {
        let store = quorum(&urls, "cold_start=1");
        let lock = held_on_all(&store, &urls);
        let listened = lock.lost_fd().unwrap();
        end_sessions(&server, first);
        // A majority is still there.
        std::thread::sleep(ms(200));
        assert_eq!(lock.state(), State::Held, "{first}");
        lock.ensure_held().unwrap();
        assert!(!readable(listened), "{first}");
        end_sessions(&server, second);
        until(|| readable(listened));
        assert_eq!(lock.state(), State::Lost, "{first}, {second}");
        assert_eq!(code(lock.ensure_held()), Code::Lost);
        // What the last member still has of it is given back.
        let other = quorum(&urls, "cold_start=1&config=other");
        until(|| {
            other
                .lock("n")
                .unwrap()
                .acquire(Wait::For(ms(500)), None)
                .is_ok()
        });
    }
}

/// Members far away are asked side by side: one that does not answer holds up nobody.
#[test]
fn a_member_that_is_silent_holds_up_nobody() {
    let (server, urls) = members();
    for at in 0..3 {
        let proxy = Proxy::start(server.port());
        let mut urls = urls.clone();
        let port = |number: u16| format!(":{number}/");
        urls[at] = urls[at].replace(&port(server.port()), &port(proxy.port()));
        urls[at] = urls[at].replace("io_timeout=20000", "io_timeout=3600000");
        let store = quorum(&urls, "cold_start=1");
        let known = store.lock(format!("known {at}")).unwrap();
        known.acquire(PATIENCE, None).unwrap();
        known.release().unwrap();
        // Of another name: the last of the three may still be on its way.
        let lock = store.lock(format!("silent {at}")).unwrap();
        proxy.fail(1, Fault::Silence);
        let turn = std::thread::spawn(move || {
            lock.acquire(Wait::No, None).unwrap();
            lock.ensure_held().unwrap();
            lock.release().unwrap();
        });
        until(|| turn.is_finished());
        turn.join().unwrap();
        proxy.heal();
    }
}

/// Asks until it is granted, of a server that came up after `began`: not before its `max_ttl` is over.
fn is_cold_at_first(store: &Store, began: Instant, what: &str) {
    let lock = store.lock("cold").unwrap();
    let refused = lock.acquire(Wait::No, None);
    match refused {
        Ok(_) => assert!(
            began.elapsed() >= MAX_TTL,
            "{what} may have forgotten, and voted"
        ),
        Err(error) => {
            assert_eq!(error.code(), Code::Unavailable, "{what}: {error}");
            let is_cold = error.message().contains("has been up");
            assert!(is_cold || began.elapsed() >= MAX_TTL, "{what}: {error}");
            until(|| lock.acquire(Wait::No, None).is_ok());
        }
    }
    lock.release().unwrap();
}

/// Whoever holds by a member that has come up anew has lost it there, and has until then to hear of it.
#[test]
fn a_member_that_has_forgotten_does_not_vote() {
    let (mut server, [one, two, _]) = members();
    let mut other = MariadbServer::start();
    let urls = [one, two, crate::mysql(&other)];
    let store = quorum(&urls, "strategy=unanimous&max_ttl=6000");
    until(|| store.lock("warm").unwrap().acquire(Wait::No, None).is_ok());
    let began = Instant::now();
    other.kill();
    other.start_again();
    is_cold_at_first(&store, began, "a MariaDB");
    let began = Instant::now();
    server.kill();
    server.start_again();
    is_cold_at_first(&store, began, "a PostgreSQL");
    let began = Instant::now();
    // The server goes on, without what any session had.
    let pid = server.sql("SELECT min(pid) FROM pg_stat_activity WHERE datname = 'one'");
    // SAFETY: of a process of ours.
    unsafe { libc::kill(pid.parse().unwrap(), libc::SIGKILL) };
    until(|| store.ping(Wait::For(ms(500))).is_ok());
    is_cold_at_first(&store, began, "a PostgreSQL whose session crashed");
}
