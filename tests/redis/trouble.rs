//! A server that is down, deaf or full, that refuses, and that answers oddly.

use crate::{code, lock, ms, try_code};
use std::time::Instant;
use synlock_core::{Code, LockOptions, Store, Wait};
use synlock_tests::load::SOON;
use synlock_tests::process::is_full_load;
use synlock_tests::redis::{Options, RedisServer};
use synlock_tests::services::free_port;
use synlock_tests::services::redis_fake::{Act, Fake};

#[test]
fn a_server_that_is_down_or_deaf_is_unavailable_in_time() {
    let down = format!("redis://127.0.0.1:{}?io_timeout=300", free_port());
    assert_eq!(try_code(&down), Code::Unavailable);
    let mute = Fake::start(Act::Mute);
    let url = format!("{}?io_timeout=300", mute.url("redis"));
    assert_eq!(try_code(&url), Code::Unavailable);
    // The caller's own deadline counts, if it is nearer.
    let start = Instant::now();
    let url = format!("{}?io_timeout=60000", mute.url("redis"));
    let result = lock(&url, "x").acquire(Wait::For(ms(200)), None);
    assert!(
        result.is_err() && start.elapsed() < SOON,
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_server_that_is_deaf_keeps_no_other_leases_from_being_renewed() {
    let well = RedisServer::start();
    let store = Store::open(&well.url()).unwrap();
    // More than once: the machine may stand still for as long as the lease.
    let is_kept = |round: u32| {
        let deaf = RedisServer::start();
        let url = format!("{}?io_timeout=8000", deaf.url());
        // Released before the server is deaf: there is a connection that nobody uses.
        let its_store = Store::open(&url).unwrap();
        let first = its_store.lock("a").unwrap();
        first.acquire(Wait::No, None).unwrap();
        first.release().unwrap();
        deaf.pause();
        // The release of what may have been granted waits for an answer, in the background.
        let refused = its_store.lock("b").unwrap();
        let refused = code(refused.acquire(Wait::For(ms(50)), None));
        let mut options = LockOptions::default();
        (options.ttl, options.renew) = (Some(ms(3000)), Some(true));
        let held = store.lock_with(format!("c{round}"), options).unwrap();
        held.acquire(Wait::No, None).unwrap();
        std::thread::sleep(ms(4500));
        let is_held = held.ensure_held().is_ok();
        deaf.resume();
        refused == Code::Uncertain && is_held
    };
    assert!((0..3).any(is_kept));
}

#[test]
fn passwords_are_asked_for_and_checked() {
    let server = RedisServer::start_with(Options {
        password: Some("secret".into()),
        ..Options::default()
    });
    assert_eq!(try_code(&server.url()), Code::Ok);
    for user in ["", ":wrong@", "nobody:secret@"] {
        let url = format!("redis://{user}127.0.0.1:{}", server.port());
        let error = lock(&url, "x").try_acquire().unwrap_err();
        assert_eq!(error.code(), Code::Permission, "{error:?}");
        assert!(!format!("{error:?}").contains("wrong"), "{error:?}");
    }
}

#[test]
fn a_server_that_cannot_write_is_unavailable_not_busy() {
    let server = RedisServer::start();
    let held = lock(&server.url(), "held");
    held.try_acquire().unwrap();
    assert_eq!(server.command(&["CONFIG", "SET", "maxmemory", "1"]), "OK");
    assert_eq!(try_code(&server.url()), Code::Unavailable);
    // What is held can be given back all the same.
    held.release().unwrap();
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    server.command(&["REPLICAOF", "127.0.0.1", "1"]);
    assert_eq!(try_code(&server.url()), Code::Unavailable);
    server.command(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(try_code(&server.url()), Code::Ok);
}

#[test]
fn odd_replies_are_errors_in_time() {
    let fake = Fake::start(Act::Mute);
    let url = format!("{}?io_timeout=300", fake.url("redis"));
    let say = |text: &str| Act::Say(text.as_bytes().to_vec());
    for (act, expected) in [
        (say("-LOADING Redis is loading\r\n"), Code::Unavailable),
        (say("-NOPERM no rights\r\n"), Code::Permission),
        (say("-ERR something new\r\n"), Code::Protocol),
        (say("HTTP/1.1 400 Bad Request\r\n"), Code::Protocol),
        (say("*2\r\n+what\r\n+ever\r\n"), Code::Protocol),
        (say(":0\r\n"), Code::Protocol),
        (say(":-1\r\n"), Code::Protocol),
        (say("$99999999999\r\n"), Code::Protocol),
        (say("*1048577\r\n"), Code::Protocol),
        (say("*2\r\n:1\r\n"), Code::Uncertain),
        (Act::SayAndClose(b"*2\r\n:1".to_vec()), Code::Uncertain),
        (Act::SayAndClose(Vec::new()), Code::Uncertain),
        (
            Act::Endless(b"$16777216\r\n".to_vec(), vec![b'x'; 4096]),
            Code::Protocol,
        ),
        (
            Act::Endless(b"+".to_vec(), vec![b'x'; 4096]),
            Code::Protocol,
        ),
        (Act::Endless(Vec::new(), b"*1\r\n".to_vec()), Code::Protocol),
    ] {
        fake.set(act.clone());
        assert_eq!(try_code(&url), expected, "{:.60}", format!("{act:?}"));
    }
}

#[test]
fn noise_never_hangs_nor_panics() {
    let fake = Fake::start(Act::Mute);
    let url = format!("{}?io_timeout=20", fake.url("redis"));
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below
    };
    let seeds: [&[u8]; 4] = [
        b"*2\r\n:1\r\n$16\r\n1732443000000001\r\n",
        b"*2\r\n:0\r\n:1500\r\n",
        b"-NOSCRIPT No matching script\r\n",
        b"$-1\r\n",
    ];
    let handle = lock(&url, "noise");
    for _ in 0..if is_full_load() { 50_000 } else { 400 } {
        let mut bytes = seeds[random(4)].to_vec();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 => bytes[at] ^= 1 << random(8),
                2 => bytes.insert(at, b"+-:$*0123456789\r\n"[random(17)]),
                _ => bytes.truncate(at + 1),
            }
        }
        fake.set(Act::SayAndClose(bytes.clone()));
        let start = Instant::now();
        if let Ok(Some(_)) = handle.try_acquire() {
            let _ = handle.release();
            let _ = handle.abandon();
        } else {
            let _ = handle.abandon();
        }
        assert!(start.elapsed() < SOON, "{:?}", bytes.escape_ascii());
    }
}
