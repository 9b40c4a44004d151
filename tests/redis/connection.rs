//! The connection to a server: its names, its options, and what a hold comes to when it makes trouble.

use crate::{code, leased, lock, ms, try_code};
use std::net::TcpStream;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::time::Duration;
use synlock_core::{Code, Store, Wait};
use synlock_tests::load::SOON;
use synlock_tests::process::{is_full_load, nanos};
use synlock_tests::redis::{Options, RedisServer};
use synlock_tests::services::deaf::deaf_to;
use synlock_tests::services::redis_fake::{Fault, Proxy};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn valkeys_schemes_are_names_of_the_same_stores() {
    let server = RedisServer::start_with(Options {
        tls: cfg!(feature = "redis-tls"),
        ..Options::default()
    });
    let mut urls = vec![server.url(), server.socket_url()];
    if cfg!(feature = "redis-tls") {
        urls.push(server.tls_url());
    }
    for (round, url) in urls.into_iter().enumerate() {
        let valkey = url.replacen("redis", "valkey", 1);
        assert_ne!(valkey, url);
        let name = format!("n{round}");
        let (one, other) = (lock(&url, &name), lock(&valkey, &name));
        one.try_acquire().unwrap().unwrap();
        assert!(other.try_acquire().unwrap().is_none(), "{valkey}");
        one.release().unwrap();
        other.acquire(Wait::For(SOON), None).unwrap();
        assert!(one.try_acquire().unwrap().is_none(), "{valkey}");
        other.release().unwrap();
    }
}

#[test]
fn connections_have_a_name_where_the_server_allows_it() {
    let server = RedisServer::start();
    let one = lock(&server.url(), "n");
    one.try_acquire().unwrap().unwrap();
    let name = format!("name=synlock-{} ", std::process::id());
    let clients = server.command(&["CLIENT", "LIST"]);
    assert_eq!(clients.matches(&name).count(), 1, "{clients}");
    assert_eq!(server.calls("client|setname"), 1);
    one.release().unwrap();
    // Without the right to, it works without a name.
    let rules = ["ACL", "SETUSER", "default", "-client|setname"];
    assert_eq!(server.command(&rules), "OK");
    assert_eq!(
        try_code(&format!("{}?prefix=apart:", server.url())),
        Code::Ok
    );
}

/// The sockets of this process whose other end is this port.
fn sockets_to(port: u16) -> Vec<TcpStream> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let sockets = numbers.filter_map(|fd| {
        // SAFETY: a descriptor that was open a moment ago; one that is closed since cannot be cloned.
        let owned = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned();
        Some(TcpStream::from(owned.ok()?))
    });
    sockets
        .filter(|socket| socket.peer_addr().is_ok_and(|peer| peer.port() == port))
        .collect()
}

#[test]
fn requests_are_not_held_back_for_more() {
    let server = RedisServer::start();
    // One connection for requests, and one on which wake-ups come.
    let (one, other) = (lock(&server.url(), "n"), lock(&server.url(), "n"));
    one.try_acquire().unwrap().unwrap();
    assert_eq!(code(other.acquire(Wait::For(ms(50)), None)), Code::Timeout);
    let sockets = sockets_to(server.port());
    assert!(sockets.len() >= 2, "{sockets:?}");
    for socket in sockets {
        assert!(socket.nodelay().unwrap(), "{socket:?}");
    }
    one.release().unwrap();
}

#[test]
fn nobody_waits_longer_than_asked_behind_another_that_subscribes() {
    let server = RedisServer::start();
    let (port, heard) = deaf_to(b"SUBSCRIBE", server.port());
    let holder = lock(&server.url(), "n");
    holder.try_acquire().unwrap().unwrap();
    let store = Store::open(&format!("redis://127.0.0.1:{port}?io_timeout=10000")).unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let found = code(store.lock("n").unwrap().acquire(Wait::Forever, None));
            is_over.store(true, SeqCst);
            assert_eq!(found, Code::Unavailable);
        });
        while heard.load(SeqCst) == 0 {
            std::thread::sleep(ms(1));
        }
        let found = code(store.lock("n").unwrap().acquire(Wait::For(ms(50)), None));
        assert_eq!(found, Code::Timeout);
        assert!(
            !is_over.load(SeqCst),
            "it waited for the other's subscription"
        );
    });
}

#[test]
fn a_hold_outlives_replies_that_are_trouble() {
    let server = RedisServer::start();
    let proxy = Proxy::start(server.port());
    let held = leased(&proxy.url(), "n", MINUTE);
    let other = lock(&server.url(), "n");
    held.try_acquire().unwrap().unwrap();
    for (fault, expected) in [
        (
            Fault::Reply(b"-LOADING Redis is loading\r\n"),
            Code::Unavailable,
        ),
        (Fault::Reply(b"-READONLY a replica\r\n"), Code::Unavailable),
        (
            Fault::Reply(b"-OOM command not allowed\r\n"),
            Code::Unavailable,
        ),
        (Fault::Reply(b"-ERR something new\r\n"), Code::Protocol),
        (Fault::Reply(b"$99999999999\r\n"), Code::Protocol),
        (Fault::LastWords(b"*2\r\n:1"), Code::Uncertain),
        (Fault::Cut, Code::Uncertain),
    ] {
        proxy.fail(1, fault);
        let found = code(held.refresh(None));
        // A request that is asked again on another connection, and finds itself carried out, is made good.
        let is_made_good = expected == Code::Uncertain && found == Code::Ok;
        assert!(found == expected || is_made_good, "{fault:?}: {found:?}");
        assert!(proxy.has_lost(), "{fault:?}");
        held.ensure_held().unwrap();
        held.refresh(None).unwrap();
        assert!(other.try_acquire().unwrap().is_none(), "{fault:?}");
    }
    held.release().unwrap();
    other.acquire(Wait::For(SOON), None).unwrap();
    other.release().unwrap();
}

#[test]
fn forgotten_scripts_are_nobodys_trouble() {
    let server = RedisServer::start();
    let (ends, pairs) = (AtomicBool::new(false), AtomicU32::new(0));
    let (time, pause) = if is_full_load() {
        (MINUTE, ms(200))
    } else {
        (ms(600), ms(20))
    };
    std::thread::scope(|scope| {
        for thread in 0..4 {
            // Two of them meet at each name.
            let lock = leased(&server.url(), &format!("n{}", thread / 2), MINUTE);
            let (ends, pairs) = (&ends, &pairs);
            scope.spawn(move || {
                while !ends.load(SeqCst) {
                    lock.acquire(Wait::For(SOON), None).unwrap();
                    lock.refresh(None).unwrap();
                    lock.release().unwrap();
                    pairs.fetch_add(1, SeqCst);
                }
            });
        }
        let begun = nanos();
        let mut flushes = 0;
        let spent = || Duration::from_nanos(nanos() - begun);
        while spent() < time || (spent() < SOON && pairs.load(SeqCst) < 100) {
            assert_eq!(server.command(&["SCRIPT", "FLUSH"]), "OK");
            flushes += 1;
            std::thread::sleep(pause);
        }
        ends.store(true, SeqCst);
        assert!(flushes >= 5, "{flushes} times");
    });
    assert!(pairs.into_inner() >= 100);
}
